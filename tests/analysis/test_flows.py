import duckdb
import pandas as pd
import polars as pl
import pytest

import koodrive_nb as kd


def flow(frame, **options):
    return kd.analysis.timeline(frame, form="flow", **options)


def test_created_minus_ended_minus_stuck_is_what_is_open(make):
    frame = make(
        {"create_time": "2025-12-10T10:00Z", "end_time": "2025-12-10T11:00Z"},
        {"create_time": "2025-12-10T23:30Z", "end_time": "2025-12-11T00:30Z"},
        {"create_time": "2025-12-11T10:00Z", "status_code": 0},
        {"create_time": "2025-12-13T10:00Z", "end_time": "2025-12-13T09:00Z"},
        {"create_time": "2025-12-17T08:20Z", "status_code": 0},
    )
    table = flow(frame).set_index("bin_start")
    assert len(table) == 8
    by_day = {f"{day:%d}": list(counts) for day, *counts in table.itertuples()}
    assert by_day["10"] == [2, 1, 0, 1]
    assert by_day["11"] == [1, 1, 0, 1]
    # Open for more than 24 h: presumed stuck the day after, so that it is not open for ever.
    assert by_day["12"] == [0, 0, 1, 0]
    assert by_day["13"] == [1, 1, 0, 0]
    assert by_day["17"] == [1, 0, 0, 1]


def test_a_deleted_backup_without_end_does_not_stay_open(make):
    table = flow(make({"create_time": "2025-12-01T00:00Z", "status_code": 2}))
    assert list(table["open"])[-1] == 0
    assert table["presumed_stuck"].sum() == 1


@pytest.mark.parametrize(
    ("tz", "day"),
    [("UTC", "2025-10-25T00:00Z"), ("Europe/Berlin", "2025-10-25T22:00Z")],
)
def test_days_are_local_days(make, tz, day):
    table = flow(make({"create_time": "2025-10-25T22:30Z"}), tz=tz)
    assert table["bin_start"].iloc[0] == pd.Timestamp(day)


def test_the_day_of_the_clock_change_has_25_hours(make):
    rows = [{"create_time": f"2025-10-{day}T12:00Z"} for day in (24, 25, 26, 27)]
    starts = flow(make(*rows), tz="Europe/Berlin")["bin_start"].head(4)
    assert [span / pd.Timedelta("1h") for span in starts.diff().dropna()] == [24, 24, 25]


@pytest.mark.parametrize(
    ("first", "unit"),
    [("2025-12-15T00:00Z", "hour"), ("2025-12-01T00:00Z", "day"), ("2023-12-01T00:00Z", "week")],
)
def test_bins_grow_with_the_span_and_are_named(make, first, unit):
    table = flow(make({"create_time": first}, {}))
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
    table = flow(make(*rows), since="2025-12-10", until="2025-12-14")
    assert list(table["bin_start"].dt.day) == [10, 11, 12, 13]
    assert table["created"].sum() == 1
    assert table["ended"].sum() == 2
    assert list(table["open"])[-1] == 0


def test_fleets_become_flows_by_themselves(make):
    frame = make(*({"device_id": str(number)} for number in range(1001)))
    assert kd.analysis.timeline(frame).attrs["koodrive"]["form"] == "flow"
    assert kd.analysis.timeline(frame.head(1000)).attrs["koodrive"]["form"] == "lanes"
    assert kd.analysis.timeline(frame, form="lanes").attrs["koodrive"]["form"] == "lanes"


def test_an_engine_whose_session_is_not_in_utc_is_refused_with_the_mend(records):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'Asia/Shanghai'")
    connection.register("records", pl.from_pandas(records).to_arrow())
    with pytest.raises(kd.ConfigurationError, match="SET TimeZone = 'UTC'"):
        flow(connection.table("records"))


@pytest.mark.parametrize("window", [{"since": "2026-01-01"}, {"until": "2020-01-01"}], ids=str)
def test_a_window_without_any_backup_has_no_counts(records, window):
    table = flow(records, **window)
    assert table[["created", "ended", "presumed_stuck", "open"]].to_numpy().sum() == 0


@pytest.mark.parametrize("tz", ["UTC", "America/New_York", "Europe/London"])
@pytest.mark.parametrize("old", ["1970-01-01T00:00Z", "1900-01-01T00:00Z", "1700-01-01T00:00Z"])
def test_a_record_with_a_wrong_clock_does_not_stretch_the_flow(make, old, tz):
    table = flow(make({"create_time": old, "status_code": 0}, {"create_time": "2025-12-01"}), tz=tz)
    assert len(table) <= 262
    assert table["created"].sum() == 1
    assert table.attrs["koodrive"]["cut_at"].startswith("2020-12-17")
    assert list(table["open"])[-1] == 0


@pytest.mark.parametrize("day", ["2025-03-30", "2025-10-26"])
def test_hours_stay_hours_when_the_clock_changes(make, day):
    start = pd.Timestamp(f"{day}T00:00Z") - pd.Timedelta("12h")
    rows = [{"create_time": start + pd.Timedelta(hours=n)} for n in range(30)]
    frame = make(*rows, now=start + pd.Timedelta("30h"))
    table = flow(frame, tz="Europe/Berlin")
    assert table.attrs["koodrive"]["bin"] == "hour"
    assert set(table["bin_start"].diff().dropna()) == {pd.Timedelta("1h")}
    assert set(table["created"].head(30)) == {1}


def test_completed_without_an_end_is_over(make):
    table = flow(make({"create_time": "2025-12-01T00:00Z", "status_code": 1}))
    assert set(table["open"]) == {0}
