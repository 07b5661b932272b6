from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import narwhals as nw
import pandas as pd
import pytest

from koodrive_nb.analysis.zones import bin_starts, epoch_ms, local_bin, offset_changes, walls

HOUR_MS = 3_600_000
MONDAY = pd.Timestamp("1970-01-05")


@pytest.mark.parametrize(
    ("zone", "changes"),
    [
        ("UTC", []),
        ("Asia/Shanghai", []),
        ("Europe/Berlin", ["2025-03-30T01:00:00", "2025-10-26T01:00:00"]),
        ("America/New_York", ["2025-03-09T07:00:00", "2025-11-02T06:00:00"]),
        ("Australia/Lord_Howe", ["2025-04-05T15:00:00", "2025-10-04T15:30:00"]),
    ],
)
def test_changes_of_offset_are_found_to_the_second(zone, changes):
    year = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    found = offset_changes(ZoneInfo(zone), *year)
    assert [f"{change:%Y-%m-%dT%H:%M:%S}" for change in found] == changes


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "Europe/Berlin", "America/St_Johns"])
def test_bins_are_cut_on_the_wall_on_every_engine(zone, engine):
    first, last = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 12, 31, tzinfo=UTC)
    times = pd.date_range(first, last, freq="6h37min").as_unit("ms")
    moved = nw.from_native(engine(pd.DataFrame({"at": times}))).lazy()
    widths_ms = (900_000, 3_600_000, 86_400_000, 604_800_000)
    numbers = {
        f"bin_{width_ms}": local_bin(epoch_ms(moved, "at"), ZoneInfo(zone), (first, last), width_ms)
        for width_ms in widths_ms
    }
    found = moved.with_columns(**numbers).sort("at").collect("pyarrow").to_native()
    local = times.tz_convert(zone).tz_localize(None)
    for width_ms in widths_ms:
        begun = walls(pd.Index(found[f"bin_{width_ms}"].to_pandas()), width_ms)
        width = pd.Timedelta(milliseconds=width_ms)
        assert list(begun) == list(MONDAY + (local - MONDAY) // width * width)


def test_milliseconds_since_1970_are_exact_on_every_engine(any_engine):
    texts = ["1970-01-01T00:00:00.001Z", "1999-12-31T23:59:59.999Z", "2024-02-29T12:30:15.250Z"]
    times = pd.to_datetime(texts).as_unit("ms")
    moved = nw.from_native(any_engine(pd.DataFrame({"at": times}))).lazy()
    found = moved.sort("at").select(ms=epoch_ms(moved, "at")).collect("pyarrow").to_native()["ms"]
    assert found.to_pylist() == [1, 946_684_799_999, 1_709_209_815_250]


def test_a_bin_in_a_skipped_hour_begins_after_it_and_one_that_comes_twice_with_the_first():
    berlin = ZoneInfo("Europe/Berlin")
    spring = local_number("2025-03-30T02:00", HOUR_MS)
    autumn = local_number("2025-10-26T02:00", HOUR_MS)
    starts = bin_starts(pd.Index([spring, autumn]), berlin, HOUR_MS)
    assert list(starts) == [pd.Timestamp("2025-03-30T01:00Z"), pd.Timestamp("2025-10-26T00:00Z")]


def local_number(wall, width_ms):
    return (pd.Timestamp(wall) - MONDAY) // pd.Timedelta(milliseconds=width_ms)
