import concurrent.futures
import json
import pickle
from datetime import UTC, datetime, timedelta

import pytest
import requests

import koodrive_nb as kd
from koodrive_nb.sandbox import server

BASE = "/koodrive/ose/v1/backup"
DOCUMENTED_RECORD = (
    '{"recordId":"1842862763295184641","moduleCode":"101","status":0,'
    '"properties":"{\\"test\\":\\"123\\"}","version":1,"createTime":"2025-12-17T07:59:20.752Z"}'
)
DOCUMENTED_DEVICE = (
    '{"deviceId":"1775406005920779393","machineCode":"20250911","deviceOS":"android",'
    '"deviceName":"Magic v3","createTime":"2025-09-15T06:14:48.630Z"}'
)


def stamp(**back):
    return f"{datetime.now(UTC) - timedelta(**back):%Y%m%dT%H%M%SZ}"


@pytest.fixture(scope="module")
def sandbox():
    with kd.sandbox.Sandbox() as running:
        yield running


@pytest.fixture
def ask(sandbox):
    """Ask with the token, or signed for a user that the token does not open."""

    def send(path, query=None, **changed):
        headers = {
            "Authorization": f"Bearer {sandbox.token}",
            "X-User-Id": kd.sandbox.DEFAULT_USER,
            "X-Date": stamp(seconds=2),
        } | {name.replace("_", "-"): value for name, value in changed.items()}
        sent = {name: value for name, value in headers.items() if value is not None}
        auth = None
        if sent.get("X-User-Id") == kd.sandbox.CROWD_USER:
            auth = kd.AppAuth(sandbox.app_id, sandbox.app_secret)
        return requests.get(
            sandbox.endpoint + path, params=query, headers=sent, auth=auth, timeout=10
        )

    return send


def test_the_documented_record_is_served_as_printed(ask):
    answer = ask(f"{BASE}/record/1842862763295184641")
    assert answer.text == f'{{"data":{DOCUMENTED_RECORD},"code":0,"msg":"success"}}'
    assert answer.status_code == 200


def test_the_documented_devices_are_served_as_printed(ask):
    text = ask(f"{BASE}/device").text
    assert DOCUMENTED_DEVICE in text
    second = next(row for row in json.loads(text)["data"] if row["machineCode"] == "20251217")
    assert second["deviceId"] == "1842812272691451648"
    assert (second["deviceOS"], second["deviceName"]) == ("android", "Magic-v5")
    assert second["createTime"] == "2025-12-17T06:19:01.803Z"


@pytest.mark.parametrize("spelling", ["Bearer {}", "Bearer+{}", "bearer {}", "BEARER+{}"])
def test_the_token_is_taken_in_both_spellings_and_any_case(ask, sandbox, spelling):
    assert ask(f"{BASE}/device", Authorization=spelling.format(sandbox.token)).status_code == 200


@pytest.mark.parametrize(
    "value", [None, "", "Bearer", "Bearer wrong", "Basic {}", "{}", "Bearer {}x"]
)
def test_any_other_token_is_refused(ask, sandbox, value):
    header = value and value.format(sandbox.token)
    answer = ask(f"{BASE}/device", Authorization=header)
    assert (answer.status_code, answer.json()["error_code"]) == (401, "APIGW.0301")


@pytest.mark.parametrize("back", [{"seconds": 0}, {"minutes": 14}])
def test_a_date_within_the_last_15_minutes_is_taken(ask, back):
    assert ask(f"{BASE}/device", X_Date=stamp(**back)).status_code == 200


@pytest.mark.parametrize(
    "value",
    [None, "", "now", "2025-11-03T07:01:40Z", {"minutes": 16}, {"minutes": -2}],
    ids=["none", "empty", "word", "extended", "old", "future"],
)
def test_any_other_date_is_refused(ask, value):
    answer = ask(f"{BASE}/device", X_Date=stamp(**value) if isinstance(value, dict) else value)
    assert (answer.status_code, answer.json()["code"]) == (400, 400)


def test_the_user_is_mandatory_and_must_be_known(ask):
    assert ask(f"{BASE}/device", X_User_Id=None).json()["code"] == 13000102
    assert ask(f"{BASE}/device", X_User_Id="nobody").status_code == 401


@pytest.mark.parametrize(
    "query",
    [
        {"pageSize": 1},
        {"moduleCode": "101"},
        {"moduleCode": "103", "pageSize": 1},
        {"moduleCode": "101", "pageSize": 0},
        {"moduleCode": "101", "pageSize": 101},
        {"moduleCode": "101", "pageSize": "ten"},
        {"moduleCode": "101", "pageSize": 1, "cursor": "made up"},
        {"moduleCode": "101", "pageSize": 1, "cursor": "MTIz"},
        {"moduleCode": "101", "pageSize": 1, "cursor": "x" * 1500},
    ],
)
def test_parameters_are_mandatory_and_have_ranges(ask, query):
    answer = ask(f"{BASE}/record", query)
    assert (answer.status_code, answer.json()["code"]) == (400, 13000102)


@pytest.mark.parametrize("record", ["1842862763295184642", "none", "9" * 1000])
@pytest.mark.parametrize("user", [kd.sandbox.DEFAULT_USER, kd.sandbox.CROWD_USER])
def test_an_unknown_record_is_refused(ask, record, user):
    answer = ask(f"{BASE}/record/{record}", X_User_Id=user)
    assert (answer.status_code, answer.json()["code"]) == (400, 13000309)


@pytest.mark.parametrize("path", [f"{BASE}/nothing", "/", f"{BASE}/record/1/2"])
def test_an_unknown_call_is_not_found(ask, path):
    assert (ask(path).status_code, ask(path).json()["error_code"]) == (404, "APIGW.0101")


def test_only_get_is_served(sandbox):
    answer = requests.delete(f"{sandbox.endpoint}{BASE}/record/1", timeout=10)
    assert answer.json()["error_code"] == "APIGW.0101"


def test_pages_of_any_size_give_every_record_once(ask):
    def listing(size):
        ids, cursor = [], None
        while cursor != "":
            answer = ask(
                f"{BASE}/record", {"moduleCode": "101", "pageSize": size, "cursor": cursor}
            ).json()
            assert len(answer["data"]) <= size
            ids += [row["recordId"] for row in answer["data"]]
            cursor = answer["nextCursor"]
        return ids

    assert listing(100) == listing(7)
    assert len(set(listing(100))) == len(listing(100)) > 200


def test_a_cursor_belongs_to_its_listing(ask):
    cursor = ask(f"{BASE}/record", {"moduleCode": "101", "pageSize": 1}).json()["nextCursor"]
    other = {"moduleCode": "102", "pageSize": 1, "cursor": cursor}
    assert ask(f"{BASE}/record", other).json()["code"] == 13000102
    mine = {"moduleCode": "101", "pageSize": 1, "cursor": cursor}
    assert ask(f"{BASE}/record", mine, X_User_Id="crowd").json()["code"] == 13000102


def test_every_start_has_its_own_token_and_port_and_shows_neither():
    with kd.sandbox.Sandbox() as first, kd.sandbox.Sandbox() as second:
        assert first.token != second.token
        assert first.endpoint != second.endpoint
        assert repr(first) == "Sandbox(running)"
    assert repr(first) == "Sandbox(stopped)"
    before = first.token
    with first:
        assert first.token != before
        assert first.start() is first
    with pytest.raises(requests.ConnectionError):
        requests.get(first.endpoint, timeout=2)
    first.stop()


def test_a_taken_port_is_an_error(sandbox):
    port = int(sandbox.endpoint.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        kd.sandbox.Sandbox(port).start()


def test_a_running_service_is_not_pickled(sandbox):
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(sandbox)


def test_the_shared_sandbox_is_started_once_and_anew_after_a_fork(monkeypatch):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert len({id(found) for found in pool.map(lambda _: kd.sandbox.shared(), range(8))}) == 1
    before = kd.sandbox.shared()
    monkeypatch.setattr(server, "_shared", (-1, before))
    after = kd.sandbox.shared()
    try:
        assert after is not before
    finally:
        after.stop()
