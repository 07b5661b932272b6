"""What each call asks for, and what its frame then holds."""

import json
import threading
import time
from collections import Counter

import pandas as pd
import pytest

import koodrive_nb as kd

BASE = "/koodrive/ose/v1/backup"
MODULES = ("100", "101", "102")
MAGIC = "1775406005920779393"


def record(identity, module="101"):
    return {"recordId": identity, "moduleCode": module, "deviceInfo": {"deviceId": "9"}}


def paths(service):
    return Counter(asked.path.rpartition("/")[2] for asked in service.asked)


def fits(frame, dataset="records"):
    schema = kd.schema(dataset)
    dtypes = [str(dtype) for dtype in frame.dtypes]
    return (list(frame.columns), dtypes) == (list(schema["column"]), list(schema["dtype"]))


def incomplete(ask, *arguments, **options):
    with pytest.raises(kd.IncompleteError) as caught:
        ask(*arguments, **options)
    return caught.value


@pytest.mark.parametrize(
    "shape", [list, tuple, iter, pd.Series, pd.Index], ids=lambda s: s.__name__
)
def test_records_come_in_the_order_and_as_often_as_asked_for_each_asked_once(
    service, connected, shape
):
    service.serve([record(each) for each in "123"])
    frame = connected.records_by_id(shape(["3", "1", "3", "2", "1"]))
    assert list(frame["record_id"]) == ["3", "1", "3", "2", "1"]
    assert list(frame.index) == [0, 1, 2, 3, 4]
    assert fits(frame)
    assert paths(service) == {"1": 1, "2": 1, "3": 1}


@pytest.mark.parametrize("service_name", ["live", "sandbox"])
def test_no_ids_give_an_empty_frame_of_the_schema(connected, client, service, service_name):
    frame = {"live": connected, "sandbox": client}[service_name].records_by_id([])
    assert len(frame) == 0
    assert fits(frame)
    assert kd.ledger(frame)["complete"].tolist() == [True]
    assert frame.attrs["koodrive"]["complete"] is True
    assert frame.attrs["koodrive"]["source"] == service_name
    assert service.asked == []


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        ("1842", "for one, use record"),
        (["1", "", "2"], "record id at position 1 .*empty"),
        (["1", "2", "a/b"], "record id at position 2 "),
        ([7], "record id at position 0 .*not int"),
        (["1", None], "record id at position 1 is missing"),
        (pd.Series(["1", pd.NA], dtype="string"), "record id at position 1 "),
    ],
)
def test_unfit_ids_are_refused_with_their_place_and_nothing_is_sent(service, connected, ids, says):
    with pytest.raises(kd.InvalidParameterError, match=says):
        connected.records_by_id(ids)
    assert service.asked == []


@pytest.mark.parametrize(
    ("asked_for", "came", "lost"),
    [
        (["1", "x", "2"], ["1", "2"], ["x"]),
        (["x", "2", "y", "x", "1"], ["2", "1"], ["x", "y"]),
        (["x", "y"], [], ["x", "y"]),
    ],
)
def test_unknown_ids_are_listed_and_the_others_kept(service, connected, asked_for, came, lost):
    service.serve([record("1"), record("2")])
    error = incomplete(connected.records_by_id, asked_for)
    table = error.failures
    assert list(error.frame["record_id"]) == came
    assert fits(error.frame)
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == {
        "user_id": "string",
        "what": "string",
        "error": "string",
        "retryable": "bool",
        "retry_after_s": "float64",
    }
    assert list(table["what"]) == [f"record {each}" for each in lost]
    assert set(table["user_id"]) == {"42"}
    assert table["error"].str.startswith("NotFoundError: ").all()
    assert not table["retryable"].any()
    assert table["retry_after_s"].isna().all()


def test_what_can_be_tried_again_later_says_so_and_when(service, connected):
    wait = service.Answer(b"", 503, {"Retry-After": "0"})
    service.serve([record("1")], first=lambda asked: wait if asked.path.endswith("2") else None)
    table = incomplete(connected.records_by_id, ["1", "2"]).failures
    assert table[["retryable", "retry_after_s"]].to_numpy().tolist() == [[True, 0.0]]


def test_the_only_record_that_does_not_exist_is_not_found(service, connected):
    service.serve([])
    with pytest.raises(kd.NotFoundError):
        connected.records_by_id(["x", "x"])
    assert len(service.asked) == 1


def test_collecting_gives_what_came_and_tells_what_did_not(service, connected):
    service.serve([record("1")])
    frame = connected.records_by_id(["x", "1"], errors="collect")
    assert list(frame["record_id"]) == ["1"]
    assert frame.attrs["koodrive"]["complete"] is False
    (failure,) = kd.ledger(frame).attrs["failures"]
    assert (failure["what"], failure["user_id"]) == ("record x", "42")
    assert failure["error"].startswith("NotFoundError")
    assert kd.ledger(frame)["ended"].tolist() == ["NotFoundError"]


def test_another_record_than_asked_for_is_no_answer(service, connected):
    other = service.Answer({"code": 0, "data": {"recordId": "1"}})
    service.serve([record("1")], first=lambda asked: other)
    error = incomplete(connected.records_by_id, ["1", "2"])
    assert list(error.frame["record_id"]) == ["1"]
    assert list(error.failures["what"]) == ["record 2"]
    assert error.failures["error"].iloc[0].startswith("ProtocolError")


@pytest.mark.parametrize("max_workers", [1, 3, 8])
def test_as_many_requests_as_allowed_are_under_way_and_no_more(service, max_workers):
    together = threading.Barrier(max_workers)
    under_way, most, lock = 0, 0, threading.Lock()

    def count(asked):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        together.wait(10)  # Nobody gets on before as many as allowed are there.
        time.sleep(0.005)
        with lock:
            under_way -= 1

    ids = [str(number) for number in range(4 * max_workers)]
    service.serve([record(each) for each in ids], first=count)
    with service.connect(max_workers=max_workers) as client:
        assert len(client.records_by_id(ids)) == len(ids)
    assert most == max_workers


@pytest.mark.parametrize(
    ("max_pages", "came", "ended"),
    [(1, 2, "max_pages"), (2, 4, "max_pages"), (3, 5, "no cursor"), (4, 5, "no cursor")],
)
def test_a_look_at_the_first_pages_says_where_there_is_more(
    service, connected, max_pages, came, ended
):
    service.serve([record(each) | {"deviceInfo": None} for each in "12345"], per_page=2)
    frame = connected.records(module="101", max_pages=max_pages)
    assert list(frame["record_id"]) == [*"12345"][:came]
    assert kd.ledger(frame)["ended"].tolist() == [ended]
    assert frame.attrs["koodrive"]["complete"] is (ended == "no cursor")
    assert len(service.asked) == -(-came // 2)
    assert set(frame["device_source"]) == {"missing"}


@pytest.mark.parametrize("max_pages", [0, -1, 1.0, "1", True])
def test_an_unfit_number_of_pages_is_refused(service, connected, max_pages):
    with pytest.raises(kd.InvalidParameterError, match="whole number from 1"):
        connected.records(max_pages=max_pages)
    assert service.asked == []


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("records", []),
        ("records_by_id", [["1"]]),
        ("files", ["1"]),
        ("scopes", ["1"]),
        ("configs", ["1"]),
    ],
)
@pytest.mark.parametrize("errors", ["ignore", "coerce", "", None])
def test_there_are_two_ways_with_errors(service, connected, call, arguments, errors):
    with pytest.raises(kd.InvalidParameterError, match='"raise" or "collect"'):
        getattr(connected, call)(*arguments, errors=errors)
    assert service.asked == []


def test_charts_of_a_collected_frame_say_that_it_is_incomplete(service, connected):
    broken = [True]

    def first(asked):
        return (
            service.Answer(b"", 503) if broken and asked.query.get("moduleCode") == "100" else None
        )

    row = record("1") | {"createTime": "2026-01-01T00:00:00Z", "endTime": "2026-01-01T00:01:00Z"}
    service.serve([row], first=first)
    part = connected.records(errors="collect")
    broken.clear()
    whole = connected.records(errors="collect")
    for chart in (kd.charts.status_breakdown, kd.charts.timeline):
        assert "INCOMPLETE" in chart(part).layout.title.subtitle.text
        assert "INCOMPLETE" not in chart(whole).layout.title.subtitle.text


CALLS = {
    "records": lambda client, record_id, device_id: client.records(),
    "devices": lambda client, record_id, device_id: client.devices(),
    "files": lambda client, record_id, device_id: client.files(record_id),
    "scopes": lambda client, record_id, device_id: client.scopes(device_id),
    "configs": lambda client, record_id, device_id: client.configs(device_id),
}


@pytest.mark.parametrize("dataset", CALLS)
def test_frames_have_the_columns_and_types_of_the_schema_however_many_rows(
    client, connected, records, dataset
):
    record_id = records.loc[records["device_id"] == MAGIC, "record_id"].iloc[0]
    full = CALLS[dataset](client, record_id, MAGIC)
    none = CALLS[dataset](connected, "1", "1")
    assert len(full) > 0
    assert len(none) == 0
    assert fits(full, dataset)
    assert fits(none, dataset)
    assert none.attrs["koodrive"]["complete"] is True


@pytest.mark.parametrize("dataset", CALLS)
def test_rows_are_stamped_with_the_time_of_their_answer(service, dataset):
    row = {"recordId": "1", "deviceId": "1", "fileId": "1", "scopeId": "1", "configName": "1"}
    name = "scopeList" if dataset == "scopes" else "data"
    # With its device, lest records are listed by device too.
    service.says({"code": 0, name: [row | {"deviceInfo": {"deviceId": "1"}}]})
    before = pd.Timestamp.now("UTC").floor("ms")
    with service.connect() as client:
        frame = CALLS[dataset](client, "1", "1")
    assert len(frame) > 0
    assert frame["fetched_at"].between(before, pd.Timestamp.now("UTC")).all()


def test_files_are_those_of_the_record_with_sizes_in_bytes(client, records):
    fleet = kd.sandbox.synthetic.users()[kd.sandbox.DEFAULT_USER]
    record_id = records.loc[records["status"] == "completed", "record_id"].iloc[0]
    truth = [json.loads(row) for row in kd.sandbox.contents.files(fleet.record(record_id))]
    frame = client.files(record_id)
    assert list(frame["file_id"]) == [row["fileId"] for row in truth]
    assert list(frame["size_bytes"]) == [row["size"] for row in truth]
    assert list(frame["sha256"]) == [row["sha256"] for row in truth]
    assert set(frame["record_id"]) == {record_id}


@pytest.mark.parametrize("call", ["scopes", "configs"])
def test_what_a_device_backs_up_is_of_all_modules_or_of_one(client, call):
    every = getattr(client, call)(MAGIC)
    assert set(every["device_id"]) == {MAGIC}
    assert set(every["module"]) == {"folder", "album", "address_book"}
    for code, label in zip(MODULES, ["folder", "album", "address_book"], strict=True):
        mine = every[every["module"] == label].reset_index(drop=True)
        assert set(mine["module_code"]) == {code}
        for module in (code, label):
            pd.testing.assert_frame_equal(getattr(client, call)(MAGIC, module), mine)


def test_a_setting_of_two_modules_is_two_and_one_that_comes_twice_is_counted(service, connected):
    def answer(asked):
        row = {"configName": "a", "moduleCode": asked.query["moduleCode"], "deviceId": "7"}
        return service.Answer(
            {"code": 0, "data": [row, row] if row["moduleCode"] == "101" else [row]}
        )

    service.answer = answer
    frame = connected.configs("7")
    assert frame[["module_code", "config_name"]].to_numpy().tolist() == [[m, "a"] for m in MODULES]
    assert kd.ledger(frame)["duplicates"].tolist() == [0, 1, 0]


@pytest.mark.parametrize("module", [None, "album"])
@pytest.mark.parametrize("call", ["files", "scopes", "configs"])
def test_what_belongs_to_nothing_is_not_found(client, call, module):
    arguments = ["1"] if call == "files" else ["1", module]
    with pytest.raises(kd.NotFoundError, match="Check the id"):
        getattr(client, call)(*arguments)


def test_an_app_sees_other_users_over_the_same_connections(client):
    other = client.for_user("crowd")
    assert "user_id='crowd'" in repr(other)
    assert "user_id='1505084218764547200'" in repr(client)
    assert other._service is client._service
    frame = other.devices()
    assert set(frame["user_id"]) == {"crowd"}
    assert not set(frame["device_id"]) & set(client.devices()["device_id"])


def test_a_token_sees_only_its_user(service, connected):
    with pytest.raises(kd.ConfigurationError, match=r"auth=kd\.AppAuth"):
        connected.for_user("43")
    assert service.asked == []
    service.serve([record("1")])
    assert set(connected.for_user("42").records()["user_id"]) == {"42"}


@pytest.mark.parametrize("user_id", ["", "a b", "a\nb", 7, None])
def test_an_unfit_user_is_refused(client, user_id):
    with pytest.raises(kd.InvalidParameterError, match="user id"):
        client.for_user(user_id)
