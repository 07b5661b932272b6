"""Ids and times as the service writes them, and the one instant that everything is as of."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

AS_OF = datetime(2025, 12, 17, 8, 30, tzinfo=UTC)
# Both ids that the pages print beside a time count milliseconds from here, above 23 low bits.
ID_EPOCH = datetime(2018, 12, 31, 16, tzinfo=UTC)
LOW_BITS = 23


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
