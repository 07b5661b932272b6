import itertools
import math

import duckdb
import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import koodrive_nb as kd
from koodrive_nb.analysis.activities import records_behind
from koodrive_nb.analysis.rules import STATES, lazy

COUNTS = ["created", "ended", "presumed_stuck", "open"]


def whole(frame, **options):
    return kd.analysis.activity(frame, **({"since": None} | options))


def test_created_minus_ended_minus_stuck_is_what_is_open(make):
    frame = make(
        {"create_time": "2025-12-10T10:00Z", "end_time": "2025-12-10T11:00Z"},
        {"create_time": "2025-12-10T23:30Z", "end_time": "2025-12-11T00:30Z"},
        {"create_time": "2025-12-11T10:00Z", "status_code": 0},
        {"create_time": "2025-12-13T10:00Z", "end_time": "2025-12-13T09:00Z"},
        {"create_time": "2025-12-17T08:20Z", "status_code": 0},
    )
    table = whole(frame).set_index("bin_start")
    assert len(table) == 8
    by_day = {f"{day:%d}": list(counts) for day, *counts in table[COUNTS].itertuples()}
    assert by_day["10"] == [2, 1, 0, 1]
    assert by_day["11"] == [1, 1, 0, 1]
    # Open for more than 24 h: presumed stuck the day after, so that it is not open for ever.
    assert by_day["12"] == [0, 0, 1, 0]
    assert by_day["13"] == [1, 1, 0, 0]
    assert by_day["17"] == [1, 0, 0, 1]


def test_a_deleted_backup_without_end_does_not_stay_open(make):
    table = whole(make({"create_time": "2025-12-01T00:00Z", "status_code": 2}))
    assert list(table["open"])[-1] == 0
    assert table["presumed_stuck"].sum() == 1


@pytest.mark.parametrize(
    ("tz", "day"),
    [("UTC", "2025-10-25T00:00Z"), ("Europe/Berlin", "2025-10-25T22:00Z")],
)
def test_days_are_local_days(make, tz, day):
    table = whole(make({"create_time": "2025-10-25T22:30Z"}), tz=tz)
    assert table["bin_start"].iloc[0] == pd.Timestamp(day)


def test_the_day_of_the_clock_change_has_25_hours(make):
    rows = [{"create_time": f"2025-10-{day}T12:00Z"} for day in (24, 25, 26, 27)]
    starts = whole(make(*rows), tz="Europe/Berlin")["bin_start"].head(4)
    assert [span / pd.Timedelta("1h") for span in starts.diff().dropna()] == [24, 24, 25]


@pytest.mark.parametrize(
    ("first", "unit"),
    [
        ("2025-12-15T00:00Z", "hour"),
        ("2025-12-01T00:00Z", "day"),
        ("2023-12-01T00:00Z", "week"),
        ("2022-01-01T00:00Z", "month"),
    ],
)
def test_bins_grow_with_the_span_and_are_named(make, first, unit):
    table = whole(make({"create_time": first}, {}))
    assert table.attrs["koodrive"]["bin"] == unit
    assert table["created"].sum() == 2
    if unit == "week":
        assert set(table["bin_start"].dt.day_of_week) == {0}


def test_a_window_keeps_its_bins_and_counts_what_was_open_before(make):
    rows = [
        {"create_time": "2025-12-09T23:00Z", "end_time": "2025-12-12T01:00Z"},
        {"create_time": "2025-12-01T00:00Z", "end_time": "2025-12-01T01:00Z"},
        {"create_time": "2025-12-11T10:00Z", "end_time": "2025-12-11T11:00Z"},
    ]
    table = whole(make(*rows), since="2025-12-10", until="2025-12-14")
    assert list(table["bin_start"].dt.day) == [10, 11, 12, 13]
    assert table["created"].sum() == 1
    assert table["ended"].sum() == 2
    assert list(table["open"])[-1] == 0


def test_an_engine_whose_session_is_not_in_utc_is_refused_with_the_mend(records):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'Asia/Shanghai'")
    connection.register("records", pl.from_pandas(records).to_arrow())
    with pytest.raises(kd.ConfigurationError, match="SET TimeZone = 'UTC'"):
        whole(connection.table("records"))


@pytest.mark.parametrize("window", [{"since": "2026-01-01"}, {"until": "2020-01-01"}], ids=str)
def test_a_window_without_any_backup_has_no_counts(records, window):
    table = whole(records, **window)
    assert table[["created", "ended", "presumed_stuck", "open"]].to_numpy().sum() == 0


@pytest.mark.parametrize("tz", ["UTC", "America/New_York", "Europe/London"])
@pytest.mark.parametrize("old", ["1970-01-01T00:00Z", "1900-01-01T00:00Z", "1700-01-01T00:00Z"])
def test_a_record_with_a_wrong_clock_does_not_stretch_the_table(make, old, tz):
    frame = make({"create_time": old, "status_code": 0}, {"create_time": "2025-12-01"})
    table = whole(frame, tz=tz)
    assert len(table) <= 262
    assert table["created"].sum() == 1
    assert table.attrs["koodrive"]["cut_at"].startswith("2020-12-17")
    assert list(table["open"])[-1] == 0


@pytest.mark.parametrize("day", ["2025-03-30", "2025-10-26"])
def test_hours_stay_hours_when_the_clock_changes(make, day):
    start = pd.Timestamp(f"{day}T00:00Z") - pd.Timedelta("12h")
    rows = [{"create_time": start + pd.Timedelta(hours=n)} for n in range(30)]
    frame = make(*rows, now=start + pd.Timedelta("30h"))
    table = whole(frame, tz="Europe/Berlin")
    assert table.attrs["koodrive"]["bin"] == "hour"
    assert set(table["bin_start"].diff().dropna()) == {pd.Timedelta("1h")}
    assert set(table["created"].head(30)) == {1}


def test_completed_without_an_end_is_over(make):
    table = whole(make({"create_time": "2025-12-01T00:00Z", "status_code": 1}))
    assert set(table["open"]) == {0}


def test_the_window_is_by_default_the_last_8_full_weeks_and_the_running_one(make):
    table = kd.analysis.activity(make({}), tz="Europe/Berlin", bin="week")
    begun = table["bin_start"].dt.tz_convert("Europe/Berlin")
    assert begun.iloc[0] == pd.Timestamp("2025-10-20", tz="Europe/Berlin")
    assert set(begun.dt.day_of_week) == {0}
    assert list(table["is_partial"]) == [False] * 8 + [True]


def test_no_week_runs_on_a_monday_at_midnight(make):
    frame = make({}, now=pd.Timestamp("2025-12-15T00:00Z"))
    table = kd.analysis.activity(frame, bin="week")
    assert len(table) == 8
    assert not table["is_partial"].any()
    assert table["created"].sum() == 1


def test_what_happened_at_the_very_now_is_counted(make):
    now = pd.Timestamp("2025-12-15T00:00Z")
    table = whole(make({}, {"create_time": now, "status_code": 0}, now=now))
    assert table["created"].sum() == 2
    assert list(table["open"])[-1] == 1


@pytest.mark.parametrize(
    ("tz", "day", "hours"),
    [
        ("Europe/Berlin", "2025-03-30", 23),
        ("Europe/Berlin", "2025-10-26", 25),
        ("Australia/Lord_Howe", "2025-04-06", 24.5),
        ("Australia/Lord_Howe", "2025-10-05", 23.5),
        ("Asia/Shanghai", "2025-03-30", 24),
    ],
)
@pytest.mark.parametrize("width", ["day", "6h", "hour", "15min"])
def test_bins_follow_the_clock_on_the_wall_above_an_hour_and_time_itself_below(
    make, tz, day, hours, width
):
    begin = pd.Timestamp(day, tz=tz)
    end = begin + pd.Timedelta(hours=hours)
    every = pd.date_range(begin, end, freq="10min", inclusive="left")
    frame = make(*({"create_time": stamp} for stamp in every), now=end)
    table = kd.analysis.activity(frame, bin=width, tz=tz, since=day, until=end)
    spans = (table["bin_end"] - table["bin_start"]) / pd.Timedelta("1h")
    assert table["created"].sum() == len(every) == hours * 6
    assert list(table["bin_end"].iloc[:-1]) == list(table["bin_start"].iloc[1:])
    for row in table.to_dict("records"):
        inside = (every >= row["bin_start"]) & (every < row["bin_end"])
        assert row["created"] == inside.sum()
    if width == "day":
        assert list(spans) == [hours]
    elif width == "6h":
        assert list(spans) == [hours - 18, 6, 6, 6]
    else:
        assert set(spans) == {{"hour": 1, "15min": 0.25}[width]}


def test_months_are_months(make):
    frame = make(*({"create_time": f"2025-{month:02d}-28T23:30Z"} for month in range(1, 13)))
    table = whole(frame, bin="month", tz="Europe/Berlin", as_of="2025-12-17")
    begun = table["bin_start"].dt.tz_convert("Europe/Berlin")
    assert list(begun.dt.month) == list(range(1, 13))
    assert set(begun.dt.day) == {1}
    # The 28th of February ends at half past midnight of the first of March.
    assert list(table["created"]) == [1, 0, 2, *[1] * 8, 0]


def test_days_that_nobody_used_are_shown(make):
    table = kd.analysis.activity(make({}), since="2025-12-01", until="2025-12-11")
    assert len(table) == 10
    assert table["created"].sum() == 0
    assert table["settled_share"].isna().all()


def test_a_bin_cut_by_the_window_counts_only_what_is_inside_and_is_marked(make):
    rows = [{"create_time": f"2025-12-10T{hour:02d}:00Z"} for hour in range(24)]
    table = kd.analysis.activity(
        make(*rows), since="2025-12-10T06:00", until="2025-12-11T12:00", bin="day"
    )
    assert list(table["created"]) == [18, 0]
    assert list(table["is_partial"]) == [True, True]


def test_a_bin_is_settled_once_all_in_it_are_older_than_the_stuck_limit(make):
    rows = [{"module": module} for module in ("album", "folder")]
    options = {"since": "2025-12-14", "bin": "day", "stuck_after": {"album": "1h", "folder": "3D"}}
    alike = kd.analysis.activity(make(*rows), **options)
    assert list(alike["is_settled"]) == [False, False, False, False]
    apart = kd.analysis.activity(make(*rows), by="module", **options)
    settled = apart.groupby("module")["is_settled"].apply(list)
    assert settled["album"] == [True, True, True, False]
    assert settled["folder"] == [False, False, False, False]


def test_the_share_is_of_what_was_created_in_the_bin_and_has_come_to_an_end(make):
    day = "2025-12-01T00:00Z"
    done = [{"create_time": day, "end_time": "2025-12-01T01:00Z", "device_id": "1"}] * 9
    lost = {"create_time": day, "status_code": 0, "device_id": "2"}
    gone = {"create_time": day, "status_code": 2, "end_time": "2025-12-01T02:00Z"}
    dropped = {"create_time": day, "status_code": 2, "device_id": "3"}
    odd = {"create_time": day, "status_code": 7, "device_id": "4"}
    row = whole(make(*done, lost, gone, dropped, odd)).iloc[0]
    assert [row[state] for state in STATES] == [9, 0, 1, 2, 1]
    assert (row["was_completed"], row["was_abandoned"], row["settled"]) == (1, 1, 12)
    assert math.isclose(row["settled_share"], 10 / 12)
    assert row["settled_share_lo"] < 10 / 12 < row["settled_share_hi"]


@pytest.mark.parametrize("state", STATES)
def test_only_what_is_in_progress_is_open_by_now(records, state):
    classified = kd.analysis.classify(records)
    part = classified[classified["state"] == state]
    left = whole(part)["open"]
    expected = len(part) if state == "in_progress" else 0
    assert (left.iloc[-1] if len(left) else 0) == expected


def test_a_past_now_knows_no_later_end(make):
    frame = make({"create_time": "2025-12-01T00:00Z", "end_time": "2025-12-01T02:00Z"})
    table = whole(frame, as_of="2025-12-01T01:00Z")
    assert table[COUNTS].iloc[-1].to_list() == [1, 0, 0, 1]


def test_groups_of_modules_come_in_the_order_of_the_api_and_others_by_size(records):
    table = kd.analysis.activity(records, by="module")
    assert list(table["module"].unique()) == ["folder", "album", "address_book"]
    by_system = kd.analysis.activity(records, by="device_os")
    sizes = by_system.groupby("device_os", sort=False, dropna=False)["created"].sum()
    assert list(sizes) == sorted(sizes, reverse=True)


created = st.integers(0, 10 * 24 * 60)
one_record = st.fixed_dictionaries(
    {
        "minutes_ago": created,
        "lasted": st.none() | st.integers(-60, 3 * 24 * 60),
        "status_code": st.sampled_from([0, 1, 2, 7]),
        "module": st.sampled_from(["album", "folder"]),
        "device_id": st.sampled_from(["1", "2", None]),
    }
)


@given(
    rows=st.lists(one_record, max_size=12),
    window=st.tuples(created, created).map(sorted),
    width=st.sampled_from(["auto", "15min", "hour", "6h", "day", "week", "month"]),
    tz=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"]),
)
@settings(
    max_examples=60,
    deadline=None,
    # `make` keeps nothing from one call to the next.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_counts_add_up_in_every_window(make, rows, window, width, tz):
    # Over a change of the clocks in Berlin.
    now = pd.Timestamp("2025-10-31T12:00Z")
    until, since = (now - pd.Timedelta(minutes=minutes) for minutes in window)
    frame = make(*(placed(row, now) for row in rows), now=now)
    since -= pd.Timedelta("1min")
    table = kd.analysis.activity(frame, since=since, until=until, bin=width, tz=tz)
    times = frame["create_time"]
    assert table["created"].sum() == ((times >= since) & (times < until)).sum()
    assert (table[list(STATES)].sum(axis=1) == table["created"]).all()
    assert (table["was_completed"] + table["was_abandoned"] == table["to_be_deleted"]).all()
    change = table["created"] - table["ended"] - table["presumed_stuck"]
    assert list(table["open"].diff().iloc[1:]) == list(change.iloc[1:])
    assert (table["open"] >= 0).all()
    assert list(table["bin_start"].iloc[1:]) == list(table["bin_end"].iloc[:-1])


def placed(row, now):
    begin = now - pd.Timedelta(minutes=row["minutes_ago"])
    end = None if row["lasted"] is None else begin + pd.Timedelta(minutes=row["lasted"])
    rest = {name: row[name] for name in ("status_code", "module", "device_id")}
    return rest | {"create_time": begin, "end_time": end}


OPTIONS = [
    {},
    {"by": ["module", "device_os"], "since": None, "bin": "week"},
    {"by": "module", "since": None, "bin": "month", "tz": "Europe/Berlin"},
    {"since": "3D", "bin": "15min", "tz": "Asia/Shanghai"},
    {"by": "device_os", "since": "2025-12-01T05:00", "until": "2025-12-05T07:00", "bin": "6h"},
    {"as_of": "2025-12-01", "stuck_after": {"album": "6h"}, "bin": "3D"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_engine_counts_the_same(records, engine, options):
    expected = kd.analysis.activity(records, **options)
    pd.testing.assert_frame_equal(kd.analysis.activity(engine(records), **options), expected)
    assert expected["created"].sum() > 0


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_records_behind_a_row_are_as_many_as_it_counts(records, options):
    table = kd.analysis.activity(records, **options)
    decided = {name: options[name] for name in ("as_of", "stuck_after") if name in options}
    classified = lazy(kd.analysis.classify(records, **decided), ())
    made = table.attrs["koodrive"]["made"]
    for row in table.to_dict("records"):
        behind = records_behind(classified, row, made).collect().to_native()
        assert len(behind) == row["created"]
        assert list(behind.columns) == classified.collect_schema().names()


@pytest.mark.parametrize("width", ["7h", "0h", "1.5D", "fortnight", "7", None, "0.1ms", "1h1min"])
def test_a_width_that_divides_no_day_is_refused_with_what_does(records, width):
    with pytest.raises(kd.InvalidParameterError, match="divides a day or is whole days"):
        kd.analysis.activity(records, bin=width)


@pytest.mark.parametrize("options", [{"bin": "1min"}, {"by": "record_id"}], ids=str)
def test_too_many_rows_are_refused_with_what_makes_fewer(records, options):
    with pytest.raises(kd.InvalidParameterError, match="take a wider bin=, a later since="):
        kd.analysis.activity(records, **options)


@pytest.mark.parametrize("by", ["created", "bin_start", ["module", "module"], 3])
def test_groups_that_are_none_are_refused(records, by):
    with pytest.raises(kd.InvalidParameterError, match="by= takes"):
        kd.analysis.activity(records, by=by)


def test_names_of_widths_are_one(records):
    tables = [kd.analysis.activity(records, bin=width) for width in ("day", "1D", "24h")]
    for one, other in itertools.pairwise(tables):
        pd.testing.assert_frame_equal(one, other)
    assert {table.attrs["koodrive"]["bin"] for table in tables} == {"day"}


def test_no_records_give_an_empty_table_of_the_same_types(records):
    expected = kd.analysis.activity(records, by="module")
    empty = kd.analysis.activity(records.head(0), by="module")
    assert len(empty) == 0
    assert list(empty.columns) == list(expected.columns)
    assert list(empty.dtypes[1:]) == list(expected.dtypes[1:])
