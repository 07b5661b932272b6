from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import narwhals as nw
import pandas as pd
import pytest

from koodrive_nb.analysis.zones import local_time, offset_changes


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
def test_local_time_is_what_pandas_says_on_every_engine(zone, engine):
    first, last = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 12, 31, tzinfo=UTC)
    times = pd.date_range(first, last, freq="6h37min").as_unit("ms")
    frame = pd.DataFrame({"at": times})
    expression = local_time(nw.col("at"), ZoneInfo(zone), first, last)
    moved = nw.from_native(engine(frame)).lazy().with_columns(wall=expression).sort("at")
    found = moved.collect("pyarrow").to_native()["wall"].to_pandas().dt.tz_convert("UTC")
    expected = times.tz_convert(zone).tz_localize(None)
    assert list(found.dt.tz_localize(None)) == list(expected)
    assert timedelta(0) == found.dt.tz.utcoffset(None)
