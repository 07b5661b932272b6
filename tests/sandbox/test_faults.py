import concurrent.futures
import http.client
import json
import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import requests

import koodrive_nb as kd
from koodrive_nb.sandbox import faults

BASE = "/koodrive/ose/v1/backup"
LISTING = "record?moduleCode=102&pageSize=10"
RECORD = "record/1842862763295184641"
DEVICE = "1775406005920779393"
Fault = kd.sandbox.Fault


@pytest.fixture(scope="module")
def start():
    """Start services that misbehave as told; all stop together, as each takes a while to."""
    running = []

    def started(*planned, **options):
        running.append(kd.sandbox.Sandbox(faults=planned, **options).start())
        return running[-1]

    yield started
    with concurrent.futures.ThreadPoolExecutor(len(running)) as pool:
        list(pool.map(kd.sandbox.Sandbox.stop, running))


@pytest.fixture(scope="module")
def sound():
    with kd.sandbox.Sandbox() as running:
        yield running


def ask(sandbox, target=RECORD, *, token=None, ahead_s=-2.0):
    at = datetime.now(UTC) + timedelta(seconds=ahead_s)
    headers = {
        "Authorization": f"Bearer {token or sandbox.token}",
        "X-User-Id": kd.sandbox.DEFAULT_USER,
        "X-Date": f"{at:%Y%m%dT%H%M%SZ}",
    }
    return requests.get(f"{sandbox.endpoint}{BASE}/{target}", headers=headers, timeout=10)


def follow(sandbox, listing=LISTING, most=200):
    """Follow a listing to its end and give its pages."""
    pages, cursor = [], None
    while cursor != "" and len(pages) < most:
        answer = ask(sandbox, listing if cursor is None else f"{listing}&cursor={cursor}").json()
        pages.append(answer)
        cursor = answer["nextCursor"]
    return pages


def ids_of(pages):
    return [row["recordId"] for page in pages for row in page["data"]]


def statuses(sandbox, target=RECORD, count=5):
    return [ask(sandbox, target).status_code for _ in range(count)]


@pytest.mark.parametrize("kind", ["", "Latency", "timeout", None])
def test_an_unknown_kind_is_refused_with_those_there_are(kind):
    with pytest.raises(ValueError, match=r"choose one of latency, .*token_expiry\.$"):
        Fault(kind)


def test_every_kind_is_in_the_words_that_describe_them():
    assert all(f" {kind}" in Fault.__doc__ for kind in faults._KINDS)


def test_a_service_without_faults_serves_a_hundred_requests_alike(sound):
    before = sound.statuses
    assert {ask(sound).text for _ in range(100)} == {ask(sound).text}
    assert sound.statuses - before == Counter({200: 101})


def test_latency_answers_later(start):
    slow = start(Fault("latency", path="record/", seconds=0.2))
    began = time.monotonic()
    assert ask(slow).status_code == 200
    assert time.monotonic() - began >= 0.2
    began = time.monotonic()
    assert ask(slow, "device").status_code == 200
    assert time.monotonic() - began < 0.2


def test_latency_does_not_hold_up_others(start):
    slow = start(Fault("latency", path="record/", seconds=0.3))
    host = urlsplit(slow.endpoint)
    waiting = http.client.HTTPConnection(host.hostname, host.port, timeout=10)
    began = time.monotonic()
    waiting.request("GET", f"{BASE}/{RECORD}")
    assert ask(slow, "device").status_code == 200
    assert time.monotonic() - began < 0.3
    waiting.getresponse().read()
    assert time.monotonic() - began >= 0.3
    waiting.close()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500, 502, 503, 504])
def test_a_status_is_answered_as_it_is(start, status):
    answer = ask(start(Fault("status", status=status)))
    assert answer.status_code == status
    assert "Retry-After" not in answer.headers
    assert abs(parsedate_to_datetime(answer.headers["Date"]) - datetime.now(UTC)) < timedelta(
        seconds=3
    )


def test_too_many_requests_are_worded_as_the_gateway_does(start):
    answer = ask(start(Fault("status", status=429)))
    assert (answer.status_code, answer.json()["error_code"]) == (429, "APIGW.0308")
    assert "throttling" in answer.json()["error_msg"]


@pytest.mark.parametrize("status", [429, 503])
def test_a_status_can_ask_to_wait_in_seconds_or_until_a_date(start, status):
    sandbox = start(
        Fault("status", path="^record", status=status, retry_after_s=7),
        Fault("status", path="^device", status=status, retry_after_s=90, as_date=True),
    )
    assert ask(sandbox).headers["Retry-After"] == "7"
    headers = ask(sandbox, "device").headers
    until, now = (parsedate_to_datetime(headers[name]) for name in ("Retry-After", "Date"))
    assert timedelta(seconds=89) <= until - now <= timedelta(seconds=91)


def test_to_ask_for_no_wait_at_all_is_possible_too(start):
    assert ask(start(Fault("status", retry_after_s=0))).headers["Retry-After"] == "0"


@pytest.mark.parametrize("code", [13000301, 13000309])
def test_a_code_comes_under_a_status_of_success(start, code):
    answer = ask(start(Fault("code", code=code)))
    assert (answer.status_code, answer.json()["code"]) == (200, code)
    assert "data" not in answer.json()


@pytest.mark.parametrize("kind", ["drop", "truncate"])
@pytest.mark.parametrize("target", [RECORD, LISTING, "device"])
def test_a_connection_closes_after_the_headers_or_in_the_middle(start, sound, kind, target):
    sandbox = start(Fault(kind))
    whole = ask(sound, target).content
    address = urlsplit(sandbox.endpoint)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    headers = {
        "Authorization": f"Bearer {sandbox.token}",
        "X-User-Id": kd.sandbox.DEFAULT_USER,
        "X-Date": f"{datetime.now(UTC) - timedelta(seconds=2):%Y%m%dT%H%M%SZ}",
    }
    connection.request("GET", f"{BASE}/{target}", headers=headers)
    answer = connection.getresponse()
    assert answer.status == 200
    assert int(answer.headers["Content-Length"]) == len(whole)
    with pytest.raises(http.client.IncompleteRead) as caught:
        answer.read()
    connection.close()
    assert caught.value.partial == (b"" if kind == "drop" else whole[: len(whole) // 2])
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        ask(sandbox, target)


def test_a_service_goes_on_after_a_connection_that_it_cut(start):
    sandbox = start(Fault("drop", times=1))
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        ask(sandbox)
    assert statuses(sandbox) == [200] * 5


@pytest.mark.parametrize(
    ("kind", "media"), [("not_json", "application/json"), ("html", "text/html")]
)
def test_something_else_than_json_comes_under_a_status_of_success(start, kind, media):
    answer = ask(start(Fault(kind)))
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].partition(";")[0] == media
    with pytest.raises(requests.exceptions.JSONDecodeError):
        answer.json()


def test_a_cursor_can_come_again_and_again(start):
    pages = follow(start(Fault("repeat_cursor")), most=5)
    assert len(pages) == 5
    assert len({page["nextCursor"] for page in pages}) == 1
    assert all(page["data"] for page in pages)


def test_a_cursor_that_comes_again_once_leads_on_later(start, sound):
    pages = follow(start(Fault("repeat_cursor", times=1)))
    cursors = [page["nextCursor"] for page in pages]
    assert cursors[0] == cursors[1] != cursors[2]
    assert set(ids_of(pages)) == set(ids_of(follow(sound)))


def test_a_page_can_be_empty_though_a_cursor_follows(start):
    pages = follow(start(Fault("empty_page")), most=5)
    assert [page["data"] for page in pages] == [[]] * 5
    assert len({page["nextCursor"] for page in pages}) == 5


def test_a_listing_with_empty_pages_gives_every_record_once(start, sound):
    pages = follow(start(Fault("empty_page", times=1)))
    assert [] in [page["data"] for page in pages]
    assert ids_of(pages) == ids_of(follow(sound))


@pytest.mark.parametrize("size", [1, 2, 5, 10])
def test_a_page_can_be_half_full_though_a_cursor_follows(start, sound, size):
    listing = f"record?moduleCode=102&pageSize={size}"
    pages = follow(start(Fault("short_page")), listing)
    assert {len(page["data"]) for page in pages[:-1]} == {max(1, size // 2)}
    assert ids_of(pages) == ids_of(follow(sound))


def test_rows_can_come_again_on_the_next_page(start, sound):
    found, whole = ids_of(follow(start(Fault("duplicates")))), ids_of(follow(sound))
    assert list(dict.fromkeys(found)) == whole
    assert len(found) > len(whole) == len(set(whole))


@pytest.mark.parametrize(
    "target",
    [
        LISTING,
        "device",
        f"device/{DEVICE}/scope?moduleCode=101",
        f"device/{DEVICE}/configs?moduleCode=101",
        f"{RECORD}/files?pageSize=10",
    ],
)
def test_rows_can_be_unusable(start, sound, target):
    bent, straight = (ask(sandbox, target).json() for sandbox in (start(Fault("misfit")), sound))
    name = "scopeList" if "scope" in target else "data"
    assert len(bent[name]) == len(straight[name]) + 2
    null, nameless = bent[name][-2:]
    assert null is None
    assert not any(key.endswith("Id") for key in nameless)


def test_values_of_every_other_record_can_be_odd(start, sound):
    bent, straight = (
        ask(sandbox, LISTING).json()["data"] for sandbox in (start(Fault("misfit")), sound)
    )
    for number, (odd, row) in enumerate(zip(bent[:-2], straight, strict=True)):
        assert str(odd["recordId"]) == row["recordId"]
        assert (odd == row) is (number % 2 == 0)
    types = {name: type(value) for name, value in bent[1].items()}
    assert (types["recordId"], types["version"], types["properties"]) == (int, str, dict)


@pytest.mark.parametrize(
    "target",
    [LISTING, "device", f"device/{DEVICE}/scope?moduleCode=101", f"{RECORD}/files?pageSize=10"],
)
def test_rows_can_have_fields_that_no_page_documents(start, sound, target):
    more, plain = (
        ask(sandbox, target).json() for sandbox in (start(Fault("unknown_fields")), sound)
    )
    name = "scopeList" if "scope" in target else "data"
    assert plain[name]
    for row, known in zip(more[name], plain[name], strict=True):
        assert row.pop("tier") == {"name": "gold", "level": 3}
        assert row == known


def test_one_record_can_have_fields_that_no_page_documents(start):
    assert "tier" in ask(start(Fault("unknown_fields"))).json()["data"]


def test_unusable_rows_and_unknown_fields_together_are_still_json(start):
    sandbox = start(Fault("misfit"), Fault("unknown_fields"))
    rows = ask(sandbox, LISTING).json()["data"]
    assert None in rows
    assert "tier" in rows[0]


@pytest.mark.parametrize("ahead_s", [-3600, -60, 60, 3600])
def test_a_clock_shifts_the_date_and_the_times_that_are_taken(start, ahead_s):
    sandbox = start(Fault("clock", seconds=ahead_s))
    answer = ask(sandbox, ahead_s=ahead_s - 2)
    assert answer.status_code == 200
    off = parsedate_to_datetime(answer.headers["Date"]) - datetime.now(UTC)
    assert abs(off.total_seconds() - ahead_s) < 3
    for inside in (-14 * 60, -1):
        assert ask(sandbox, ahead_s=ahead_s + inside).status_code == 200
    for outside in (-16 * 60, 30):
        answer = ask(sandbox, ahead_s=ahead_s + outside)
        assert (answer.status_code, answer.json()["code"]) == (400, 400)


def test_a_token_gives_way_after_so_many_accepted_requests(start):
    sandbox = start(Fault("token_expiry", every=3))
    first = sandbox.token
    assert statuses(sandbox, count=2) == [200, 200]
    assert sandbox.token == first
    assert ask(sandbox).status_code == 200
    second = sandbox.token
    assert second != first
    refused = ask(sandbox, token=first)
    assert (refused.status_code, refused.json()["error_code"]) == (401, "APIGW.0301")
    # What was refused does not count.
    assert [ask(sandbox, token=second).status_code for _ in range(3)] == [200] * 3
    assert sandbox.token not in {first, second}
    assert ask(sandbox, token=second).status_code == 401


def test_a_token_without_a_fault_lasts(sound):
    before = sound.token
    assert statuses(sound, count=30) == [200] * 30
    assert sound.token == before


def test_an_app_outlasts_the_token(start):
    sandbox = start(Fault("token_expiry", every=1))
    auth = kd.AppAuth(sandbox.app_id, sandbox.app_secret)
    with kd.connect(
        endpoint=sandbox.endpoint, user_id=kd.sandbox.DEFAULT_USER, auth=auth
    ) as client:
        for _ in range(3):
            assert len(client.devices())
    assert sandbox.statuses == {200: 3}


def test_a_client_with_a_callable_outlasts_every_token(start):
    sandbox = start(Fault("token_expiry", every=2))
    with kd.connect(
        endpoint=sandbox.endpoint,
        user_id=kd.sandbox.DEFAULT_USER,
        auth=kd.TokenAuth(lambda: sandbox.token),
        max_workers=1,
    ) as client:
        for _ in range(5):
            assert len(client.devices())
    assert sandbox.statuses == {200: 5, 401: 2}


@pytest.mark.parametrize(
    ("path", "struck"),
    [
        ("", {RECORD, LISTING, "device"}),
        ("record", {RECORD, LISTING}),
        ("^device", {"device"}),
        (r"^record\?", {LISTING}),
        (r"^record\?moduleCode=102", {LISTING}),
        (r"^record\?moduleCode=102&pageSize=10$", {LISTING}),
        (r"record\?.*moduleCode=102", {LISTING}),
        ("moduleCode=101", set()),
        ("^record/", {RECORD}),
        ("184641", {RECORD}),
    ],
)
def test_a_fault_strikes_what_its_path_matches(start, path, struck):
    sandbox = start(Fault("status", path=path))
    found = {
        target for target in (RECORD, LISTING, "device") if ask(sandbox, target).status_code == 503
    }
    assert found == struck


def test_a_target_names_its_query_by_name_and_its_cursor_by_the_place(start):
    sandbox = start(Fault("status", path=r"^record\?from=10&moduleCode=102&pageSize=10$", times=1))
    cursor = ask(sandbox, "record?pageSize=10&moduleCode=102").json()["nextCursor"]
    second = f"record?pageSize=10&moduleCode=102&cursor={cursor}"
    assert statuses(sandbox, second, 2) == [503, 200]


def test_times_counts_for_each_target(start):
    sandbox = start(Fault("status", times=2))
    asked = [RECORD, "device", RECORD, "device", RECORD, "device", RECORD]
    assert [ask(sandbox, target).status_code for target in asked] == [503] * 4 + [200] * 3


def test_of_two_faults_of_a_kind_the_first_strikes(start):
    sandbox = start(Fault("status", path="device", status=502), Fault("status", status=504))
    assert (statuses(sandbox, "device", 1), statuses(sandbox, RECORD, 1)) == ([502], [504])


def strikes(order, *, seed=0, fault=None):
    """Tell for each target which of its requests are struck, when asked in some order."""
    planned = faults.Faults([fault or Fault("status", share=0.5)], seed)
    found = {}
    for target in order:
        found.setdefault(target, []).append(bool(planned.strike(target)))
    return found


@pytest.mark.parametrize("fault", [Fault("drop", share=0.3), Fault("drop", share=0.9, times=5)])
def test_what_is_struck_is_the_same_in_any_order(fault):
    order = [f"record?moduleCode={number}" for number in range(20)] * 10
    expected = strikes(order, fault=fault)
    for shuffle in range(5):
        random.Random(shuffle).shuffle(order)
        assert strikes(order, fault=fault) == expected


def test_what_is_struck_depends_on_the_seed_and_the_target():
    order = [f"record/{number}" for number in range(20)] * 10
    found = [strikes(order, seed=seed) for seed in range(3)]
    assert found[0] != found[1] != found[2] != found[0]
    assert len({tuple(one) for one in found[0].values()}) > 10


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_about_the_share_asked_for_is_struck(share):
    order = [f"record/{number}" for number in range(100)] * 20
    struck = [
        one for row in strikes(order, fault=Fault("drop", share=share)).values() for one in row
    ]
    assert sum(struck) / len(struck) == pytest.approx(share, abs=0.04 if 0 < share < 1 else 0)


def test_only_the_first_times_are_struck_even_where_the_share_spared_some():
    found = strikes(["record/1"] * 50, fault=Fault("drop", share=0.5, times=10))["record/1"]
    assert 0 < sum(found[:10]) < 10
    assert sum(found[10:]) == 0


def test_faults_strike_each_on_its_own():
    planned = faults.Faults([Fault("drop", share=0.5), Fault("misfit", share=0.5)], 0)
    found = {frozenset(planned.strike(f"record/{number}")) for number in range(100)}
    assert found == {
        frozenset(),
        frozenset({"drop"}),
        frozenset({"misfit"}),
        frozenset({"drop", "misfit"}),
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_a_service_strikes_as_its_seed_says_whatever_was_asked_before(start, seed):
    plan = [Fault("status", share=0.5)]
    first, second = start(*plan, seed=seed), start(*plan, seed=seed)
    statuses(second, LISTING, 7)
    found = statuses(first, RECORD, 12)
    assert set(found) == {200, 503}
    assert statuses(second, RECORD, 12) == found


def test_services_of_different_seeds_strike_differently(start):
    plan = [Fault("status", share=0.5)]
    assert statuses(start(*plan, seed=1), count=20) != statuses(start(*plan, seed=2), count=20)


def test_a_restart_strikes_from_the_beginning_and_counts_from_nothing(start):
    sandbox = start(Fault("status", times=1))
    assert statuses(sandbox, count=2) == [503, 200]
    sandbox.stop()
    assert sandbox.statuses == {503: 1, 200: 1}
    with sandbox:
        assert sandbox.statuses == {}
        assert statuses(sandbox, count=2) == [503, 200]


@pytest.fixture
def clock(monkeypatch):
    """Time for the rate limit, which stands still until it is moved."""
    fake = SimpleNamespace(now=1000.0, monotonic=lambda: fake.now)
    monkeypatch.setattr(faults, "time", fake)
    return fake


@pytest.mark.parametrize(
    ("per_s", "at_once", "a_second_later"), [(1, 1, 1), (5, 5, 5), (2.5, 2, 2), (0.5, 1, 0)]
)
def test_a_rate_limit_takes_so_many_and_refuses_the_rest(
    start, clock, per_s, at_once, a_second_later
):
    sandbox = start(rate_limit=per_s)
    assert statuses(sandbox, count=at_once + 2) == [200] * at_once + [429] * 2
    answer = ask(sandbox)
    assert answer.json()["error_code"] == "APIGW.0308"
    assert "Date" in answer.headers
    clock.now += 1
    assert statuses(sandbox, count=a_second_later + 1)[:a_second_later] == [200] * a_second_later
    assert sandbox.statuses[429] >= 3


def test_a_pause_saves_no_more_than_one_second_s_worth(start, clock):
    sandbox = start(rate_limit=3)
    clock.now += 3600
    assert statuses(sandbox, count=5) == [200] * 3 + [429] * 2
    assert sandbox.statuses == {200: 3, 429: 2}


def test_a_refused_request_takes_nothing_from_the_limit(clock):
    limit = faults.RateLimit(1)
    assert [limit.takes() for _ in range(100)] == [True] + [False] * 99
    clock.now += 1
    assert [limit.takes(), limit.takes()] == [True, False]


def test_statuses_count_every_answer(start):
    sandbox = start(Fault("status", path="device", status=502, times=1))
    ask(sandbox)
    ask(sandbox, token="wrong")
    ask(sandbox, "record/1")
    ask(sandbox, "device")
    ask(sandbox, "device")
    assert sandbox.statuses == {200: 2, 401: 1, 400: 1, 502: 1}
    sandbox.statuses.clear()
    assert sum(sandbox.statuses.values()) == 5


@pytest.mark.parametrize("target", ["nothing", "record/1/2"])
def test_an_unknown_call_is_counted_and_dated_like_any_other(start, target):
    sandbox = start()
    answer = ask(sandbox, target)
    assert answer.status_code == 404
    assert sandbox.statuses == {404: 1}
    assert "Date" in answer.headers


def test_an_answer_that_is_cut_keeps_its_status(start):
    sandbox = start(Fault("truncate"))
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        ask(sandbox, token="wrong")
    assert sandbox.statuses == {401: 1}


def test_faults_are_values():
    assert Fault("drop") == Fault("drop", share=1.0)
    assert len({Fault("drop"), Fault("drop"), Fault("html")}) == 2
    with pytest.raises(AttributeError):
        Fault("drop").times = 3
    assert not faults.Faults([], 0)
    assert faults.Faults([Fault("drop")], 0)


def test_misfits_keep_rows_that_they_do_not_bend():
    rows = [json.dumps({"recordId": str(number), "status": 1}).encode() for number in range(3)]
    found = [json.loads(row) for row in faults.misfits(rows)]
    assert found[0] == {"recordId": "0", "status": 1}
    assert found[1]["recordId"] == 1
    assert found[2] == {"recordId": "2", "status": 1}
