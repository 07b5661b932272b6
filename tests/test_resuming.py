"""What is kept where part of a fetch fails, and how it goes on from there."""

import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pandas as pd
import pytest

import koodrive_nb as kd

BASE = "/koodrive/ose/v1/backup"
MANY = [f"{number:03}" for number in range(500)]


def record(identity, module="101"):
    return {"recordId": identity, "moduleCode": module, "deviceInfo": {"deviceId": "9"}}


def paths(service):
    return Counter(asked.path.rpartition("/")[2] for asked in service.asked)


def failing(service, is_hit):
    """Give a service's own failure for the questions that are hit."""
    return lambda asked: service.Answer(b"", 503) if is_hit(asked) else None


def cursors(service):
    return [asked.query.get("cursor") for asked in service.asked]


def incomplete(ask, *arguments, **options):
    with pytest.raises(kd.IncompleteError) as caught:
        ask(*arguments, **options)
    return caught.value


REFUSALS = {"credentials": (401, {"code": 401}, 1), "many in a row": (503, b"", 5)}


@pytest.mark.parametrize("reason", REFUSALS)
def test_where_all_would_fail_few_are_asked_and_the_reason_is_raised(service, connected, reason):
    status, body, attempts = REFUSALS[reason]
    service.says(body, status)
    with pytest.raises(kd.ServiceError) as refused:
        connected.records_by_id(MANY)
    assert refused.value.status == status
    assert len(service.asked) <= 20 * attempts


@pytest.mark.parametrize("reason", REFUSALS)
def test_what_would_fail_likewise_is_not_asked_and_asked_when_it_goes_on(
    service, connected, reason
):
    status, body, attempts = REFUSALS[reason]
    taken = 60
    rows = [record(each) for each in MANY]
    service.serve(rows)
    ids = [*reversed(MANY), MANY[3]]
    undisturbed = connected.records_by_id(ids)
    service.asked.clear()

    refusal = service.Answer(body, status)
    service.serve(rows, first=lambda asked: refusal if len(service.asked) > taken else None)
    error = incomplete(connected.records_by_id, ids)
    assert taken < len(service.asked) <= taken + 20 * attempts
    came = set(error.frame["record_id"])
    assert 0 < len(came) <= taken
    lost = [each for each in dict.fromkeys(ids) if each not in came]
    assert list(error.failures["what"]) == [f"record {each}" for each in lost]
    assert "stopped, because others failed" in set(error.failures["error"])
    assert error.failures.loc[error.failures["error"].str.startswith("stopped"), "retryable"].all()

    service.asked.clear()
    service.serve(rows)
    pd.testing.assert_frame_equal(error.resume(), undisturbed)
    assert paths(service) == dict.fromkeys(lost, 1)


def test_failures_between_successes_end_nothing(service, connected):
    lost = service.Answer(b"", 404)
    service.serve([record(each) for each in MANY])
    service_answer = service.answer
    service.answer = lambda asked: lost if int(asked.path[-3:]) % 3 else service_answer(asked)
    error = incomplete(connected.records_by_id, MANY)
    assert list(error.frame["record_id"]) == MANY[::3]
    assert len(service.asked) == len(MANY)


@pytest.mark.parametrize("kind", ["ids", "listing"])
def test_what_fails_again_can_go_on_again(service, connected, kind):
    rows = [record(each) for each in "12345"]
    broken = {"3", "4"}

    def is_hit(asked):
        return asked.query.get("cursor", asked.path.rpartition("/")[2]) in broken

    service.serve(rows, first=failing(service, is_hit), per_page=1)

    def ask():
        if kind == "ids":
            return connected.records_by_id([*"54321"])
        return connected.records(module="101")

    error = incomplete(ask)
    broken.discard("3")
    again = incomplete(error.resume)
    broken.clear()
    whole = again.resume()
    assert list(whole["record_id"]) == [*("54321" if kind == "ids" else "12345")]
    assert len(error.frame) < len(again.frame) < len(whole)
    pd.testing.assert_frame_equal(whole, ask())


@pytest.mark.parametrize("calls", [["records", "album"], ["records_by_id", ["2", "1"]]])
def test_an_error_that_went_on_gives_the_same_frame_again(service, connected, calls):
    broken = [True]

    def is_hit(asked):
        return broken and (asked.query.get("cursor") == "1" or asked.path.endswith("/2"))

    service.serve([record("1"), record("2")], first=failing(service, is_hit), per_page=1)
    error = incomplete(getattr(connected, calls[0]), calls[1])
    broken.clear()
    whole = error.resume()
    assert len(whole) == 2
    again = error.resume()
    times = ["fetched_at"]
    pd.testing.assert_frame_equal(again.drop(columns=times), whole.drop(columns=times))


def test_an_interrupted_resume_does_not_disturb_the_next_one(service, connected, monkeypatch):
    held, broken = threading.Event(), [True]

    def first(asked):
        if asked.query.get("cursor") != "1":
            return None
        if broken:
            return service.Answer(b"", 400)
        held.wait(0.5)
        return None

    service.serve([record("1"), record("2"), record("3")], first=first, per_page=1)
    error = incomplete(connected.records)
    broken.clear()

    def interrupt():
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("koodrive_nb.workers._wait", lambda *arguments: interrupt())
        with pytest.raises(KeyboardInterrupt):
            error.resume()
    held.set()
    assert list(error.resume()["record_id"]) == ["1", "2", "3"]


def test_rows_say_when_they_came_not_when_the_fetch_began(service):
    now = [pd.Timestamp("2026-01-01T00:00Z").to_pydatetime()]
    broken = [True]
    hit = failing(service, lambda asked: broken and asked.query.get("cursor") == "1")
    service.serve([record("1"), record("2")], first=hit, per_page=1)
    with service.connect(clock=lambda: now[0]) as client:
        error = incomplete(client.records)
        broken.clear()
        now[0] = pd.Timestamp("2026-01-03T00:00Z").to_pydatetime()
        frame = error.resume()
    assert list(frame["fetched_at"].dt.day) == [1, 3]


@pytest.fixture
def half_done(service, connected):
    """Give an error of user 42 whose second page is still missing."""
    broken = [True]
    service.serve(
        [record(each) for each in "1234"],
        first=failing(service, lambda asked: "cursor" in asked.query and broken),
        per_page=2,
    )
    error = incomplete(connected.records, module="101")
    broken.clear()
    return error


def test_an_error_from_another_process_needs_a_client_and_goes_on_with_one(service, half_done):
    error = pickle.loads(pickle.dumps(half_done))
    assert str(error) == str(half_done)
    pd.testing.assert_frame_equal(error.frame, half_done.frame)
    pd.testing.assert_frame_equal(error.failures, half_done.failures)
    with pytest.raises(kd.InvalidParameterError, match=r"error\.resume\(kd\.connect\(\)\)"):
        error.resume()
    with service.connect() as client:
        assert list(error.resume(client)["record_id"]) == [*"1234"]


def test_an_error_goes_on_with_an_app_that_acts_for_its_user(service, half_done):
    service.asked.clear()
    app = kd.AppAuth("a378331e", "5e1c0ffee")
    with service.connect(auth=app, user_id="43") as client:
        whole = half_done.resume(client)
    assert set(whole["user_id"]) == {"42"}
    assert {asked.headers["X-User-Id"] for asked in service.asked} == {"42"}


def test_an_error_does_not_go_on_with_another_user_or_service(service, client, half_done):
    service.asked.clear()
    with service.connect(user_id="43") as other:
        for wrong in (other, client):
            with pytest.raises(kd.InvalidParameterError, match="user 42 at the live service"):
                half_done.resume(wrong)
    assert service.asked == []


def test_a_listing_goes_on_at_the_page_where_it_failed(service, connected):
    broken = {"4"}
    service.serve(
        [record(each) for each in "1234567"],
        first=failing(service, lambda asked: asked.query.get("cursor") in broken),
        per_page=2,
    )
    error = incomplete(connected.records)
    assert list(error.frame["record_id"]) == [*"1234"]
    assert kd.ledger(error.frame)["ended"].tolist() == ["no cursor", "ServerError", "no cursor"]
    broken.clear()
    service.asked.clear()
    whole = error.resume()
    assert [asked.query["moduleCode"] for asked in service.asked] == ["101", "101"]
    assert cursors(service) == ["4", "6"]
    pd.testing.assert_frame_equal(whole, connected.records())
    assert kd.ledger(whole)["pages"].tolist() == [1, 4, 1]
    assert kd.ledger(whole).attrs["failures"] == []


@pytest.mark.parametrize("fails_with", [503, "not json"])
def test_a_listing_whose_cursor_is_worthless_by_now_begins_again(service, connected, fails_with):
    seal = "a"

    def answer(asked):
        given = asked.query.get("cursor", f"{seal}0")
        start = int(given[1:])
        if start and broken:
            return service.Answer(b"<html>", 200 if fails_with == "not json" else fails_with)
        if given[0] != seal:
            return service.Answer({"code": 13000102, "msg": "Parameter: cursor"}, 400)
        rows = [record(f"{start}"), record(f"{start + 1}")]
        following = "" if start == 4 else f"{seal}{start + 2}"
        return service.Answer({"code": 0, "data": rows, "nextCursor": following})

    broken, service.answer = True, answer
    error = incomplete(connected.records, module="101")
    assert list(error.frame["record_id"]) == ["0", "1"]
    broken, seal = False, "b"
    service.asked.clear()
    whole = error.resume()
    assert cursors(service)[-3:] == [None, "b2", "b4"]
    assert list(whole["record_id"]) == [*"012345"]
    assert kd.ledger(whole)[["pages", "rows", "duplicates"]].to_numpy().tolist() == [[3, 6, 0]]


def test_a_token_that_expires_in_the_middle_costs_nothing(service):
    numbers = itertools.count()
    valid, accepted = "", itertools.count()

    def give():
        nonlocal valid
        valid = f"token-{next(numbers)}"
        return valid

    def expire(asked):
        nonlocal valid
        if asked.headers["Authorization"] != f"Bearer {valid}":
            return service.Answer({"code": 401}, 401)
        if next(accepted) % 3 == 2:
            valid = "expired"
        return None

    service.serve([record(each) for each in MANY[:40]], first=expire, per_page=2)
    with service.connect(auth=kd.TokenAuth(give)) as client:
        frame = client.records(module="101")
    assert list(frame["record_id"]) == MANY[:40]
    assert kd.ledger(frame)[["pages", "rows", "duplicates"]].to_numpy().tolist() == [[20, 40, 0]]
    assert next(numbers) == 7


def test_a_thousand_failures_make_a_short_error(service, connected):
    service.serve([record("1")])
    error = incomplete(connected.records_by_id, ["1", *(f"x{number}" for number in range(1000))])
    assert len(error.failures) == 1000
    assert "and 997 more" in str(error)
    assert max(len(str(error)), len(repr(error))) < 1500


def run_until_asked_then_interrupt(service, call):
    """Run a script in another process, interrupt it in its first request, and time its end."""
    script = f"import koodrive_nb as kd\nwith kd.connect() as client:\n    client.{call}\n"
    settings = {"ENDPOINT": service.endpoint, "USER_ID": "42", "TOKEN": "test-token-0123456789"}
    environment = os.environ | {f"KOODRIVE_{name}": value for name, value in settings.items()}
    with subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            deadline = time.monotonic() + 30
            while not service.asked and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.2)
            assert process.poll() is None
            started = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=10)
            return time.monotonic() - started, told, process.returncode
        finally:
            process.kill()


@pytest.mark.parametrize("call", ["records()", "devices()", "records_by_id(map(str, range(99)))"])
@pytest.mark.parametrize("status", [None, 503, 429], ids=["hangs", "fails", "throttles"])
def test_ctrl_c_ends_a_fetch_at_once(service, call, status):
    over = threading.Event()

    def answer(asked):
        if status is None:
            over.wait(30)
        return service.Answer(b"", status or 200, {"Retry-After": "30"})

    service.answer = answer
    try:
        seconds, told, code = run_until_asked_then_interrupt(service, call)
    finally:
        over.set()
    assert seconds < 2
    assert told.rstrip().endswith("KeyboardInterrupt")
    assert code == -signal.SIGINT
