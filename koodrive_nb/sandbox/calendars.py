"""Local days in UTC milliseconds, 23 to 25 hours long where clocks are changed."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SECOND, HOUR, DAY = 1000, 3_600_000, 86_400_000
_SATURDAY = 5


class Calendar:
    """The local days of a zone from one instant to another (milliseconds since 1970)."""

    def __init__(self, zone: str, first: int, last: int) -> None:
        start, stop = (datetime.fromtimestamp(at / SECOND, UTC).toordinal() for at in (first, last))
        days = [date.fromordinal(day) for day in range(start - 2, stop + 3)]
        self._midnights = np.array(
            [
                int(datetime.combine(day, time(), ZoneInfo(zone)).timestamp()) * SECOND
                for day in days
            ]
        )
        self._is_weekend = np.array([day.weekday() >= _SATURDAY for day in days])

    def day(self, instants: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the number of the local day that each instant lies in."""
        return np.searchsorted(self._midnights, instants, "right") - 1

    def is_weekend(self, days: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell whether these days are Saturdays or Sundays."""
        return self._is_weekend[days]

    def at(self, days: NDArray[np.int64], hours: NDArray[np.float64]) -> NDArray[np.int64]:
        """Give the instants so many hours after the midnights that these days begin at."""
        return self._midnights[days] + (hours * HOUR).astype(np.int64)
