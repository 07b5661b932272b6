"""Bins of time: how wide they are, where they begin, and in which one an instant lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import narwhals as nw
import numpy as np
import pandas as pd

from koodrive_nb.analysis.arguments import duration
from koodrive_nb.analysis.zones import instants, local_bin, walls
from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from koodrive_nb.analysis.contexts import Context

_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
_WIDTHS_MS = {"hour": _HOUR_MS, "day": _DAY_MS, "week": 7 * _DAY_MS}
_AUTO = (
    ("hour", pd.Timedelta("3D")),
    ("day", pd.Timedelta("100D")),
    ("week", pd.Timedelta("1100D")),
)
AT_MOST = 5_000
"""The largest number of rows that a table over time may have."""
_MS = pd.Timedelta("1ms")
# Older bins would be too many to draw; a wrong clock may have put a record into 1970.
_OLDEST = pd.Timedelta("1826D")


@dataclass(frozen=True, slots=True)
class Bins:
    """The bins of a window of time.

    `edges` holds the instants at which the bins begin, and the one at which the last ends;
    `limit` is the first instant that is no longer in the window. The engine counts in units of
    `unit_ms` milliseconds of local time in `zone`, and `places` tells for each unit from
    `first_unit` on which bin it lies in.
    """

    name: str
    start: pd.Timestamp
    limit: pd.Timestamp
    edges: pd.DatetimeIndex
    zone: ZoneInfo
    unit_ms: int
    first_unit: int
    places: np.ndarray[Any, Any]

    def unit(self, ms: nw.Expr) -> nw.Expr:
        """Number the unit that instants before `limit` lie in; -1 is before the window."""
        span = self.start.to_pydatetime(), self.limit.to_pydatetime()
        number = local_bin(ms, self.zone, span, self.unit_ms) - self.first_unit
        last = len(self.places) - 1
        return (
            nw.when(ms < epoch(self.start))
            .then(nw.lit(-1))
            .when(number > last)
            .then(nw.lit(last))
            .otherwise(number)
        )


def inside(
    context: Context, window: tuple[pd.Timestamp | None, pd.Timestamp | None]
) -> tuple[tuple[pd.Timestamp, pd.Timestamp] | None, bool]:
    """Give the first instant that is counted and the first after it; and whether it is cut."""
    if context.as_of is None:
        return None, False
    start, until = window
    # "now" itself is in the window.
    limit = context.as_of + _MS
    limit = limit if until is None else min(limit, until)
    horizon = limit - _OLDEST
    first = start if start is not None else context.first
    is_cut = start is None and first is not None and first < horizon
    first = horizon if is_cut else first
    if first is None or first >= limit:
        return None, False
    return (first.floor("ms"), limit), is_cut


def cut(bin_: object, zone: ZoneInfo, start: pd.Timestamp, limit: pd.Timestamp) -> Bins:
    """Cut the window from `start` up to, but not at, `limit` into bins.

    Raises:
        InvalidParameterError: There is no such bin, or it makes too many of them.
    """
    name, unit_ms = _width(bin_, limit - start)
    # A local hour may come twice or not at all; hours of UTC always come once.
    zone = ZoneInfo("UTC") if unit_ms <= _HOUR_MS else zone
    first = _unit_of(start, zone, unit_ms)
    # The instant that is just "now" belongs to the bin that it ends, not to one of its own.
    last = max(first, _unit_of(limit - 2 * _MS, zone, unit_ms))
    if name != "month":
        check_rows(last - first + 1, name)
    begins = walls(pd.RangeIndex(first, last + 2), unit_ms)
    places = np.arange(last - first + 1)
    if name == "month":
        months = begins[:-1].to_period("M")
        begins = pd.period_range(months[0], months[-1] + 1, freq="M").to_timestamp()
        places = np.asarray(months.year * 12 + months.month)
        places -= places[0]
    edges = instants(begins, zone)
    return Bins(name, start, limit, edges, zone, unit_ms, first, places)


def check_rows(n: int, name: str) -> None:
    """Refuse a table of more rows than anybody reads.

    Raises:
        InvalidParameterError: There are too many.
    """
    if n > AT_MOST:
        raise InvalidParameterError(
            f"bin={name!r} would make {n:,} rows, and a table over time has at most {AT_MOST:,}: "
            "take a wider bin=, a later since=, or fewer groups in by=."
        )


def epoch(stamp: pd.Timestamp) -> int:
    """Give an instant in whole milliseconds since 1970."""
    return (stamp - pd.Timestamp(0, tz="UTC")) // _MS


def _unit_of(stamp: pd.Timestamp, zone: ZoneInfo, unit_ms: int) -> int:
    local = stamp.tz_convert(zone).tz_localize(None)
    return (local - walls(pd.Index([0]), unit_ms)[0]) // pd.Timedelta(milliseconds=unit_ms)


def _width(bin_: object, length: pd.Timedelta) -> tuple[str, int]:
    if bin_ == "auto":
        bin_ = next((name for name, most in _AUTO if length <= most), "month")
    if bin_ == "month":
        return "month", _DAY_MS
    if isinstance(bin_, str) and bin_ in _WIDTHS_MS:
        return bin_, _WIDTHS_MS[bin_]
    try:
        span = duration(bin_, "bin")
    except InvalidParameterError:
        span = pd.Timedelta(0)
    width_ms = span // _MS
    if not width_ms or span % _MS or (_DAY_MS % width_ms and width_ms % _DAY_MS):
        raise InvalidParameterError(
            "bin= takes 'auto', 'hour', 'day', 'week', 'month', or a duration that divides a day "
            f"or is whole days, such as '15min', '6h' or '3D', not {bin_!r}."
        )
    names = {width: name for name, width in _WIDTHS_MS.items()}
    return names.get(width_ms, bin_ if isinstance(bin_, str) else f"{width_ms} ms"), width_ms
