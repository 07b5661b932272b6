"""Whose records are: rows that do not name their device, and services that do not filter."""

from collections import Counter

import pandas as pd
import pytest

import koodrive_nb as kd

BASE = "/koodrive/ose/v1/backup"
DEVICE_COLUMNS = ["device_id", "device_name", "device_os", "machine_code", "device_create_time"]
DEVICES = [
    {"deviceId": "7", "deviceName": "Seven", "deviceOS": "iOS", "machineCode": "m7"}
    | {"createTime": "2025-01-07T00:00:00Z"},
    {"deviceId": "8", "deviceName": "Eight", "deviceOS": "iOS", "machineCode": "m8"}
    | {"createTime": "2025-01-08T00:00:00Z"},
]


def record(identity, module="101", device="9", owner=None):
    """Give a record that names its device, or, with an owner instead, one that does not."""
    row = {"recordId": identity, "moduleCode": module, "status": 1, "owner": owner or device}
    return row if owner else row | {"deviceInfo": {"deviceId": device}}


def serve(service, rows, *, first=lambda asked: None, filters=True):
    """Answer as the API does from these records, unless `first` has an answer."""
    said = service.Answer

    def answer(asked):
        early = first(asked)
        if early is not None:
            return early
        if asked.path == f"{BASE}/device":
            return said({"code": 0, "data": DEVICES})
        module, device = asked.query["moduleCode"], asked.query.get("deviceId")
        mine = [
            {name: value for name, value in row.items() if name != "owner"}
            for row in rows
            if row["moduleCode"] == module and (not filters or device in {None, row["owner"]})
        ]
        return said({"code": 0, "data": mine})

    service.answer = answer


def fits(frame, dataset="records"):
    schema = kd.schema(dataset)
    dtypes = [str(dtype) for dtype in frame.dtypes]
    return (list(frame.columns), dtypes) == (list(schema["column"]), list(schema["dtype"]))


def incomplete(ask, *arguments, **options):
    with pytest.raises(kd.IncompleteError) as caught:
        ask(*arguments, **options)
    return caught.value


def elsewhere(asked):
    """Tell whether a listing by device is of one that the user does not have."""
    return asked.query.get("deviceId", "7") not in {"7", "8"}


def test_records_that_do_not_name_their_device_get_that_of_the_listing_by_device(
    service, connected
):
    rows = [record("1", owner="7"), record("2", owner="8"), record("3"), record("4", owner="gone")]
    serve(service, [*rows, record("5", "102", owner="8"), record("6", "100")])
    frame = connected.records().set_index("record_id", drop=False)
    assert fits(frame)
    assert dict(frame["device_source"]) == {
        **dict.fromkeys("125", "query"),
        **dict.fromkeys("36", "record"),
        "4": "missing",
    }
    known = connected.devices().set_index("device_id", drop=False)[DEVICE_COLUMNS]
    for identity, device in {"1": "7", "2": "8", "5": "8"}.items():
        assert frame.loc[identity, DEVICE_COLUMNS].equals(known.loc[device])
    assert frame.loc["4", DEVICE_COLUMNS].isna().all()
    assert dict(frame["device_id"].dropna().loc[["3", "6"]]) == {"3": "9", "6": "9"}
    assert frame.attrs["koodrive"]["complete"] is True
    # The module whose records all name their device is not listed by device.
    assert [each.query for each in service.asked if "deviceId" in each.query]
    assert {each.query["moduleCode"] for each in service.asked if "deviceId" in each.query} == {
        "101",
        "102",
    }
    lines = kd.ledger(frame).query("dataset != 'records'")
    assert list(lines["dataset"]) == ["devices", "device labels", "device labels"]


def test_where_every_record_names_its_device_nothing_more_is_asked(service, connected):
    serve(service, [record("1"), record("2", "102")])
    assert set(connected.records()["device_source"]) == {"record"}
    assert sorted(each.query["moduleCode"] for each in service.asked) == ["100", "101", "102"]


def test_a_service_that_ignores_the_device_labels_nothing(service, connected):
    serve(service, [record("1", owner="7"), record("2", owner="8"), record("3")], filters=False)
    frame = connected.records()
    assert frame.set_index("record_id")["device_source"].to_dict() == {
        "1": "missing",
        "2": "missing",
        "3": "record",
    }
    assert frame.loc[frame["record_id"] != "3", DEVICE_COLUMNS].isna().all(axis=None)
    lines = kd.ledger(frame)
    assert "filter ignored" in set(lines.loc[lines["dataset"] == "device labels", "ended"])


@pytest.mark.parametrize("status", [(400, 13000102), (403, 403), (400, 14000001)])
def test_a_refusal_of_the_device_that_does_not_exist_proves_nothing(service, connected, status):
    refusal = service.Answer({"code": status[1], "msg": "no"}, status[0])
    rows = [record("1", owner="7"), record("2", owner="8")]
    serve(service, rows, first=lambda asked: refusal if elsewhere(asked) else None)
    frame = connected.records()
    assert frame["device_id"].isna().all()
    assert frame.attrs["koodrive"]["complete"] is True
    assert "filter unproven" in set(kd.ledger(frame)["ended"])


def test_a_record_that_two_devices_claim_is_of_neither(service, connected):
    rows = [record("1", owner="7"), record("2", owner="7")]
    everywhere = {"code": 0, "data": [{"recordId": "1"}]}

    def first(asked):
        is_known = asked.query.get("deviceId") in {"7", "8"}
        return service.Answer(everywhere) if is_known else None

    serve(service, rows, first=first)
    frame = connected.records(module="101").set_index("record_id")
    assert pd.isna(frame.loc["1", "device_id"])


def test_a_service_that_does_not_find_an_unknown_device_filters(service, connected):
    refusal = service.Answer({"code": 13000309, "msg": "no such device"}, 400)
    rows = [record("1", owner="7"), record("2", owner="8")]
    serve(service, rows, first=lambda asked: refusal if elsewhere(asked) else None)
    frame = connected.records()
    assert list(frame["device_id"]) == ["7", "8"]
    assert frame.attrs["koodrive"]["complete"] is True


def test_records_asked_for_by_device_are_of_that_device(service, connected):
    serve(service, [record("1", owner="7"), record("2", owner="8"), record("3", "102", owner="7")])
    frame = connected.records(device_id="7")
    assert list(frame["record_id"]) == ["1", "3"]
    assert set(frame["device_name"]) == {"Seven"}
    assert set(frame["device_source"]) == {"query"}
    assert fits(frame)
    listed = Counter(each.query.get("deviceId") for each in service.asked)
    assert (listed["7"], listed["8"], listed[None]) == (3, 0, 1)


@pytest.mark.parametrize("what", ["devices", "probe", "listing"])
def test_rows_are_kept_where_their_devices_cannot_be_learnt_and_are_labelled_later(
    service, connected, what
):
    is_hit = {
        "devices": lambda asked: asked.path.endswith("/device"),
        "probe": elsewhere,
        "listing": lambda asked: asked.query.get("deviceId") == "8",
    }[what]
    rows = [record("1", owner="7"), record("2", owner="8"), record("3")]
    serve(service, rows, first=lambda asked: service.Answer(b"", 503) if is_hit(asked) else None)
    error = incomplete(connected.records, module="101")
    assert list(error.frame["record_id"]) == ["1", "2", "3"]
    assert pd.isna(error.frame["device_id"].iloc[1])
    assert fits(error.frame)
    assert len(error.failures) == 1
    assert error.frame.attrs["koodrive"]["complete"] is False
    service.asked.clear()
    serve(service, rows)
    whole = error.resume()
    assert not [
        each
        for each in service.asked
        if each.query.get("moduleCode") and not each.query.get("deviceId")
    ]
    pd.testing.assert_frame_equal(whole, connected.records(module="101"))
    assert list(whole["device_id"]) == ["7", "8", "9"]
    assert kd.ledger(whole)["complete"].all()


ALIEN = {
    "records, module": ("records", {"module": "album"}, {"recordId": "1", "moduleCode": "100"}),
    "records, device": (
        "records",
        {"device_id": "7"},
        {"recordId": "1", "deviceInfo": {"deviceId": "8"}},
    ),
    "records, device unnamed": ("records", {"device_id": "7"}, {"recordId": "1"}),
    "scopes, module": (
        "scopes",
        {"device_id": "7", "module": "album"},
        {"scopeId": "1", "moduleCode": "100"},
    ),
    "configs, module": (
        "configs",
        {"device_id": "7", "module": "album"},
        {"configName": "a", "moduleCode": "100", "deviceId": "7"},
    ),
    "configs, device": (
        "configs",
        {"device_id": "7"},
        {"configName": "a", "moduleCode": "100", "deviceId": "8"},
    ),
}


@pytest.mark.parametrize("case", ALIEN)
def test_rows_that_were_not_asked_for_are_an_error(service, connected, case):
    call, arguments, row = ALIEN[case]

    def answer(asked):
        rows = DEVICES if asked.path.endswith("/device") else [row]
        return service.Answer({"code": 0, "scopeList" if call == "scopes" else "data": rows})

    service.answer = answer
    with pytest.raises(kd.KooDriveError, match="not filter") as caught:
        getattr(connected, call)(**arguments)
    assert len(getattr(caught.value, "frame", [])) == 0
