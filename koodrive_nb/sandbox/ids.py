"""Ids and times as the service writes them, and the one instant that everything is as of."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pandas as pd

from koodrive_nb.errors import InvalidParameterError

AS_OF = datetime(2025, 12, 17, 8, 30, tzinfo=UTC)
# Both ids that the pages print beside a time count milliseconds from here, above 23 low bits.
ID_EPOCH = datetime(2018, 12, 31, 16, tzinfo=UTC)
LOW_BITS = 23
_EARLIEST = AS_OF - timedelta(days=60)


def checked_as_of(as_of: object) -> datetime:
    """Read the instant that a fleet is looked at, to the millisecond; None is the fixed one.

    Raises:
        InvalidParameterError: It is none, names no zone, or lies outside the last 60 days.
    """
    if as_of is None:
        return AS_OF
    try:
        stamp = pd.Timestamp(as_of) if isinstance(as_of, str | datetime) else pd.NaT
    except ValueError:
        stamp = pd.NaT
    if not isinstance(stamp, pd.Timestamp) or stamp.tzinfo is None:
        raise InvalidParameterError(
            "as_of= takes an instant with its zone, such as '2025-12-10T08:30Z' or a datetime, "
            f"not {as_of!r}."
        )
    instant = stamp.tz_convert("UTC").floor("ms").to_pydatetime()
    if not _EARLIEST <= instant <= AS_OF:
        # The fleet's backups are drawn over 90 days: an earlier look would find it half empty.
        raise InvalidParameterError(
            f"as_of= lies from {_EARLIEST:%Y-%m-%dT%H:%MZ} to {AS_OF:%Y-%m-%dT%H:%MZ}, the instant "
            f"that the synthetic fleet was fetched at, not at {as_of!r}."
        )
    return instant


def mint(instant: datetime, low: int) -> str:
    """Make an id the way the service's own look: milliseconds above a serial number."""
    milliseconds = (instant - ID_EPOCH) // timedelta(milliseconds=1)
    return str(milliseconds << LOW_BITS | low)


def minted_at(identity: str) -> datetime:
    """Read the instant out of such an id."""
    return ID_EPOCH + timedelta(milliseconds=int(identity) >> LOW_BITS)


def text(instant: datetime) -> str:
    """Write an instant in UTC with milliseconds."""
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def compact(value: object) -> bytes:
    """Write JSON without blanks."""
    return json.dumps(value, separators=(",", ":")).encode()
