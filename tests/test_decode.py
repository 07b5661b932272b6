"""What becomes of rows that do not fit: nothing is lost, and nothing is silent."""

import json

import pandas as pd
import pytest

import koodrive_nb as kd

GOOD = {"recordId": "1", "moduleCode": "101", "status": 1, "createTime": "2025-12-17T07:59:20.752Z"}
DEVICE = {"deviceId": "9", "machineCode": "m", "deviceName": "n", "deviceOS": "o"}


def fetched(service, rows):
    service.lists(rows)
    with service.connect() as client:
        frame = client.records()
    lines = kd.ledger(frame)
    return frame, lines[lines["dataset"] == "records"].set_index("module").loc["album"]


@pytest.mark.parametrize(
    ("change", "column", "value", "extra"),
    [
        ({"recordId": 1842862763295184641}, "record_id", "1842862763295184641", None),
        ({"moduleCode": 101}, "module_code", "101", None),
        ({"status": "1"}, "status_code", pd.NA, '{"status":"1"}'),
        ({"status": 1.5}, "status_code", pd.NA, '{"status":1.5}'),
        ({"status": True}, "status_code", pd.NA, '{"status":true}'),
        ({"version": 2**70}, "version", pd.NA, '{"version":1180591620717411303424}'),
        ({"properties": {"a": 1}}, "properties", pd.NA, '{"properties":{"a": 1}}'),
        ({"createTime": "yesterday"}, "create_time", pd.NaT, '{"createTime":"yesterday"}'),
        ({"createTime": 1765958360752}, "create_time", pd.NaT, '{"createTime":1765958360752}'),
        ({"deviceInfo": []}, "device_id", pd.NA, '{"deviceInfo":[]}'),
        ({"brandNew": {"x": [1]}}, "record_id", "1", '{"brandNew":{"x": [1]}}'),
        (
            {"deviceInfo": DEVICE | {"colour": "red"}},
            "device_id",
            "9",
            '{"deviceInfo.colour":"red"}',
        ),
    ],
)
def test_what_does_not_fit_becomes_missing_and_its_text_is_kept(
    service, change, column, value, extra
):
    frame, _ = fetched(service, [GOOD | change, GOOD | {"recordId": "2"}])
    row = frame.set_index("record_id").loc[str((GOOD | change)["recordId"])]
    row["record_id"] = row.name
    assert (pd.isna(row[column]) and pd.isna(value)) or row[column] == value
    assert (pd.isna(row["extra"]) and extra is None) or row["extra"] == extra
    assert len(frame) == 2


@pytest.mark.parametrize(
    ("text", "instant", "bent"),
    [
        ("2025-12-17T07:59:20.752Z", "2025-12-17T07:59:20.752Z", 0),
        ("2025-12-17T07:59:20Z", "2025-12-17T07:59:20Z", 0),
        ("2025-12-17T15:59:20.752+08:00", "2025-12-17T07:59:20.752Z", 0),
        ("2025-12-17T07:59:20.752", "2025-12-17T07:59:20.752Z", 1),
        ("2025-12-17T07:59:20.752999Z", "2025-12-17T07:59:20.752Z", 1),
        ("", None, 1),
        (None, None, 0),
    ],
)
def test_times_are_read_in_every_documented_form_and_bent_ones_are_counted(
    service, text, instant, bent
):
    frame, line = fetched(service, [GOOD | {"createTime": text}])
    found = frame["create_time"].iloc[0]
    assert pd.isna(found) if instant is None else found == pd.Timestamp(instant)
    assert line["coerced"] == bent
    assert frame["extra"].isna().all()


@pytest.mark.parametrize(
    "row", [b"null", b"7", b'"text"', b"[1]", b"{}", b'{"status":1}', b'{"recordId":null}']
)
def test_only_what_is_no_object_or_has_no_id_is_set_aside_and_its_text_is_kept(service, row):
    frame, line = fetched(service, [GOOD, row])
    assert list(frame["record_id"]) == ["1"]
    assert (line["rows"], line["set_aside"]) == (2, 1)
    assert kd.ledger(frame).attrs["set_aside"] == [row.decode()]


@pytest.mark.parametrize("identity", ["", 1.5, True, ["1"], {"a": 1}])
def test_an_id_that_is_none_is_set_aside(service, identity):
    frame, line = fetched(service, [GOOD, GOOD | {"recordId": identity}])
    assert (len(frame), line["set_aside"]) == (1, 1)


def test_one_bad_row_among_many_costs_only_itself(service):
    rows = [GOOD | {"recordId": str(number)} for number in range(1000)]
    rows[437] |= {"status": "odd", "brandNew": 1}
    frame, line = fetched(service, rows)
    assert len(frame) == 1000
    assert frame["extra"].count() == 1
    assert json.loads(frame["extra"].dropna().iloc[0]) == {"status": "odd", "brandNew": 1}
    assert frame["status_code"].isna().sum() == 1
    assert (line["rows"], line["set_aside"]) == (1000, 0)


@pytest.mark.parametrize("missing", ["status", "createTime", "endTime", "deviceInfo", "moduleCode"])
def test_a_field_may_be_absent_or_null(service, missing):
    row = {name: value for name, value in GOOD.items() if name != missing}
    frame, line = fetched(service, [row, GOOD | {"recordId": "2", missing: None}])
    assert len(frame) == 2
    assert frame["extra"].isna().all()
    assert line["coerced"] == 0


def test_line_breaks_between_tokens_change_nothing(service):
    frame, _ = fetched(service, [json.dumps(GOOD, indent=2).replace("\n", "\r\n").encode()])
    assert list(frame["record_id"]) == ["1"]


def test_unknown_codes_are_kept_and_shown_as_unknown(service):
    frame, _ = fetched(service, [GOOD | {"status": 3, "moduleCode": "999"}])
    row = frame.iloc[0]
    assert (row["status"], row["status_code"]) == ("unknown", 3)
    assert (row["module"], row["module_code"]) == ("unknown", "999")


def test_a_duplicate_keeps_the_highest_status_then_the_newest_version_and_is_counted(service):
    rows = [
        GOOD | {"status": 1, "version": 5},
        GOOD | {"status": 2, "version": 1},
        GOOD | {"status": 2, "version": 3},
        GOOD | {"status": 0, "version": 9},
        GOOD | {"recordId": "2", "status": None},
        GOOD | {"recordId": "2", "status": 0},
    ]
    frame, line = fetched(service, rows)
    assert list(frame["record_id"]) == ["1", "2"]
    assert list(frame["status_code"]) == [2, 0]
    assert list(frame["version"].fillna(0)) == [3, 0]
    assert (line["rows"], line["duplicates"]) == (6, 4)


def test_a_device_listed_twice_is_one_device(service):
    service.says({"code": 0, "data": [DEVICE, DEVICE | {"deviceName": "newer"}]})
    with service.connect() as client:
        frame = client.devices()
    assert list(frame["device_name"]) == ["newer"]
    assert kd.ledger(frame)["duplicates"].iloc[0] == 1


def test_rows_come_by_creation_time_then_id_with_the_undated_last(service):
    rows = [
        GOOD | {"recordId": "3", "createTime": None},
        GOOD | {"recordId": "2"},
        GOOD | {"recordId": "1"},
        GOOD | {"recordId": "4", "createTime": "2020-01-01T00:00:00Z"},
    ]
    frame, _ = fetched(service, rows)
    assert list(frame["record_id"]) == ["4", "1", "2", "3"]


def test_duration_is_end_minus_creation_in_seconds_even_when_the_clock_went_back(service):
    rows = [
        GOOD | {"endTime": "2025-12-17T08:00:20.753Z"},
        GOOD | {"recordId": "2", "endTime": "2025-12-17T07:59:20.252Z"},
        GOOD | {"recordId": "3"},
    ]
    frame, _ = fetched(service, rows)
    assert list(frame["duration_s"].fillna(0)) == [60.001, -0.5, 0]


def test_text_survives_as_it_was_sent(service):
    name = 'Ключ 🔑 \u202e\u0000 <b>x</b> =1+1 " \\ \n'
    frame, _ = fetched(service, [GOOD | {"deviceInfo": DEVICE | {"deviceName": name}}])
    assert frame["device_name"].iloc[0] == name


@pytest.mark.parametrize("row", [b'{"recordId":"1","x":' + b"[" * 500 + b"]" * 500 + b"}"])
def test_deep_nesting_in_an_unknown_field_is_kept_as_text(service, row):
    frame, _ = fetched(service, [row])
    assert frame["extra"].iloc[0] == row.decode().replace('"recordId":"1",', "")


@pytest.mark.parametrize(
    "text",
    [
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-12:00",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "0000-01-01T00:00:00Z",
    ],
)
def test_a_time_that_no_zone_can_show_is_missing_and_its_text_kept(service, text):
    frame, _ = fetched(service, [GOOD | {"createTime": text}])
    assert frame["create_time"].isna().all()
    assert json.loads(frame["extra"].iloc[0]) == {"createTime": text}
    assert text in frame.to_string()


@pytest.mark.parametrize(
    "row",
    [
        b'{"recordId":"1","status":1,"status":2}',
        b'{"recordId":"2","recordId":"1"}',
        b'{"recordId":"1","deviceInfo":{"deviceId":"8","deviceId":"9"}}',
        b'{"recordId":"1","new":1,"new":2}',
    ],
)
def test_of_a_name_that_stands_twice_the_other_value_is_kept_too(service, row):
    frame, line = fetched(service, [row])
    assert list(frame["record_id"]) == ["1"]
    assert json.loads(frame["extra"].iloc[0])["row as sent"] == row.decode()
    assert line["coerced"] == 1


def test_a_name_with_a_dot_is_not_taken_for_a_nested_field(service):
    row = {"recordId": "1", "deviceInfo.deviceId": "evil", "deviceInfo": {"deviceId": "good"}}
    frame, _ = fetched(service, [row, {"recordId": "2", "deviceInfo.deviceId": "evil"}])
    assert frame["device_id"].fillna("").tolist() == ["good", ""]
    assert [json.loads(text) for text in frame["extra"]] == [{"deviceInfo.deviceId": "evil"}] * 2


def test_the_newest_version_is_found_among_numbers_that_floats_confuse(service):
    rows = [
        GOOD | {"version": 9007199254740993, "properties": "newer"},
        GOOD | {"version": 9007199254740992, "properties": "older"},
        GOOD | {"recordId": "2", "version": None},
    ]
    frame, _ = fetched(service, rows)
    assert frame["properties"].iloc[0] == "newer"
