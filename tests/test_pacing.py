import concurrent.futures
import itertools
import threading
import time
from types import SimpleNamespace

import pytest

from koodrive_nb import pacing


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only in sleep(), and `before_waking`, which happens during the next one."""

    def sleep(seconds):
        assert seconds > 0
        wakes = fake.now + seconds
        meanwhile, fake.before_waking = fake.before_waking, lambda: None
        meanwhile()
        fake.now = max(fake.now, wakes)

    fake = SimpleNamespace(
        now=1000.0, monotonic=lambda: fake.now, sleep=sleep, before_waking=lambda: None
    )
    monkeypatch.setattr(pacing, "time", fake)
    monkeypatch.setattr(pacing, "_FIRST_PAUSE_S", 1.0)
    return fake


@pytest.fixture
def pace(clock):
    return pacing.Pace()


def accept(pace, count):
    turns = []
    for _ in range(count):
        turns.append(pace.wait())
        pace.accept()
    return turns


def gaps(turns):
    return [later - earlier for earlier, later in itertools.pairwise(turns)]


def test_nothing_waits_before_the_first_refusal(pace, clock):
    assert set(accept(pace, 5000)) == {1000.0}
    assert clock.now == 1000.0


def test_a_turn_is_when_the_wait_ends(pace, clock):
    pace.refuse(pace.wait(), 3.0)
    assert pace.wait() == clock.now == 1003.0


@pytest.mark.parametrize(
    ("asked_s", "waited_s"), [(0.75, 0.75), (2.0, 2.0), (60.0, 60.0), (61.0, 60.0), (1e9, 60.0)]
)
def test_what_the_service_asks_to_wait_is_waited_up_to_a_minute(pace, clock, asked_s, waited_s):
    accept(pace, 10)
    pace.refuse(pace.wait(), asked_s)
    assert pace.wait() - 1000.0 == pytest.approx(waited_s)


def test_to_be_asked_for_no_pause_at_all_makes_a_short_one(pace, clock):
    accept(pace, 10)
    pace.refuse(pace.wait(), 0.0)
    assert pace.wait() == 1000.5


@pytest.mark.parametrize("repeated", range(1, 9))
def test_pauses_double_while_refusals_follow_each_other(pace, clock, repeated):
    highest = min(60.0, 2.0 ** (repeated - 1))
    for _ in range(repeated):
        before = clock.now
        pace.refuse(before, None)
        # As if the next turn came just then.
        clock.now = before + highest
    assert highest / 2 <= pace._held_until - before <= highest


def test_pauses_differ_so_that_clients_do_not_return_together(clock):
    found = set()
    for _ in range(20):
        pace = pacing.Pace()
        pace.refuse(clock.now, None)
        found.add(pace._held_until)
    assert len(found) > 10
    assert max(found) - min(found) > 0.05


def test_an_accepted_request_makes_the_next_pause_short_again(pace, clock):
    for _ in range(6):
        pace.refuse(pace.wait(), None)
    accept(pace, 1)
    turn = pace.wait()
    pace.refuse(turn, None)
    assert 0.5 <= pace._held_until - turn <= 1.0


@pytest.mark.parametrize("refusals", [100, 3000])
def test_a_pause_has_its_bound_after_any_number_of_refusals(pace, clock, refusals):
    for _ in range(refusals):
        clock.now += 60
        pace.refuse(clock.now, None)
        assert pace._held_until - clock.now <= 60.0


def test_a_refusal_holds_back_every_worker(pace, clock):
    accept(pace, 20)
    pace.refuse(pace.wait(), 5.0)
    turns = [pace.wait() for _ in range(8)]
    assert turns[0] == 1005.0
    assert min(turns) >= 1005.0


def test_a_refusal_holds_back_those_that_had_their_turn_already(pace, clock):
    accept(pace, 10)
    pace.refuse(pace.wait(), 1.0)
    other = pace.wait()
    # This worker sleeps towards its turn while the other one is refused.
    clock.before_waking = lambda: pace.refuse(other, 30.0)
    held_since = clock.now
    assert pace.wait() >= held_since + 30.0


def test_those_asleep_at_a_refusal_and_those_who_come_share_the_new_pace(pace, clock):
    accept(pace, 10)
    pace.refuse(pace.wait(), 1.0)
    accept(pace, 8)
    turns = []

    def come(asleep):
        clock.before_waking = (lambda: come(asleep - 1)) if asleep else refused
        turns.append(pace.wait())

    def refused():
        pace.refuse(clock.now, 0.0)
        turns.extend(pace.wait() for _ in range(6))

    come(6)
    assert len(turns) == 13
    assert min(gaps(sorted(turns))) > 0.1


def test_one_that_is_held_back_again_and_again_goes_out_last(pace, clock):
    pace.refuse(pace.wait(), 1.0)
    left = [4, 3, 2]

    def refuse_again():
        pace.refuse(pace._held_until, left.pop())
        if left:
            clock.before_waking = refuse_again

    clock.before_waking = refuse_again
    assert pace.wait() >= pace._held_until
    assert left == []


def test_refusals_that_were_under_way_together_count_once(pace, clock):
    turns = accept(pace, 10)
    turns = [pace.wait() for _ in range(8)]
    clock.now += 0.5
    pace.refuse(turns[0], 2.0)
    once = dict(vars(pace))
    for turn in turns[1:]:
        clock.now += 0.01
        pace.refuse(turn, 40.0)
    assert vars(pace) == once
    assert pace.wait() == 1002.5


def test_a_refusal_after_the_pause_counts_anew(pace, clock):
    accept(pace, 10)
    pace.refuse(pace.wait(), 2.0)
    pace.refuse(pace.wait(), 7.0)
    assert pace.wait() == 1009.0


@pytest.mark.parametrize("taken", [2, 5, 10, 50, 400])
def test_the_pace_after_a_refusal_is_below_what_was_taken(pace, clock, taken):
    accept(pace, taken)
    pace.refuse(pace.wait(), 1.0)
    turns = [pace.wait() for _ in range(2 * taken)]
    first = [turn for turn in turns if turn < turns[0] + 1]
    assert turns[0] == 1001.0
    assert 1 < len(first) <= taken
    assert min(gaps(first)) > 1 / taken
    assert gaps(turns)[0] == pytest.approx(1 / (0.8 * taken))


def test_only_what_was_taken_within_a_second_sets_the_pace(pace, clock):
    accept(pace, 300)
    clock.now += 1.5
    accept(pace, 10)
    pace.refuse(pace.wait(), 1.0)
    assert gaps([pace.wait(), pace.wait()]) == pytest.approx([1 / 8])


@pytest.mark.parametrize("refusals", [1, 2, 30])
def test_where_nothing_was_taken_nothing_is_learnt_but_to_wait(pace, clock, refusals):
    for _ in range(refusals):
        pace.refuse(pace.wait(), 1.0)
    assert [pace.wait() for _ in range(5)] == [1000.0 + refusals] * 5


def test_the_pace_never_falls_so_low_that_nothing_comes(pace, clock):
    for _ in range(30):
        accept(pace, 1)
        pace.refuse(pace.wait(), 0.0)
    assert 1.0 < max(gaps([pace.wait() for _ in range(5)])) < 10.0


def test_a_second_refusal_never_raises_the_pace(pace, clock):
    accept(pace, 10)
    pace.refuse(pace.wait(), 1.0)
    before = accept(pace, 9)
    pace.refuse(pace.wait(), 1.0)
    after = [pace.wait() for _ in range(5)]
    assert min(gaps(after)) > max(gaps(before))


@pytest.mark.parametrize("taken", [2, 10, 50])
def test_the_pace_climbs_back_while_requests_are_accepted(pace, clock, taken):
    accept(pace, taken)
    pace.refuse(pace.wait(), 1.0)
    found = gaps(accept(pace, 60 * taken))
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(found))
    assert found[0] == pytest.approx(1 / (0.8 * taken))
    assert found[-1] < 1 / (2 * taken)
    # Slowly at first: it has no jump.
    assert max(earlier - later for earlier, later in itertools.pairwise(found)) < found[0] / 5


def test_a_pace_grows_without_end_or_error_and_falls_again(pace, clock):
    accept(pace, 10)
    pace.refuse(pace.wait(), 1.0)
    clock.now += 1e9
    assert max(gaps(accept(pace, 1000))) < 1e-3
    clock.now += 2
    accept(pace, 10)
    clock.now += 0.5
    pace.refuse(pace.wait(), 1.0)
    assert gaps([pace.wait(), pace.wait()]) == pytest.approx([1 / 8], rel=1e-3)


def test_a_service_with_a_limit_is_soon_asked_within_it(pace, clock):
    limit_per_s, left, refused = 10.0, 10.0, []
    at = clock.now
    for number in range(600):
        turn = pace.wait()
        left = min(limit_per_s, left + (turn - at) * limit_per_s)
        at = turn
        if left < 1:
            refused.append(number)
            pace.refuse(turn, None)
        else:
            left -= 1
            pace.accept()
        clock.now += 0.001
    assert 0 < len(refused) < 20
    # At best a minute for the six hundred: the pace is not far below the limit either.
    assert 50 < clock.now - 1000.0 < 100


def test_threads_wait_together_and_go_out_one_after_the_other():
    pace = pacing.Pace()
    for _ in range(100):
        pace.accept()
    pace.refuse(time.monotonic(), 0.1)
    held_until = pace._held_until
    start = threading.Barrier(8, timeout=10)

    def go(_):
        start.wait()
        return pace.wait(), time.monotonic()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = sorted(pool.map(go, range(8)))
    assert found[0][0] == pytest.approx(held_until)
    assert min(gaps([turn for turn, _ in found])) > 0.01
    assert all(woken >= turn - 0.001 for turn, woken in found)
