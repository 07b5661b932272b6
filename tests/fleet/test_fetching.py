"""Many users at once: what comes of each, and what one that fails costs the others."""

import pickle
import re
import threading
import time
from collections import Counter

import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb import progress

BASE = "/koodrive/ose/v1/backup"
APP = kd.AppAuth("a378331e", "5e1c0ffee")
OWN = ["user_id", "outcome", "n_devices", "n_records", "fetched_at", "error"]
FRAMES = ["records", "devices", "users"]


def device(identity):
    named = {"deviceName": f"Name {identity}", "deviceOS": "iOS", "machineCode": f"m{identity}"}
    return {"deviceId": identity, "createTime": "2025-01-07T00:00:00Z"} | named


def record(identity, module="101", day=1, owner=None, device="9"):
    """Give a record that names its device, or, with an owner instead, one that does not."""
    row = {"recordId": identity, "moduleCode": module, "status": 1}
    row |= {"createTime": f"2025-12-{day:02}T00:00:00Z"}
    return row | ({"owner": owner} if owner else {"deviceInfo": {"deviceId": device}})


def user(records=(), devices=()):
    return {"records": [*records], "devices": [device(each) for each in devices]}


USERS = {
    "43": user([record("3", day=5), record("1", "100", day=2), record("5", day=1)], ["7", "8"]),
    "42": user([record("2", day=3), record("4", "102", day=4)], ["9"]),
    "44": user(devices=["10"]),
    "45": user(),
}


def serve(service, users, *, first=lambda asked, user_id: None, per_page=100):
    """Answer as the API does for these users, unless `first` has an answer."""

    def answer(asked):
        user_id = asked.headers["X-User-Id"]
        early = first(asked, user_id)
        if early is not None:
            return early
        if user_id not in users:
            return service.Answer({"code": 401, "msg": "X-User-Id is not a user here."}, 401)
        if asked.path == f"{BASE}/device":
            return service.Answer({"code": 0, "data": users[user_id]["devices"]})
        module, wanted = asked.query["moduleCode"], asked.query.get("deviceId")
        rows = [
            {name: value for name, value in row.items() if name != "owner"}
            for row in users[user_id]["records"]
            if row["moduleCode"] == module and wanted in {None, row.get("owner")}
        ]
        start = int(asked.query.get("cursor", "0"))
        following = str(start + per_page) if start + per_page < len(rows) else ""
        page = rows[start : start + per_page]
        return service.Answer({"code": 0, "data": page, "nextCursor": following})

    service.answer = answer


def asked_of(service):
    """Count the questions about each user."""
    return Counter(asked.headers["X-User-Id"] for asked in service.asked)


def failing(service, is_hit):
    """Give a service's own failure for the questions that are hit."""
    return lambda asked, user_id: service.Answer(b"", 503) if is_hit(asked, user_id) else None


@pytest.fixture
def app(service):
    """Give a client of the double that acts for every user, whose rows carry a fixed instant."""
    instant = pd.Timestamp("2026-01-02T03:04:05Z").to_pydatetime()
    with service.connect(auth=APP, clock=lambda: instant) as connected:
        yield connected


def fits(frame, dataset):
    schema = kd.schema(dataset)
    dtypes = [str(dtype) for dtype in frame.dtypes]
    return (list(frame.columns), dtypes) == (list(schema["column"]), list(schema["dtype"]))


def same(one, other):
    for name in FRAMES:
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name))
    for name in FRAMES[:2]:
        pd.testing.assert_frame_equal(
            kd.ledger(getattr(one, name)), kd.ledger(getattr(other, name))
        )


def incomplete(ask, *arguments, **options):
    with pytest.raises(kd.IncompleteError) as caught:
        ask(*arguments, **options)
    return caught.value


def outcomes(fleet):
    return dict(zip(fleet.users["user_id"], fleet.users["outcome"], strict=True))


def test_a_user_of_the_sandbox_is_what_its_client_gives(client, records, devices):
    fleet = kd.fleet.fetch(client, [kd.sandbox.DEFAULT_USER])
    pd.testing.assert_frame_equal(fleet.records, records)
    pd.testing.assert_frame_equal(fleet.devices, devices)
    pd.testing.assert_frame_equal(kd.ledger(fleet.records), kd.ledger(records))
    pd.testing.assert_frame_equal(kd.ledger(fleet.devices), kd.ledger(devices))
    assert repr(fleet) == f"Fleet(1 user, {len(devices)} devices, {len(records)} records, complete)"


def test_each_user_of_a_fleet_has_what_the_client_gives_for_it(service, app):
    serve(service, USERS, per_page=1)
    fleet = kd.fleet.fetch(app, [*USERS])
    for dataset, key in (("records", ["create_time", "record_id"]), ("devices", ["device_id"])):
        frame = getattr(fleet, dataset)
        assert fits(frame, dataset)
        assert list(frame.index) == list(range(len(frame)))
        assert frame[key].apply(tuple, axis=1).is_monotonic_increasing or dataset == "devices"
        assert kd.ledger(frame)["complete"].all()
        assert frame.attrs["koodrive"]["complete"] is True
        for user_id in USERS:
            alone = getattr(app.for_user(user_id), dataset)()
            mine = frame[frame["user_id"] == user_id].reset_index(drop=True)
            pd.testing.assert_frame_equal(mine, alone)
            lines = kd.ledger(frame).query("user_id == @user_id").reset_index(drop=True)
            pd.testing.assert_frame_equal(lines, kd.ledger(alone))


def test_users_come_in_the_order_asked_those_without_anything_included(service, app):
    serve(service, USERS)
    users = kd.fleet.fetch(app, ["45", "43", "44", "42"]).users
    assert {name: str(dtype) for name, dtype in users.dtypes.items()} == {
        "user_id": "string",
        "outcome": "category",
        "n_devices": "Int64",
        "n_records": "Int64",
        "fetched_at": "datetime64[ms, UTC]",
        "error": "string",
    }
    assert list(users["outcome"].cat.categories) == ["complete", "partial", "failed"]
    assert users[["user_id", "outcome", "n_devices", "n_records"]].to_numpy().tolist() == [
        ["45", "complete", 0, 0],
        ["43", "complete", 2, 3],
        ["44", "complete", 1, 0],
        ["42", "complete", 1, 2],
    ]
    assert set(users["fetched_at"]) == {pd.Timestamp("2026-01-02T03:04:05Z")}
    assert users["error"].isna().all()
    assert users.attrs["koodrive"] == {"source": "live", "complete": True}


def test_no_users_are_an_empty_fleet(service, app):
    fleet = kd.fleet.fetch(app, [])
    assert repr(fleet) == "Fleet(0 users, 0 devices, 0 records, complete)"
    for dataset in ("records", "devices"):
        assert fits(getattr(fleet, dataset), dataset)
        assert kd.ledger(getattr(fleet, dataset))["complete"].all()
    assert list(fleet.users.columns) == OWN
    assert str(fleet.users["n_records"].dtype) == "Int64"
    assert service.asked == []


@pytest.mark.parametrize(
    "shape", [list, tuple, iter, pd.Series, pd.Index, lambda ids: pd.DataFrame({"user_id": ids})]
)
def test_a_user_who_is_asked_for_twice_is_asked_and_counted_once(service, app, shape):
    serve(service, USERS)
    fleet = kd.fleet.fetch(app, shape(["44", "42", "44", "42"]))
    assert list(fleet.users["user_id"]) == ["44", "42"]
    assert list(fleet.records["record_id"]) == ["2", "4"]
    assert asked_of(service) == {"42": 4, "44": 4}


def test_what_is_known_of_the_users_is_carried_along(service, app):
    serve(service, USERS)
    listed = pd.DataFrame(
        {"region": ["north", "south", "east"], "user_id": ["44", "43", "44"], "plan": [1, 2, 3]},
        index=[7, 7, 9],
    )
    users = kd.fleet.fetch(app, listed).users
    assert list(users.columns) == [*OWN, "region", "plan"]
    assert users[["user_id", "region", "plan"]].to_numpy().tolist() == [
        ["44", "north", 1],
        ["43", "south", 2],
    ]
    assert users["plan"].dtype == listed["plan"].dtype
    # The users of a fleet are a list of users again.
    again = kd.fleet.fetch(app, users[users["user_id"] == "43"]).users
    pd.testing.assert_frame_equal(again, users.iloc[1:].reset_index(drop=True))


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        ("1842", "list of one"),
        (b"18", "list of one"),
        (1842, "list of user ids"),
        (None, "list of user ids"),
        ({"user_id": ["1"]}, "pandas DataFrame"),
        (pd.DataFrame({"user": ["1"]}), "one column user_id"),
        (pd.DataFrame([["1", "2"]], columns=["user_id", "user_id"]), "one column user_id"),
        (["1", ""], "user id at position 1 .*empty"),
        (["1", " 2"], "user id at position 1 .*copy the id"),
        (["1", "2", 3], "user id at position 2 .*not int.*quotes"),
        (pd.Series([1.8e18, 1.9e18]), "user id at position 0 .*not float.*lose"),
        (pd.DataFrame({"user_id": ["1", None]}), r"user id at position 1 is missing.*dropna"),
        (pd.Series(["1", pd.NA], dtype="string"), "user id at position 1 is missing"),
    ],
)
def test_unfit_ids_are_refused_with_their_place_and_nothing_is_sent(service, app, ids, says):
    with pytest.raises(kd.InvalidParameterError, match=says):
        kd.fleet.fetch(app, ids)
    assert service.asked == []


@pytest.mark.parametrize("errors", ["ignore", "", None])
def test_there_are_two_ways_with_errors(service, app, errors):
    with pytest.raises(kd.InvalidParameterError, match='"raise" or "collect"'):
        kd.fleet.fetch(app, ["42"], errors=errors)
    assert service.asked == []


def test_a_fleet_needs_a_client_first(app):
    with pytest.raises(kd.InvalidParameterError, match="client first"):
        kd.fleet.fetch(["42"], app)


def test_a_token_sees_no_fleet_and_nothing_is_sent(service, connected):
    with pytest.raises(kd.ConfigurationError, match=r"auth=kd\.AppAuth"):
        kd.fleet.fetch(connected, ["42", "43"])
    assert service.asked == []
    serve(service, USERS)
    assert len(kd.fleet.fetch(connected, ["42", "42"]).records) == 2


def test_a_record_or_device_of_two_users_is_of_both_and_repeats_of_one_are_dropped(service, app):
    rows = [record("1"), record("2"), record("1") | {"status": 2}]
    serve(service, {"42": user(rows, ["7"]), "43": user([record("1")], ["7"])})
    fleet = kd.fleet.fetch(app, ["42", "43"])
    assert fleet.records[["user_id", "record_id", "status_code"]].to_numpy().tolist() == [
        ["42", "1", 2],
        ["43", "1", 1],
        ["42", "2", 1],
    ]
    assert list(fleet.devices["user_id"]) == ["42", "43"]
    lines = kd.ledger(fleet.records).query("module == 'album'")
    assert lines["duplicates"].tolist() == [1, 0]


def test_all_users_and_modules_share_one_bounded_pool(service):
    workers = 6
    together = threading.Barrier(workers)
    under_way, most, lock = 0, 0, threading.Lock()

    def count(asked, user_id):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        together.wait(10)  # Nobody gets on before as many as allowed are there.
        with lock:
            under_way -= 1

    users = {str(number): user() for number in range(workers)}  # Four listings each.
    serve(service, users, first=count)
    with service.connect(auth=APP, max_workers=workers) as client:
        assert len(kd.fleet.fetch(client, [*users]).users) == workers
    assert most == workers


def test_one_bar_shows_how_far_the_fleet_is(service, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_AFTER_S", 0)
    serve(service, USERS, first=lambda asked, user_id: time.sleep(0.05))
    with service.connect(auth=APP, progress=True, max_workers=2) as client:
        kd.fleet.fetch(client, [*USERS])
    shown = re.findall(r"\r(\w[^:]*):.*? (\d+)/(\d+)", capsys.readouterr().err)
    assert {(what, total) for what, _, total in shown} == {("backups of 4 users", "16")}
    assert len({done for _, done, _ in shown}) > 2


# Users whose records do not name their device.
NAMELESS = {
    "42": user([record("1", owner="7"), record("2", owner="8", day=2), record("3")], ["7", "8"]),
    "43": user([record("1", owner="8"), record("5", "102", owner="gone")], ["8", "11"]),
    "44": user([record("6")], ["7"]),
}


def test_the_device_of_nameless_records_is_learnt_for_each_user(service, app):
    serve(service, NAMELESS)
    fleet = kd.fleet.fetch(app, [*NAMELESS])
    assert fits(fleet.records, "records")
    devices = fleet.records.set_index(["user_id", "record_id"])["device_id"].dropna().to_dict()
    assert devices == {
        ("42", "1"): "7",
        ("42", "2"): "8",
        ("42", "3"): "9",
        ("43", "1"): "8",
        ("44", "6"): "9",
    }
    # The devices are listed once, and users whose records all name theirs cost nothing more.
    listed = Counter(
        asked.headers["X-User-Id"] for asked in service.asked if asked.path == f"{BASE}/device"
    )
    assert listed == dict.fromkeys(NAMELESS, 1)
    assert asked_of(service)["44"] == 4
    for user_id in NAMELESS:
        alone = app.for_user(user_id).records()
        mine = fleet.records[fleet.records["user_id"] == user_id].reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, alone)
        lines = kd.ledger(fleet.records).query("user_id == @user_id").reset_index(drop=True)
        pd.testing.assert_frame_equal(lines, kd.ledger(alone))


def test_one_users_failure_keeps_no_other_users_devices_from_being_learnt(service, app):
    broken = [True]
    serve(
        service,
        NAMELESS,
        first=failing(
            service,
            lambda asked, user_id: (
                broken
                and (user_id == "44" or (user_id == "43" and asked.query.get("deviceId") == "8"))
            ),
        ),
    )
    error = incomplete(kd.fleet.fetch, app, [*NAMELESS])
    assert outcomes(error.frame) == {"42": "complete", "43": "partial", "44": "failed"}
    known = error.frame.records.set_index(["user_id", "record_id"])["device_id"]
    assert (known["42", "1"], known["42", "2"]) == ("7", "8")
    assert pd.isna(known["43", "1"])
    broken.clear()
    service.asked.clear()
    whole = error.resume()
    assert asked_of(service) == {"43": 2, "44": 4}
    same(whole, kd.fleet.fetch(app, [*NAMELESS]))


FAILURES = {
    "second page": (
        lambda asked, user_id: user_id == "43" and asked.query.get("cursor") == "1",
        ("partial", 2, 2),
        1,
    ),
    "one module": (
        lambda asked, user_id: user_id == "43" and asked.query.get("moduleCode") == "101",
        ("partial", 2, 1),
        2,
    ),
    "the records": (
        lambda asked, user_id: user_id == "43" and "moduleCode" in asked.query,
        ("partial", 2, None),
        4,
    ),
    "the devices": (
        lambda asked, user_id: user_id == "43" and asked.path == f"{BASE}/device",
        ("partial", None, 3),
        1,
    ),
    "all": (lambda asked, user_id: user_id == "43", ("failed", None, None), 5),
}


@pytest.mark.parametrize("case", FAILURES)
def test_what_failed_of_one_user_is_told_kept_apart_and_asked_for_alone(service, app, case):
    is_hit, found, left = FAILURES[case]
    broken = [True]
    serve(
        service,
        USERS,
        first=failing(service, lambda *question: broken and is_hit(*question)),
        per_page=1,
    )
    error = incomplete(kd.fleet.fetch, app, [*USERS])
    fleet = error.frame
    assert isinstance(fleet, kd.fleet.Fleet)
    users = fleet.users.set_index("user_id")
    row = users.loc["43", ["outcome", "n_devices", "n_records"]]
    assert [None if pd.isna(each) else each for each in row] == list(found)
    assert "ServerError" in users.loc["43", "error"]
    assert outcomes(fleet) == {**dict.fromkeys(USERS, "complete"), "43": found[0]}
    assert users["error"].isna().sum() == len(USERS) - 1
    assert set(error.failures["user_id"]) == {"43"}
    assert "user 43, " in str(error)
    assert error.retryable
    assert len(fleet.records) == 2 + (found[2] or 0)
    assert fits(fleet.records, "records")
    is_whole = {"records": case == "the devices", "devices": found[1] is not None}
    for dataset, complete in is_whole.items():
        frame = getattr(fleet, dataset)
        assert frame.attrs["koodrive"]["complete"] is complete
        assert kd.ledger(frame)["complete"].all() == complete
        assert bool(kd.ledger(frame).attrs["failures"]) is not complete
    assert fleet.users.attrs["koodrive"]["complete"] is False

    broken.clear()
    service.asked.clear()
    whole = error.resume()
    assert asked_of(service) == {"43": left}
    undisturbed = kd.fleet.fetch(app, [*USERS])
    same(whole, undisturbed)
    assert kd.ledger(whole.records).attrs["failures"] == []
    # What the error holds has not changed, so that it can go on again.
    assert len(error.frame.records) == 2 + (found[2] or 0)
    same(error.resume(), undisturbed)


def test_an_error_from_another_process_goes_on_with_a_client_for_these_users(service, app, client):
    broken = [True]
    serve(
        service,
        USERS,
        first=failing(service, lambda asked, user_id: broken and asked.query.get("cursor") == "1"),
        per_page=1,
    )
    error = pickle.loads(pickle.dumps(incomplete(kd.fleet.fetch, app, [*USERS])))
    broken.clear()
    service.asked.clear()
    with pytest.raises(kd.InvalidParameterError, match="left its client behind"):
        error.resume()
    with service.connect() as token:
        for wrong in (token, client):
            with pytest.raises(kd.InvalidParameterError, match="of 4 users at the live service"):
                error.resume(wrong)
    assert service.asked == []
    whole = error.resume(app)
    assert asked_of(service) == {"43": 1}
    same(whole, kd.fleet.fetch(app, [*USERS]))


def test_collecting_gives_the_users_that_came_and_every_chart_says_so(service, app):
    serve(service, USERS)
    fleet = kd.fleet.fetch(app, ["nobody", *USERS, "gone"], errors="collect")
    assert outcomes(fleet) == {
        "nobody": "failed",
        **dict.fromkeys(USERS, "complete"),
        "gone": "failed",
    }
    assert repr(fleet) == "Fleet(6 users, 4 devices, 5 records, incomplete: 2 failed)"
    lost = fleet.users[fleet.users["outcome"] == "failed"]
    assert lost["error"].str.startswith("devices (AuthenticationError").all()
    assert lost["error"].str.endswith("; and 3 more").all()
    assert lost[["n_devices", "n_records", "fetched_at"]].isna().all(axis=None)
    for frame in (fleet.records, fleet.devices, fleet.users):
        assert frame.attrs["koodrive"]["complete"] is False
    subtitle = kd.charts.status_breakdown(fleet.records).layout.title.subtitle.text
    assert "INCOMPLETE" in subtitle


def test_a_user_of_the_sandbox_who_does_not_exist_stops_no_other(client, records):
    error = incomplete(kd.fleet.fetch, client, ["nobody", kd.sandbox.DEFAULT_USER])
    pd.testing.assert_frame_equal(error.frame.records, records)
    assert set(error.failures["user_id"]) == {"nobody"}
    assert not error.failures["retryable"].any()


MANY = [f"u{number}" for number in range(160)]


@pytest.mark.parametrize("status", [401, 403, 400])
@pytest.mark.parametrize("errors", ["raise", "collect"])
def test_refused_credentials_are_raised_after_a_few_users(service, app, errors, status):
    service.says({"code": status, "msg": "no"}, status)
    with pytest.raises(kd.AuthenticationError):
        kd.fleet.fetch(app, MANY, errors=errors)
    assert 50 < len(asked_of(service)) < 60


def test_credentials_that_are_refused_from_some_point_on_stop_the_rest(service, app):
    users = dict.fromkeys(MANY, user([record("1")]))
    refusal = service.Answer({"code": 401}, 401)
    serve(
        service,
        users,
        first=lambda asked, user_id: refusal if broken and len(service.asked) > 160 else None,
    )
    broken = [True]
    error = incomplete(kd.fleet.fetch, app, MANY)
    assert len(asked_of(service)) < 40 + 60
    counts = error.frame.users["outcome"].value_counts()
    # Each of eight workers may have had three of four answers for a user.
    assert counts["complete"] >= (160 - 8 * 3) // 4
    assert counts["failed"] >= 160 - 41
    assert "stopped, because others failed" in error.failures["error"].to_list()
    broken.clear()
    service.asked.clear()
    same(error.resume(), kd.fleet.fetch(app, MANY))


def test_users_who_are_gone_stop_nothing_while_others_are_answered(service, app):
    known = dict.fromkeys(MANY[40::41], user([record("1")], ["7"]))
    serve(service, known)
    fleet = kd.fleet.fetch(app, MANY, errors="collect")
    assert {each for each, outcome in outcomes(fleet).items() if outcome == "complete"} == set(
        known
    )
    assert asked_of(service) == dict.fromkeys(MANY, 4)


def test_a_service_that_fails_for_everybody_is_not_asked_for_everybody(service, app):
    service.says(b"", 503)
    with pytest.raises(kd.ServerError):
        kd.fleet.fetch(app, MANY)
    assert len(asked_of(service)) < 10


def test_a_fleet_pickles_and_shows_no_secret(service, app):
    serve(service, USERS)
    fleet = kd.fleet.fetch(app, [*USERS])
    again = pickle.loads(pickle.dumps(fleet))
    for name in FRAMES:
        pd.testing.assert_frame_equal(getattr(again, name), getattr(fleet, name))
    assert repr(again) == repr(fleet) == "Fleet(4 users, 4 devices, 5 records, complete)"
    assert b"5e1c0ffee" not in pickle.dumps(fleet)
    with pytest.raises(AttributeError):
        fleet.users = None
