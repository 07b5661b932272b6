"""Local time on every engine: UTC plus the zone's offset, one case per change of offset.

DuckDB and Spark cannot convert zones through narwhals; adding the offset is exact and runs
everywhere.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import narwhals as nw

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_STEP = timedelta(days=1)


def offset_changes(zone: ZoneInfo, first: datetime, last: datetime) -> list[datetime]:
    """Give the instants between two others, to the second, at which the zone changes its offset."""

    def offset(instant: datetime) -> timedelta | None:
        return instant.astimezone(zone).utcoffset()

    changes = []
    day = first.astimezone(UTC)
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
    return changes


def local_time(column: nw.Expr, zone: ZoneInfo, first: datetime, last: datetime) -> nw.Expr:
    """Shift instants between `first` and `last` to the wall clock of a zone.

    The result still carries UTC as its zone, so that every engine truncates it alike.
    """
    edges = offset_changes(zone, first, last)
    shifts = [instant.astimezone(zone).utcoffset() or timedelta(0) for instant in (first, *edges)]
    if not edges:
        return column + shifts[0]
    chain: Any = nw.when(column < edges[0]).then(column + shifts[0])
    for edge, shift in zip(edges[1:], shifts[1:], strict=False):
        chain = chain.when(column < edge).then(column + shift)
    result: nw.Expr = chain.otherwise(column + shifts[-1])
    return result
