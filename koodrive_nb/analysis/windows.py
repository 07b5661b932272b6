"""Windows of time that are compared: a week, or what lies between two local instants."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import pandas as pd

from koodrive_nb.analysis import arguments
from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from typing import Self

_WEEK = re.compile(r"(\d{4})-W(\d{2})")


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` on until `end`, which is not included; `length` as the local clock shows it."""

    start: pd.Timestamp
    end: pd.Timestamp
    length: pd.Timedelta

    @classmethod
    def read(cls, value: object, name: str, zone: str) -> Self:
        """Read an ISO week such as "2025-W50", or a pair of instants, local in `zone`.

        Raises:
            InvalidParameterError: It is neither, or ends before it begins.
        """
        week = _WEEK.fullmatch(value) if isinstance(value, str) else None
        if week:
            try:
                monday = pd.Timestamp(date.fromisocalendar(int(week[1]), int(week[2]), 1))
            except ValueError:
                raise InvalidParameterError(
                    f"{name}= names {value!r}, a week that there is not."
                ) from None
            return cls.between(monday, monday + pd.Timedelta("7D"), name, zone)
        if not isinstance(value, tuple | list) or len(value) != 2:  # noqa: PLR2004 -- a pair
            raise InvalidParameterError(
                f"{name}= takes an ISO week such as '2025-W50', or a pair of its begin and its end "
                f"such as ('2025-12-08', '2025-12-15'), not {value!r}."
            )
        return cls.between(value[0], value[1], name, zone)

    @classmethod
    def between(cls, start: object, end: object, name: str, zone: str) -> Self:
        """Read the two edges of a window.

        Raises:
            InvalidParameterError: One is no instant, or they leave nothing between them.
        """
        first, last = (arguments.instant(edge, name, zone) for edge in (start, end))
        if first >= last:
            raise InvalidParameterError(f"{name}= must begin before it ends.")
        shown = _wall(last, zone) - _wall(first, zone)
        # An hour that the clock repeats would have no length.
        return cls(first, last, shown if shown > pd.Timedelta(0) else last - first)

    def before(self, zone: str) -> Self:
        """Give the window of the same local length that ends where this one begins."""
        return type(self).between(_wall(self.start, zone) - self.length, self.start, "window", zone)


def _wall(instant: pd.Timestamp, zone: str) -> pd.Timestamp:
    return instant.tz_convert(zone).tz_localize(None)
