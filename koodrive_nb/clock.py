"""The time that requests are signed with: this machine's, unless the service shows it to be wrong.

Source: "Viewing Backup Records", request header X-Date: within 15 minutes of now, never ahead.
"""

from __future__ import annotations

import threading
import warnings
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

# X-Date may not lie in the future: a few seconds forgive a clock that is slightly fast.
_BACK_DATED = timedelta(seconds=5)
_FIRST_YEAR, _LAST_YEAR = 1970, 2199
_TAKEN = (timedelta(seconds=2), timedelta(minutes=14))
"""Ages of an X-Date that a service takes for sure, `Date` being cut to the second."""


class Clock:
    """This machine's clock, corrected at most once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_corrected = False
        self.correction = timedelta(0)

    def now(self) -> datetime:
        """Tell the time, as the service would."""
        return datetime.now(UTC) + self.correction

    def stamp(self) -> str:
        """Write the time for X-Date."""
        return f"{self.now() - _BACK_DATED:%Y%m%dT%H%M%SZ}"

    def explains(self, used: timedelta, date: str | None) -> bool:
        """Tell whether a request was refused for its time, so that the next one may pass.

        `used` is the correction that it was sent with, `date` the `Date` of the refusal.
        """
        with self._lock:
            if used != self.correction:
                return True
            theirs = http_date(date)
            if self._is_corrected or theirs is None:
                return False
            off = theirs - datetime.now(UTC)
            if _TAKEN[0] <= off + _BACK_DATED <= _TAKEN[1]:
                return False
            self.correction = off
            self._is_corrected = True
        side = "behind" if off > timedelta(0) else "ahead of"
        warnings.warn(
            f"This machine's clock is {abs(off.total_seconds()):,.0f} s {side} the service's, "
            "which refused a request for it: from here on the service's time counts, for "
            "fetched_at too. Set the clock.",
            stacklevel=2,
        )
        return True

    def forget(self) -> None:
        """Take a correction back that did not help."""
        with self._lock:
            self.correction = timedelta(0)
            self._is_corrected = False


def http_date(text: str | None) -> datetime | None:
    """Read a date of an HTTP header; None if there is none, or it is none."""
    try:
        found = parsedate_to_datetime(text or "")
    except (ValueError, OverflowError, IndexError):
        return None
    # Beyond that, no time could be told from it.
    is_usable = _FIRST_YEAR <= found.year <= _LAST_YEAR
    return (found if found.tzinfo else found.replace(tzinfo=UTC)) if is_usable else None
