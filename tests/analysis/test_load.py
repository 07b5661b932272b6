import math
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import koodrive_nb as kd
from koodrive_nb.analysis.loads import occurrences

MS = pd.Timedelta("1ms")


def hour(table, weekday, at):
    return table[(table["weekday"] == weekday) & (table["hour"] == at)].iloc[0]


@pytest.mark.parametrize(
    ("tz", "monday", "gone", "twice"),
    [
        ("Europe/Berlin", "2025-03-24", (7, 2), None),
        ("Europe/Berlin", "2025-10-20", None, (7, 2)),
        ("Asia/Shanghai", "2025-10-20", None, None),
    ],
)
def test_a_skipped_hour_never_came_and_a_repeated_one_came_twice(make, tz, monday, gone, twice):
    begin = pd.Timestamp(monday, tz=tz)
    end = begin + pd.DateOffset(days=7)
    every = pd.date_range(begin, end, freq="20min", inclusive="left")
    frame = make(*({"create_time": at} for at in every), now=end)
    table = kd.analysis.load(frame, tz=tz, since=begin, until=end)
    assert len(table) == 168
    assert list(table["hour"]) == list(range(24)) * 7
    assert table["n"].sum() == len(every)
    for row in table.to_dict("records"):
        came = {gone: 0, twice: 2}.get((row["weekday"], row["hour"]), 1)
        assert (row["occurrences"], row["n"]) == (came, 3 * came)
        rate = row["starts_per_occurrence"]
        assert rate == 3 if came else math.isnan(rate)


def test_hours_are_those_of_the_clock_on_the_wall(make):
    # A Tuesday before midnight in UTC, and a Wednesday morning in Shanghai.
    frame = make({"create_time": "2025-12-09T23:30Z"})
    assert hour(kd.analysis.load(frame), 2, 23)["n"] == 1
    assert hour(kd.analysis.load(frame, tz="Asia/Shanghai"), 3, 7)["n"] == 1
    # The second half past two of the night in which the clock is set back.
    frame = make({"create_time": "2025-10-26T01:30Z"})
    table = kd.analysis.load(frame, tz="Europe/Berlin", since="2025-10-20", until="2025-10-27")
    assert hour(table, 7, 2)["starts_per_occurrence"] == 0.5


def test_an_hour_that_the_window_or_now_cuts_counts_by_its_part(make):
    # As of half past eight on a Wednesday.
    table = kd.analysis.load(make({}), since="2025-12-15T06:45", until=None)
    assert hour(table, 1, 5)["occurrences"] == 0
    assert hour(table, 1, 6)["occurrences"] == 0.25
    assert hour(table, 1, 7)["occurrences"] == 1
    # "now" itself lies in the window, which is a millisecond longer.
    assert hour(table, 3, 8)["occurrences"] == pytest.approx(0.5, abs=1e-6)
    assert math.isnan(hour(table, 5, 12)["starts_per_occurrence"])


def test_by_default_the_last_8_full_weeks_and_the_running_one_count(make):
    table = kd.analysis.load(make({}))
    assert hour(table, 1, 0)["occurrences"] == 9
    assert hour(table, 7, 0)["occurrences"] == 8


def test_without_since_the_window_begins_with_the_hour_of_the_first_record(make):
    frame = make({"create_time": "2025-12-15T06:45Z"}, {"create_time": "2025-12-16T06:45Z"})
    table = kd.analysis.load(frame, since=None)
    assert hour(table, 1, 6)["occurrences"] == 1
    assert hour(table, 1, 5)["occurrences"] == 0
    # Half an hour beside UTC.
    table = kd.analysis.load(frame, since=None, tz="Asia/Kolkata")
    assert hour(table, 1, 12)["occurrences"] == 1
    assert hour(table, 1, 11)["occurrences"] == 0


@given(
    start=st.integers(0, 400 * 1440),
    length=st.integers(1, 30 * 1440),
    tz=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu"]),
)
@settings(max_examples=60, deadline=None)
def test_occurrences_are_the_time_for_which_the_clock_showed_the_hour(start, length, tz):
    since = pd.Timestamp("2025-01-01T00:00Z") + pd.Timedelta(minutes=start)
    until = since + pd.Timedelta(minutes=length)
    found = occurrences((since, until), ZoneInfo(tz))
    minutes = pd.date_range(since, until, freq="1min", inclusive="left").tz_convert(tz)
    of_week = minutes.day_of_week * 24 + minutes.hour
    expected = np.bincount(of_week, minlength=168) / 60
    assert found == pytest.approx(expected)


def test_starts_of_each_group_come_in_the_order_of_the_api(make):
    frame = make({"module": "album"}, {"module": "album"}, {"module": "folder"})
    table = kd.analysis.load(frame, by="module")
    assert list(table["module"].unique()) == ["folder", "album"]
    assert list(table.groupby("module", sort=False)["n"].sum()) == [1, 2]
    assert len(table) == 2 * 168


def test_what_was_created_after_now_or_at_no_time_is_left_out_and_counted(make):
    frame = make({}, {"create_time": None}, {"create_time": "2025-12-17T09:30Z"})
    for kind in ("starts", "running"):
        table = kd.analysis.load(frame, kind=kind)
        told = table.attrs["koodrive"]
        assert (told["n_undated"], told["n_later"]) == (1, 1)
        assert table["n"].sum() == (kind == "starts")


def running(frame, **options):
    return kd.analysis.load(frame, kind="running", **options)


def test_backups_that_overlap_run_at_once_and_those_that_meet_do_not(make):
    frame = make(
        {"create_time": "2025-12-10T10:00Z", "end_time": "2025-12-10T10:02Z"},
        {"create_time": "2025-12-10T10:01Z", "end_time": "2025-12-10T10:05Z"},
        {"create_time": "2025-12-10T10:05Z", "end_time": "2025-12-10T10:06Z"},
        {"create_time": "2025-12-10T10:08Z", "end_time": "2025-12-10T10:08Z"},
    )
    table = running(frame, since="2025-12-10T09:55", until="2025-12-10T10:15", bin="5min")
    assert list(table["n"]) == [0, 2, 1, 0]
    assert list(table["running_max"]) == [0, 2, 1, 0]
    assert list(table["running_mean"]) == [0, 6 / 5, 1 / 5, 0]


def test_an_abandoned_backup_stops_running_at_the_stuck_limit(make):
    begun = {"create_time": "2025-12-10T10:00Z"}
    options = {"since": "2025-12-10T09:00", "until": "2025-12-10T14:00", "bin": "hour"}
    for row in ({"status_code": 0}, {"status_code": 2}, {"status_code": 7}):
        table = running(make(begun | row), stuck_after="2h", **options)
        assert list(table["running_max"]) == [0, 1, 1, 0, 0]
    # Over, but nobody knows when: it never ran.
    assert running(make(begun | {"status_code": 1}), **options)["running_max"].max() == 0


def test_a_backup_in_progress_runs_until_its_own_now(make):
    frame = make(
        {"create_time": "2025-12-17T06:00Z", "status_code": 0, "fetched_at": "2025-12-17T07:00Z"},
        {"create_time": "2025-12-17T08:00Z", "status_code": 0, "device_id": "2"},
    )
    table = running(frame, since="2025-12-17T05:00", bin="hour", stuck_after="7D")
    assert list(table["running_max"]) == [0, 1, 0, 1]
    assert list(table["is_partial"]) == [False, False, False, True]
    assert table["running_mean"].iloc[-1] == pytest.approx(1, abs=1e-5)


def test_days_have_the_hours_of_the_local_day(make):
    frame = make({"create_time": "2025-10-25T22:00Z", "end_time": "2025-10-26T22:00Z"})
    table = running(frame, since="2025-10-26", until="2025-10-27", bin="day", tz="Europe/Berlin")
    assert len(table) == 1
    assert table["running_mean"].iloc[0] == pytest.approx(24 / 25)


def test_a_wide_bin_loses_no_maximum(dirty):
    frame, _ = dirty(1)
    options = {"since": "2025-11-20", "until": "2025-11-23", "by": "module"}
    fine, coarse = (running(frame, bin=width, **options) for width in ("5min", "6h"))
    assert fine["running_max"].max() > 1
    for one, other in zip(
        fine.groupby("module", sort=False), coarse.groupby("module", sort=False), strict=True
    ):
        most = one[1]["running_max"].to_numpy().reshape(-1, 72).max(axis=1)
        assert list(other[1]["running_max"]) == list(most)
        mean = one[1]["running_mean"].to_numpy().reshape(-1, 72).mean(axis=1)
        assert other[1]["running_mean"].to_numpy() == pytest.approx(mean)


def test_bins_grow_with_the_window_so_that_the_table_stays_small(records):
    for since, name in (("2D", "5min"), ("20D", "15min"), ("8 weeks", "hour"), ("200D", "day")):
        table = running(records, since=since)
        assert table.attrs["koodrive"]["bin"] == name
        assert len(table) <= 2_017


def test_bins_are_wider_where_groups_are_many(records):
    table = running(records, by=["device_id", "module"])
    assert table.attrs["koodrive"]["bin"] == "day"
    assert len(running(records, by="device_os")) <= 5_000


def test_what_runs_at_the_end_is_what_activity_calls_open(records):
    options = {"since": "30D", "bin": "hour", "stuck_after": "3h"}
    left = kd.analysis.activity(records, **options)
    level = running(records, **options)
    # Until just before the end of its last bin.
    assert (level["running_max"] >= left["open"]).all()
    assert (level["n"] >= left["open"]).all()
    assert left["open"].sum() > 0


one_run = st.fixed_dictionaries(
    {
        "seconds_ago": st.integers(0, 3 * 24 * 3600),
        "lasted": st.none() | st.integers(-600, 24 * 3600),
        "status_code": st.sampled_from([0, 1, 1, 2, 7]),
        "module": st.sampled_from(["album", "folder"]),
        "device_id": st.sampled_from(["1", "2", None]),
        "fetched_ago": st.sampled_from([0, 0, 3600]),
    }
)


@given(
    rows=st.lists(one_run, max_size=10),
    window=st.tuples(st.integers(0, 4320), st.integers(0, 4320)).map(sorted),
    width=st.sampled_from(["15min", "hour", "6h", "day", "month"]),
    tz=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"]),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_level_is_that_of_counting_at_every_instant(make, rows, window, width, tz):
    # Over a change of the clocks in Berlin.
    now = pd.Timestamp("2025-10-27T12:00Z")
    until, since = (now - pd.Timedelta(minutes=minutes) for minutes in window)
    since -= pd.Timedelta("1min")
    full = []
    for row in rows:
        begin = now - pd.Timedelta(seconds=row["seconds_ago"])
        end = None if row["lasted"] is None else begin + pd.Timedelta(seconds=row["lasted"])
        fetched = now - pd.Timedelta(seconds=row["fetched_ago"])
        kept = {name: row[name] for name in ("status_code", "module", "device_id")}
        full.append(kept | {"create_time": begin, "end_time": end, "fetched_at": fetched})
    frame = make(*full, now=now)
    newest = frame["fetched_at"].max()
    if len(frame) and since >= newest:
        with pytest.raises(kd.InvalidParameterError, match="after the fetch"):
            running(frame, since=since, until=until)
        return
    table = running(frame, since=since, until=until, bin=width, tz=tz, stuck_after="5h")
    spans = [
        span
        for span in map(lived, kd.analysis.classify(frame, stuck_after="5h").itertuples())
        if span
    ]
    limit = min(until, newest + MS) if len(frame) else since
    assert (len(table) > 0) == (limit > since)
    for row in table.itertuples():
        first, last = max(row.bin_start, since), min(row.bin_end, limit)
        inside = [(max(a, first), min(b, last)) for a, b in spans if max(a, first) < min(b, last)]
        assert row.n == len(inside)
        most = max((sum(a <= at < b for a, b in inside) for at, _ in inside), default=0)
        assert row.running_max == most
        mean = sum((b - a) / (last - first) for a, b in inside)
        assert row.running_mean == pytest.approx(mean)


def lived(row):
    """Give from when to when a record ran, as the documentation says."""
    begin, end, now = row.create_time, row.end_time, row.as_of
    if begin > now:
        return None
    if not pd.isna(end) and end <= now:
        return (begin, end) if end > begin else None
    if row.state == "completed" and pd.isna(end):
        return None
    if row.state == "in_progress" or (
        row.state in {"completed", "to_be_deleted"} and not pd.isna(end)
    ):
        return begin, now
    return begin, min(begin + pd.Timedelta("5h"), now)


OPTIONS = [
    {"tz": "Europe/Berlin"},
    {"by": ["module", "device_os"], "since": "2025-10-20", "until": "2025-11-05T05:45"},
    {"kind": "running", "since": "3D", "tz": "Asia/Shanghai"},
    {"kind": "running", "by": "module", "bin": "day", "tz": "Europe/Berlin"},
    {"kind": "running", "bin": "month", "as_of": "2025-12-01", "stuck_after": {"album": "6h"}},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_engine_finds_the_same_load(records, engine, options):
    expected = kd.analysis.load(records, **options)
    pd.testing.assert_frame_equal(kd.analysis.load(engine(records), **options), expected)
    assert expected["n"].sum() > 0


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_as_many_records_are_behind_a_row_as_it_counts(records, options):
    table = kd.analysis.load(records, **options)
    places = {
        0,
        len(table) - 1,
        int(table["n"].argmax()),
        *range(0, len(table), len(table) // 6 + 1),
    }
    for position in sorted(places):
        behind = kd.analysis.rows(records, table, position)
        assert len(behind) == table["n"].iloc[position]


def test_no_records_are_a_week_without_starts_and_no_level(records):
    table = kd.analysis.load(records.head(0))
    assert len(table) == 168
    assert table[["n", "occurrences"]].to_numpy().sum() == 0
    assert table["starts_per_occurrence"].isna().all()
    for options in ({}, {"by": "module"}):
        level = running(records.head(0), **options)
        assert len(level) == 0
        assert list(level.dtypes)[-6:] == list(running(records).dtypes)
    assert len(kd.analysis.load(records.head(0), by="module")) == 0
    assert len(kd.analysis.rows(records.head(0), table, 5)) == 0


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kind": "ends"}, "kind= takes starts or running"),
        ({"bin": "hour"}, 'bin= is for kind="running"'),
        ({"by": "hour"}, "by= takes"),
        ({"by": "record_id"}, "take a column with at most 29 values"),
        ({"kind": "running", "by": "record_id"}, "take a wider bin="),
        ({"kind": "running", "bin": "7h"}, "divides a day"),
        ({"since": "2025-12-10", "until": "2025-12-09"}, "must lie before"),
    ],
    ids=str,
)
def test_what_is_no_load_is_refused_with_what_is(records, options, match):
    with pytest.raises(kd.InvalidParameterError, match=match):
        kd.analysis.load(records, **options)


def test_by_default_no_week_counts_of_which_copies_may_be_purged():
    records = kd.sandbox.frames("small", 0).records
    table = kd.analysis.load(records, tz="Asia/Shanghai")
    about = table.attrs["koodrive"]
    # From 4 December on nothing is missing, and Monday is the 8th.
    assert about["history_complete_from"].startswith("2025-12-04")
    assert about["since"] == "2025-12-07T16:00:00+00:00"
    asked = kd.analysis.load(records, tz="Asia/Shanghai", since="2025-12-08")
    pd.testing.assert_frame_equal(table, asked)
    # Where no whole week is complete, all eight are, as far as they are known.
    early = kd.analysis.load(records, until="2025-12-12", tz="Asia/Shanghai")
    assert early.attrs["koodrive"]["since"] == "2025-10-12T16:00:00+00:00"


@pytest.mark.parametrize("ask", [kd.analysis.load, kd.analysis.concentration])
def test_a_window_after_the_fetch_is_refused_and_one_that_ends_after_it_says_so(records, ask):
    with pytest.raises(kd.InvalidParameterError, match="begins after the fetch"):
        ask(records, since="2026-02-01")
    table = ask(records, since="2025-12-08", until="2026-01-01")
    assert table.attrs["koodrive"]["seen_until"] == "2025-12-17T08:30:00+00:00"
    assert ask(records, since="2025-12-08").attrs["koodrive"]["seen_until"] is None
