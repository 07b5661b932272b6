"""Where bins of time lie on an axis, which has no zones: as the clock on the wall says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb.charts import theme

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_HOUR = pd.Timedelta("1h")
_WEEK_MS = 604_800_000


class TimeAxis:
    """A time axis for bins with a `bin_start` and a `bin_end`.

    Bins of up to an hour would lie on each other where the clock is set back: those keep the offset
    that they begin with, and `note` says so.
    """

    def __init__(self, bins: pd.DataFrame, zone: ZoneInfo) -> None:
        self._zone = zone
        self._shift: pd.Timedelta | None = None
        self.note = ""
        if bins.empty:
            return
        ends = bins["bin_start"].min(), bins["bin_end"].max()
        first, last = (theme.offset(stamp, zone) for stamp in ends)
        if first != last and (bins["bin_end"] - bins["bin_start"]).max() <= _HOUR:
            wall = ends[0].tz_convert(zone).tz_localize(None)
            self._shift = wall - ends[0].tz_convert("UTC").tz_localize(None)
            self.note = f"; drawn at UTC{first} throughout"

    def local(self, times: pd.Series[Any]) -> pd.Series[Any]:
        """Give what the clock says at instants."""
        if self._shift is not None:
            shifted: pd.Series[Any] = times.dt.tz_localize(None) + self._shift
            return shifted
        wall: pd.Series[Any] = times.dt.tz_convert(self._zone).dt.tz_localize(None)
        return wall

    def ends(self, table: pd.DataFrame) -> list[str]:
        """Give where the first bin begins and the last one ends."""
        edges = pd.Series([table["bin_start"].min(), table["bin_end"].max()])
        return self.text(self.local(edges))

    def span(self, table: pd.DataFrame, unit: str, at_most: int) -> dict[str, Any]:
        """Give the range of the axis, and its ticks where plotly would not begin with the bins."""
        if table.empty:
            return {}
        begin, end = self.ends(table)
        every = math.ceil(len(table) / at_most)
        steps = {"week": every * _WEEK_MS, "month": f"M{every}"}
        ticks = {"tick0": begin, "dtick": steps[unit]} if unit in steps else {"nticks": at_most}
        return {"range": [begin, end]} | ticks

    def text(self, local: pd.Series[Any]) -> list[str]:
        """Write times as short as plotly reads them."""
        days = (local.dt.normalize() == local).all()
        return [stamp.isoformat()[:10] if days else stamp.isoformat()[:16] for stamp in local]
