import datetime as dt

import pandas as pd
import pytest

import koodrive_nb as kd

DEVICE = "1000000000000000001"


def lanes(frame, *, since=None, **options):
    return kd.analysis.timeline(frame, since=since, **options)


def devices_of(frame, bound="2025-10-01T00:00Z", identity=DEVICE):
    return pd.DataFrame(
        {
            "user_id": ["u"],
            "device_id": [identity],
            "device_name": ["phone"],
            "device_create_time": [pd.Timestamp(bound)],
            "fetched_at": [frame["fetched_at"].max()],
        }
    )


def test_a_backup_reaches_from_creation_to_its_end(make):
    frame = make({"create_time": "2025-12-16T01:00Z", "end_time": "2025-12-16T01:05Z"})
    row = lanes(frame).iloc[0]
    assert (row["kind"], row["state"], row["record_id"]) == ("backup", "completed", "0")
    assert row["shown_until"] == pd.Timestamp("2025-12-16T01:05Z")
    assert row["duration_s"] == 300


def test_an_open_backup_reaches_to_its_now_and_no_end_is_invented(make):
    row = lanes(make({"status_code": 0, "create_time": "2025-12-17T08:00Z"})).iloc[0]
    assert row["state"] == "in_progress"
    assert row["shown_until"] == pd.Timestamp("2025-12-17T08:30Z")
    assert pd.isna(row["end_time"])
    assert pd.isna(row["duration_s"])


def test_a_superseded_backup_reaches_to_the_one_that_superseded_it(make):
    frame = make(
        {"status_code": 0, "create_time": "2025-12-10T00:00Z"},
        {"create_time": "2025-12-11T00:00Z", "end_time": "2025-12-11T00:01Z"},
        {"create_time": "2025-12-12T00:00Z", "end_time": "2025-12-12T00:01Z"},
    )
    assert lanes(frame).iloc[0]["shown_until"] == pd.Timestamp("2025-12-11T00:00Z")


def test_an_end_before_its_creation_is_drawn_as_an_instant_and_kept(make):
    frame = make({"create_time": "2025-12-16T01:00Z", "end_time": "2025-12-16T00:00Z"})
    row = lanes(frame).iloc[0]
    assert row["shown_until"] == row["create_time"]
    assert row["duration_s"] == -3600


def gaps_of(frame, **options):
    table = lanes(frame, **options)
    gaps = table[table["kind"] == "gap"]
    return [
        (str(row.create_time)[:10], str(row.shown_until)[:10], pd.isna(row.end_time))
        for row in gaps.itertuples()
    ]


def test_a_gap_is_a_stretch_without_a_completed_backup_of_any_module(make):
    frame = make(
        {"create_time": "2025-11-01T00:00Z"},
        {"create_time": "2025-11-05T00:00Z", "module": "folder"},
        {"create_time": "2025-11-20T00:00Z", "status_code": 0},
        {"create_time": "2025-12-01T00:00Z"},
        {"create_time": "2025-12-05T00:00Z", "status_code": 2, "end_time": "2025-12-05T00:01Z"},
    )
    assert gaps_of(frame) == [
        ("2025-11-05", "2025-12-01", False),
        ("2025-12-05", "2025-12-17", True),
    ]
    assert gaps_of(frame, gap_after="20D") == [("2025-11-05", "2025-12-01", False)]
    assert gaps_of(frame, gap_after="60D") == []


def test_a_device_that_never_backed_up_is_a_gap_since_it_was_bound(make):
    frame = make({"device_id": "2"})
    table = lanes(frame, devices=devices_of(frame))
    row = table[table["device_id"] == DEVICE].iloc[0]
    assert (row["kind"], row["lane"]) == ("gap", 0)
    assert row["create_time"] == pd.Timestamp("2025-10-01T00:00Z")
    assert row["device_label"] == "phone ·0001"


def test_a_device_just_bound_is_waiting(make):
    frame = make({"device_id": "2"})
    table = lanes(frame, devices=devices_of(frame, bound="2025-12-16T00:00Z"))
    assert list(table[table["device_id"] == DEVICE]["kind"]) == ["waiting"]
    later = lanes(frame, devices=devices_of(frame, bound="2025-12-16T00:00Z"), gap_after="1h")
    assert list(later[later["device_id"] == DEVICE]["kind"]) == ["gap"]


def test_as_of_ends_the_gaps_of_devices_without_records_too(make):
    frame = make({"device_id": "2"})
    options = {"devices": devices_of(frame), "as_of": "2025-11-01T00:00Z"}
    table = lanes(frame, **options)
    silent = table[table["device_id"] == DEVICE].iloc[0]
    assert silent["shown_until"] == pd.Timestamp("2025-11-01T00:00Z")


def test_the_longest_exposed_device_comes_first_and_the_unknown_one_last(make):
    frame = make(
        {"device_id": None, "create_time": "2025-01-01T00:00Z"},
        {"device_id": "1", "create_time": "2025-12-16T00:00Z"},
        {"device_id": "2", "create_time": "2025-12-10T00:00Z"},
        {"device_id": "2", "create_time": "2025-12-17T00:00Z", "status_code": 0},
        {"device_id": "3", "create_time": "2025-12-01T00:00Z", "status_code": 2},
    )
    table = lanes(frame, gap_after="900D")
    assert list(dict.fromkeys(table["device_id"].fillna("?"))) == ["3", "2", "1", "?"]


def test_the_same_device_id_of_two_users_is_two_lanes(make):
    table = lanes(make({"user_id": "u"}, {"user_id": "v"}))
    assert list(table["lane"]) == [0, 1]


def test_lanes_and_marks_above_the_limit_are_left_out_and_counted(make):
    rows = [
        {"device_id": str(device), "create_time": f"2025-12-{day:02d}T00:00Z"}
        for device in range(5)
        for day in range(1, 11)
    ]
    table = lanes(make(*rows), max_lanes=3, max_marks=12, gap_after="90D")
    about = table.attrs["koodrive"]
    assert table["lane"].nunique() == 3
    assert (about["n_lanes_left_out"], about["n_marks"], about["n_marks_left_out"]) == (2, 12, 18)
    assert table["create_time"].min() == pd.Timestamp("2025-12-07T00:00Z")
    assert about["cut_at"] == "2025-12-07T00:00:00+00:00"


def test_the_window_keeps_backups_that_reach_into_it(make):
    frame = make(
        {"create_time": "2025-12-01T00:00Z", "end_time": "2025-12-01T01:00Z"},
        {"create_time": "2025-12-02T23:00Z", "end_time": "2025-12-03T01:00Z"},
        {"create_time": "2025-12-05T00:00Z", "end_time": "2025-12-05T01:00Z"},
    )
    table = lanes(frame, since="2025-12-03", until="2025-12-05T00:00Z")
    assert list(table["record_id"]) == ["1"]


@pytest.mark.parametrize(
    "since",
    ["2025-12-03", dt.date(2025, 12, 3), dt.datetime(2025, 12, 3), "2025-12-02T16:00Z"],  # noqa: DTZ001 -- without a zone is the point
    ids=["text", "date", "datetime", "with zone"],
)
def test_a_bound_without_a_zone_is_meant_in_the_display_zone(make, since):
    table = lanes(make({}), since=since, tz="Asia/Shanghai")
    assert table.attrs["koodrive"]["since"] == "2025-12-02T16:00:00+00:00"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"form": "gantt"}, "auto, lanes, flow"),
        ({"max_lanes": 0}, "max_lanes= takes a whole number"),
        ({"max_marks": 1.5}, "max_marks= takes a whole number"),
        ({"max_marks": True}, "max_marks= takes a whole number"),
        ({"since": "2025-12-05", "until": "2025-12-01"}, "since= must lie before until="),
        ({"since": "soon"}, "since= takes an instant"),
        ({"gap_after": "a week"}, "gap_after= takes a positive duration"),
        ({"tz": "Mars"}, "no time zone"),
        ({"devices": [1]}, "Pass devices as a pandas"),
    ],
    ids=str,
)
def test_unfit_options_are_refused_with_what_they_take(records, options, says):
    with pytest.raises(kd.InvalidParameterError, match=says):
        kd.analysis.timeline(records, **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"since": None},
        {"since": "2025-12-01", "max_lanes": 4, "max_marks": 40},
        {"form": "flow", "tz": "Europe/Berlin", "since": None},
        {"form": "flow", "tz": "America/St_Johns", "since": "2025-12-15T00:00Z"},
    ],
    ids=["lanes", "everything", "limited", "flow", "hours"],
)
def test_every_engine_gives_the_same_timeline(records, devices, engine, options):
    expected = kd.analysis.timeline(records, devices=devices, **options)
    found = kd.analysis.timeline(engine(records), devices=engine(devices), **options)
    pd.testing.assert_frame_equal(found, expected)
    assert len(expected)


def test_the_window_is_the_last_two_weeks_unless_another_is_asked_for(records):
    table = kd.analysis.timeline(records)
    start = pd.Timestamp("2025-12-03T08:30Z")
    backups = table[table["kind"] == "backup"]
    assert table.attrs["koodrive"]["since"] == start.isoformat()
    assert backups["shown_until"].min() >= start
    assert len(backups) < len(records) == len(lanes(records).query("kind == 'backup'"))


def test_no_records_give_an_empty_table_of_the_same_types(records, devices):
    empty = kd.analysis.timeline(records.head(0))
    assert len(empty) == 0
    assert list(empty.dtypes.astype(str)) == list(
        kd.analysis.timeline(records, devices=devices).dtypes.astype(str)
    )
    flow = kd.analysis.timeline(records.head(0), form="flow")
    assert list(flow.columns) == list(kd.analysis.activity(records).columns)
    assert len(flow) == 0


def test_fleets_become_flows_by_themselves(make):
    frame = make(*({"device_id": str(number)} for number in range(1001)))
    assert kd.analysis.timeline(frame).attrs["koodrive"]["form"] == "flow"
    assert kd.analysis.timeline(frame.head(1000)).attrs["koodrive"]["form"] == "lanes"
    assert kd.analysis.timeline(frame, form="lanes").attrs["koodrive"]["form"] == "lanes"


@pytest.mark.parametrize("since", [None, "14D"])
def test_a_flow_is_the_activity_of_its_window(records, since):
    flow = kd.analysis.timeline(records, form="flow", since=since, tz="Europe/Berlin")
    pd.testing.assert_frame_equal(
        flow, kd.analysis.activity(records, since=since, tz="Europe/Berlin")
    )


def test_undated_records_are_left_out_without_an_error(make):
    frame = make({"create_time": None}, {"create_time": None, "status_code": 0})
    assert len(lanes(frame)) == 0
    assert len(lanes(frame, form="flow")) == 0


def test_marks_that_are_left_out_make_no_gap(make):
    quiet = [{"device_id": "1", "create_time": f"2025-11-{day:02d}T00:00Z"} for day in range(1, 29)]
    busy = [
        {
            "device_id": "2",
            "create_time": pd.Timestamp("2025-12-10T00:00Z") + pd.Timedelta(minutes=n),
        }
        for n in range(60)
    ]
    table = lanes(make(*quiet, *busy), max_marks=10, gap_after="5D")
    gaps = table[(table["kind"] == "gap") & (table["device_id"] == "1")]
    assert [str(start)[:10] for start in gaps["create_time"]] == ["2025-11-28"]
    assert table.attrs["koodrive"]["n_marks_left_out"] == 78


def test_undated_and_future_records_are_counted_and_no_gap_is_claimed_from_them(make):
    frame = make(
        {"device_id": "1", "create_time": None},
        {"device_id": "1", "create_time": "2025-11-01T00:00Z"},
        {"device_id": "2", "create_time": "2099-01-01T00:00Z"},
        {"device_id": "2", "create_time": "2025-11-01T00:00Z"},
    )
    table = lanes(frame)
    about = table.attrs["koodrive"]
    assert (about["n_undated"], about["n_later"], about["n_marks"]) == (1, 1, 2)
    gaps = table[table["kind"] == "gap"]
    assert list(gaps["device_id"]) == ["2"]
    assert gaps["shown_until"].iloc[0] == pd.Timestamp("2025-12-17T08:30Z")
    assert gaps["end_time"].isna().all()


def test_what_came_after_as_of_is_not_drawn(make):
    frame = make({"create_time": "2025-09-01T00:00Z"}, {"create_time": "2025-12-01T00:00Z"})
    table = lanes(frame, as_of="2025-10-01")
    assert list(table[table["kind"] == "backup"]["record_id"]) == ["0"]


def test_a_record_without_a_module_has_a_lane_too(make):
    frame = make({"module": None})
    assert list(lanes(frame)["module"]) == ["unknown"]


def test_a_window_changes_no_mark_that_it_shows(records, devices):
    whole = lanes(records, devices=devices).set_index("record_id")["shown_until"]
    for window in ({"since": "2025-12-14"}, {"until": "2025-10-20"}, {"max_marks": 60}):
        part = lanes(records, devices=devices, **window)
        part = part[part["kind"] == "backup"].set_index("record_id")["shown_until"]
        assert len(part)
        assert list(part) == list(whole[part.index])
    three_days = lanes(records, devices=devices, since="2025-12-14T08:30Z")
    assert (three_days[three_days["kind"] == "backup"]["shown_until"] >= "2025-12-14T08:30Z").all()


@pytest.mark.parametrize("status", [1, 2, 7])
def test_only_what_may_be_running_reaches_to_now(make, status):
    row = lanes(make({"create_time": "2025-12-01T00:00Z", "status_code": status})).iloc[0]
    assert row["shown_until"] == row["create_time"]


def test_a_device_listed_twice_is_one_lane(records, devices):
    twice = pd.concat([devices, devices])
    found = lanes(records, devices=twice)
    pd.testing.assert_frame_equal(found, lanes(records, devices=devices))


def test_devices_bound_after_as_of_are_not_there_yet(make):
    frame = make({"device_id": "2", "create_time": "2025-09-01T00:00Z"})
    options = {"devices": devices_of(frame, bound="2025-12-01T00:00Z"), "as_of": "2025-10-01"}
    assert DEVICE not in set(lanes(frame, **options)["device_id"])


def test_devices_without_any_record_still_have_their_now(records, devices):
    about = lanes(records.head(0), devices=devices).attrs["koodrive"]
    assert about["as_of"] == "2025-12-17T08:30:00+00:00"


def test_of_too_many_lanes_those_without_records_in_the_window_are_left_out_first(make):
    frame = make(
        {"device_id": "1", "create_time": "2025-06-01T00:00Z"},
        # A wrong clock puts nothing into the window.
        {"device_id": "1", "create_time": "2025-12-18T00:00Z"},
        {"device_id": "2", "create_time": "2025-12-10T00:00Z", "status_code": 0},
        {"device_id": "3", "create_time": "2025-12-16T00:00Z"},
    )
    shown = [
        list(dict.fromkeys(lanes(frame, since="14D", max_lanes=most)["device_id"]))
        for most in (1, 2, 3)
    ]
    assert shown == [["2"], ["2", "3"], ["1", "2", "3"]]
