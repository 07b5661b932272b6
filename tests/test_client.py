import copy
import io
import pickle
import sys
import threading
from datetime import UTC, datetime

import pandas as pd
import pytest

import koodrive_nb as kd

DOCUMENTED = "1842862763295184641"


def test_the_documented_record_is_one_row_with_missing_end_and_device(client):
    frame = client.record(DOCUMENTED)
    row = frame.iloc[0]
    assert len(frame) == 1
    assert row["record_id"] == DOCUMENTED
    assert (row["module"], row["status"], row["status_code"]) == ("album", "new", 0)
    assert (row["properties"], row["version"]) == ('{"test":"123"}', 1)
    assert row["create_time"] == pd.Timestamp("2025-12-17T07:59:20.752Z")
    assert row[["end_time", "duration_s", "device_id", "device_name", "extra"]].isna().all()
    assert (row["source"], row["device_source"]) == ("sandbox", "missing")
    assert row["fetched_at"] == pd.Timestamp(kd.sandbox.as_of())


def test_an_unknown_record_is_not_found(client):
    with pytest.raises(kd.NotFoundError, match="belongs to this user") as caught:
        client.record("1842862763295184642")
    assert caught.value.code == "13000309"


@pytest.mark.parametrize("data", [None, {"recordId": "2"}, {}, 7, [{"recordId": "1"}]])
def test_an_answer_without_the_record_asked_for_is_an_error(service, data):
    service.says({"code": 0, "data": data})
    kind = kd.NotFoundError if data is None else kd.ProtocolError
    with service.connect() as client, pytest.raises(kind):
        client.record("1")


def test_records_are_every_page_of_every_module(records):
    lines = kd.ledger(records).query("dataset == 'records'")
    assert list(lines["module"]) == ["folder", "album", "address_book"]
    assert lines["rows"].sum() == len(records) == records["record_id"].nunique()
    assert lines["pages"].tolist() == [-(-rows // 100) for rows in lines["rows"]]
    assert lines["complete"].all()
    assert set(records["status"]) == {"new", "completed", "to_be_deleted"}
    assert records.attrs["koodrive"]["complete"] is True


@pytest.mark.parametrize("module", ["101", "album"])
def test_a_module_is_named_by_code_or_label(client, records, module):
    frame = client.records(module=module)
    album = records[records["module"] == "album"]
    assert list(frame["record_id"]) == list(album["record_id"])


@pytest.mark.parametrize("module", ["103", "Album", "", 101, [], "unknown"])
def test_an_unknown_module_is_refused_with_the_choice(client, module):
    with pytest.raises(kd.InvalidParameterError, match="100 folder, 101 album, 102 address_book"):
        client.records(module=module)


def test_a_device_id_keeps_the_records_of_that_device(client, records):
    device = records["device_id"].dropna().iloc[0]
    frame = client.records(device_id=device)
    assert set(frame["device_id"]) == {device}
    assert len(frame) == (records["device_id"] == device).sum()


def test_pages_of_100_follow_the_cursor_to_its_end(service):
    pages = {None: ("a b/c+d=~", ["1", "2"]), "a b/c+d=~": ("次", []), "次": ("", ["3"])}

    def answer(asked):
        following, ids = pages[asked.query.get("cursor")]
        rows = [{"recordId": identity, "deviceInfo": {"deviceId": "9"}} for identity in ids]
        return service.Answer({"code": 0, "data": rows, "nextCursor": following})

    service.answer = answer
    with service.connect() as client:
        frame = client.records(module="101")
    assert list(frame["record_id"]) == ["1", "2", "3"]
    assert [asked.query["pageSize"] for asked in service.asked] == ["100"] * 3
    assert kd.ledger(frame)["ended"].tolist() == ["no cursor"]


@pytest.mark.parametrize("end", [{}, {"nextCursor": None}, {"nextCursor": ""}])
def test_a_listing_ends_on_an_absent_null_or_empty_cursor(service, end):
    row = {"recordId": "1", "deviceInfo": {"deviceId": "9"}}
    service.says({"code": 0, "data": [row]} | end)
    with service.connect() as client:
        assert len(client.records(module="100")) == 1
    assert len(service.asked) == 1


def test_a_cursor_that_comes_again_is_an_error_and_no_endless_loop(service):
    service.says({"code": 0, "data": [{"recordId": "1"}], "nextCursor": "again"})
    with service.connect() as client, pytest.raises(kd.IncompleteError, match="cursor twice"):
        client.records(module="101")
    assert len(service.asked) == 2


def test_modules_are_fetched_at_the_same_time(service):
    together = threading.Barrier(3, timeout=10)

    def answer(asked):
        together.wait()
        row = {"recordId": asked.query["moduleCode"], "deviceInfo": {"deviceId": "9"}}
        return service.Answer({"code": 0, "data": [row]})

    service.answer = answer
    with service.connect() as client:
        assert len(client.records()) == 3


def test_long_listings_are_decoded_in_chunks(service):
    def answer(asked):
        start = int(asked.query.get("cursor", "0"))
        device = {"deviceId": "9"}
        rows = [
            {"recordId": str(number), "deviceInfo": device} for number in range(start, start + 1000)
        ]
        return service.Answer(
            {"code": 0, "data": rows, "nextCursor": str(start + 1000) * (start < 11_000)}
        )

    service.answer = answer
    with service.connect() as client:
        frame = client.records(module="101")
    assert len(frame) == frame["record_id"].nunique() == 12_000


def test_devices_include_those_that_never_backed_up(records, devices):
    assert len(devices) == 11
    assert set(records["device_id"].dropna()) < set(devices["device_id"])
    assert list(kd.ledger(devices)["ended"]) == ["single answer"]


def test_ids_survive_csv_and_parquet_as_text(records):
    ids = ["record_id", "device_id", "user_id"]
    text = records[ids].to_csv(index=False)
    again = pd.read_csv(io.StringIO(text), dtype="string")
    stored = io.BytesIO()
    records.to_parquet(stored)
    loaded = pd.read_parquet(stored)
    for frame in (again, loaded):
        for name in ids:
            assert frame[name].fillna("").tolist() == records[name].fillna("").tolist()


def test_another_user_sees_other_records():
    with kd.connect("sandbox", user_id="crowd") as crowd:
        one = crowd.devices().iloc[17]
        frame = crowd.records(device_id=one["device_id"])
    assert len(frame) == 100
    assert set(frame["user_id"]) == {"crowd"}


def test_rows_carry_the_instant_of_the_given_clock(service):
    service.lists([{"recordId": "1"}])
    moment = pd.Timestamp("2026-01-02T03:04:05.678901+08:00").to_pydatetime()
    with service.connect(clock=lambda: moment) as client:
        assert client.records()["fetched_at"].iloc[0] == pd.Timestamp("2026-01-01T19:04:05.678Z")
    with service.connect(clock=lambda: moment.replace(tzinfo=None)) as client:
        assert client.records()["fetched_at"].iloc[0] == pd.Timestamp("2026-01-02T03:04:05.678Z")
    before = pd.Timestamp.now("UTC").floor("ms")
    with service.connect() as client:
        assert before <= client.records()["fetched_at"].iloc[0] <= pd.Timestamp.now("UTC")


def test_a_sandbox_reached_as_live_service_still_labels_its_rows():
    sandbox = kd.sandbox.shared()
    auth = kd.TokenAuth(sandbox.token)
    user = kd.sandbox.DEFAULT_USER
    with kd.connect(endpoint=sandbox.endpoint, auth=auth, user_id=user) as client:
        assert set(client.records()["source"]) == {"sandbox"}
        assert set(client.devices()["source"]) == {"sandbox"}
        assert set(client.record(DOCUMENTED)["source"]) == {"sandbox"}


def test_a_running_sandbox_is_connected_to_as_of_its_own_instant():
    before = kd.sandbox.Sandbox(as_of="2025-12-10T16:30+08:00")
    with pytest.raises(kd.InvalidParameterError, match=r"not running: .*start\(\) before"):
        kd.connect(before)
    user = kd.sandbox.users()["user_id"].iloc[0]
    with before, kd.connect(before, user_id=user, max_workers=2) as client:
        records, devices = client.records(), client.devices()
        assert repr(client) == f"Client(source='sandbox', user_id='{user}', auth='app')"
        assert kd.connect(before).devices()["device_name"].iloc[0] == "Magic v3"
    for frame in (records, devices):
        assert set(frame["fetched_at"]) == {pd.Timestamp("2025-12-10T08:30Z")}
        assert set(frame["source"]) == {"sandbox"}
    assert records["create_time"].max() < pd.Timestamp("2025-12-10T08:30Z")
    with pytest.raises(kd.InvalidParameterError, match="not running"):
        kd.connect(before)


def test_a_clock_that_is_given_counts_before_that_of_the_sandbox():
    moment = datetime(2025, 12, 17, 9, tzinfo=UTC)
    with kd.sandbox.Sandbox() as running, kd.connect(running, clock=lambda: moment) as client:
        assert set(client.devices()["fetched_at"]) == {pd.Timestamp(moment)}


def test_a_live_service_is_labelled_live(service):
    service.lists([{"recordId": "1"}])
    with service.connect() as client:
        frame = client.records()
    assert set(frame["source"]) == {"live"}
    assert frame.attrs["koodrive"]["source"] == "live"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"service": "s3cret"}, 'takes "live" or "sandbox"'),
        ({"service": 5}, "or a kd.sandbox.Sandbox"),
        ({"service": "sandbox", "endpoint": "https://x"}, "leave endpoint= and auth= out"),
        ({"service": "sandbox", "auth": kd.TokenAuth("x")}, "leave endpoint= and auth= out"),
        ({"service": "sandbox", "max_workers": 0}, "whole number"),
        ({"service": "sandbox", "max_workers": True}, "whole number"),
        ({"service": "sandbox", "user_id": ""}, "it is empty"),
    ],
)
def test_unfit_arguments_of_connect_are_refused(arguments, says):
    with pytest.raises(kd.InvalidParameterError, match=says):
        kd.connect(**arguments)


def test_without_the_extra_the_sandbox_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "koodrive_nb.sandbox", None)
    monkeypatch.delattr("koodrive_nb.sandbox", raising=False)
    with pytest.raises(kd.ConfigurationError, match=r"pip install 'koodrive_nb\[sandbox\]'"):
        kd.connect("sandbox")


def test_a_wrong_token_is_refused_with_what_to_check():
    endpoint, user = kd.sandbox.shared().endpoint, kd.sandbox.DEFAULT_USER
    with (
        kd.connect(endpoint=endpoint, auth=kd.TokenAuth("wrong"), user_id=user) as client,
        pytest.raises(kd.AuthenticationError, match="Check the credentials"),
    ):
        client.records()


def test_reprs_show_source_user_and_kind_and_never_secret_or_port(client):
    sandbox = kd.sandbox.shared()
    assert repr(client) == ("Client(source='sandbox', user_id='1505084218764547200', auth='app')")
    for shown in (repr(client), client._repr_html_()):
        assert sandbox.token not in shown
        assert sandbox.endpoint.rpartition("//")[2] not in shown


def test_a_live_repr_says_where_each_setting_came_from(monkeypatch):
    monkeypatch.setenv("KOODRIVE_ENDPOINT", "https://koodrive.example")
    monkeypatch.setenv("KOODRIVE_TOKEN", "s3cret-token")
    with kd.connect(user_id="7") as client:
        page = client._repr_html_()
        assert "endpoint='https://koodrive.example'" in repr(client)
    assert "KOODRIVE_ENDPOINT" in page
    assert "KOODRIVE_TOKEN" in page
    assert "argument" in page
    assert "s3cret" not in page + repr(client)


def test_a_client_is_neither_pickled_nor_copied(client):
    for attempt in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="not pickled"):
            attempt(client)


def test_a_ledger_that_was_lost_says_why(records, devices):
    joined = pd.concat([records, devices])
    stored = io.BytesIO()
    records.to_parquet(stored)
    elsewhere = pd.read_parquet(stored)
    elsewhere.attrs["koodrive"]["ledger_id"] = "that of another process"
    for frame in (joined, elsewhere, pd.DataFrame()):
        with pytest.raises(kd.InvalidParameterError, match="in the same session"):
            kd.ledger(frame)


def test_ledgers_of_different_fetches_have_ids_that_no_other_process_gives(client):
    identities = {client.devices().attrs["koodrive"]["ledger_id"] for _ in range(3)}
    assert len(identities) == 3
    assert all(len(identity) == 16 for identity in identities)
