"""Local time on every engine, in numbers: UTC plus the zone's offset, one case per change of it.

DuckDB and Spark cannot convert zones through narwhals; adding the offset is exact and runs
everywhere.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import narwhals as nw
import pandas as pd

from koodrive_nb.analysis import rules
from koodrive_nb.errors import ConfigurationError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_STEP = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime(2100, 1, 1, tzinfo=UTC)
DAY_MS = 86_400_000
_MONDAY_MS = 4 * DAY_MS


def offset_changes(zone: ZoneInfo, first: datetime, last: datetime) -> list[datetime]:
    """Give the instants between two others, to the second, at which the zone changes its offset.

    Looked for are only those from 1970 to 2100: a wrong clock may name any year.
    """
    first, last = (min(max(edge.astimezone(UTC), _EPOCH), _LAST) for edge in (first, last))
    return list(_offset_changes(zone, first, last))


@lru_cache(maxsize=64)
def _offset_changes(zone: ZoneInfo, first: datetime, last: datetime) -> tuple[datetime, ...]:
    def offset(instant: datetime) -> timedelta | None:
        return instant.astimezone(zone).utcoffset()

    changes = []
    day = first
    while day < last:
        low, high = day, min(day + _STEP, last)
        if offset(low) != offset(high):
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) / 2
                if offset(middle) == offset(low):
                    low = middle
                else:
                    high = middle
            changes.append(high.replace(microsecond=0))
        day += _STEP
    return tuple(changes)


def epoch_ms(frame: nw.LazyFrame[Any], column: str) -> nw.Expr:
    """Give instants as whole milliseconds since 1970 in UTC, on every engine."""
    at = nw.col(column)
    if frame.implementation.is_pandas_like() or frame.implementation.is_polars():
        return at.dt.timestamp("ms")
    if frame.implementation.is_duckdb():
        # This is its epoch_ms(), which takes instants too; the calendar takes fifty times as long.
        return at.dt.total_milliseconds()
    # narwhals has no dt.timestamp for Spark, so the calendar is counted out.
    year = at.dt.year().cast(nw.Int64)
    leap_days = (year - 1969) // 4 - (year - 1901) // 100 + (year - 1601) // 400
    days = (year - 1970) * 365 + leap_days + at.dt.ordinal_day() - 1
    seconds = ((days * 24 + at.dt.hour()) * 60 + at.dt.minute()) * 60 + at.dt.second()
    return (seconds * 1000 + at.dt.millisecond()).cast(nw.Int64)


def local_bin(
    ms: nw.Expr, zone: ZoneInfo, edges: tuple[datetime, datetime], width_ms: int
) -> nw.Expr:
    """Number the bins of local time that instants, in milliseconds since 1970, lie in.

    Bin 0 begins at midnight of Monday, 5 January 1970, on the wall; instants lie between `edges`.
    """
    changes = offset_changes(zone, *edges)
    shifts = [_offset_ms(instant, zone) for instant in (edges[0], *changes)]
    local = ms + shifts[-1]
    for change, shift in zip(reversed(changes), reversed(shifts[:-1]), strict=True):
        local = nw.when(ms < _ms(change)).then(ms + shift).otherwise(local)
    return ((local - _MONDAY_MS) // width_ms).cast(nw.Int64)


def walls(bins: pd.Index[Any], width_ms: int) -> pd.DatetimeIndex:
    """Give what the clock on the wall says where numbered bins begin."""
    return pd.DatetimeIndex(pd.to_datetime(bins * width_ms + _MONDAY_MS, unit="ms"))


def bin_starts(bins: pd.Index[Any], zone: ZoneInfo, width_ms: int) -> pd.DatetimeIndex:
    """Give the instants at which numbered bins begin; one in a skipped hour begins after it."""
    return instants(walls(bins, width_ms), zone)


def instants(local: pd.DatetimeIndex, zone: ZoneInfo) -> pd.DatetimeIndex:
    """Give when a clock on the wall first says so, or the end of the gap in which it never does."""
    known = local.tz_localize(zone.key, ambiguous=True, nonexistent="shift_forward")
    return known.tz_convert("UTC").as_unit("ms")


def check_session(records: Any) -> None:
    """Refuse an engine whose session would cut days at another zone's midnight.

    Raises:
        ConfigurationError: The session is not in UTC.
    """
    noon = nw.lit(pd.Timestamp("2024-01-01T12:00Z").to_pydatetime())
    hour = rules.collect(rules.lazy(records, ()).head(1).select(hour=noon.dt.hour()))["hour"]
    if len(hour) and int(hour.iloc[0]) != 12:  # noqa: PLR2004 -- noon
        raise ConfigurationError(
            "The engine's session is not in UTC, so its days would be cut at the wrong midnight: "
            "run SET TimeZone = 'UTC' (DuckDB) or set spark.sql.session.timeZone to UTC first."
        )


def _offset_ms(instant: datetime, zone: ZoneInfo) -> int:
    return (instant.astimezone(zone).utcoffset() or timedelta(0)) // timedelta(milliseconds=1)


def _ms(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(milliseconds=1)
