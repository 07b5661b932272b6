"""What the analysis takes as arguments: instants, durations, windows, columns to group by."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from numbers import Number
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd

from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

Duration: TypeAlias = str | timedelta | pd.Timedelta
StuckAfter: TypeAlias = str | Duration | Mapping[str, Duration]

_FULL_WEEKS = re.compile(r"([1-9]\d{0,3}) weeks?")
YEARS = range(1970, 2200)


def instant(value: object, name: str, zone: str = "UTC") -> pd.Timestamp:
    """Read an instant; one that names no zone is meant in `zone`.

    Raises:
        InvalidParameterError: It is none.
    """
    stamp: Any = None
    # pandas reads a bare number as nanoseconds since 1970, and some words as what a clock says.
    if not isinstance(value, Number) and not (isinstance(value, str) and value in {"now", "today"}):
        given: Any = value
        try:
            stamp = pd.Timestamp(given)
            if stamp.tzinfo is None:
                stamp = stamp.tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
            stamp = stamp.tz_convert("UTC")
        except (ValueError, TypeError, AttributeError, OverflowError, NotImplementedError):
            stamp = None
    if not isinstance(stamp, pd.Timestamp) or stamp.year not in YEARS:
        length = ", or a duration such as '14D'" if name == "since" else ""
        raise InvalidParameterError(
            f"{name}= takes an instant such as '2025-12-17T08:30Z' or a datetime{length}, not "
            f"{value!r}."
        )
    return stamp


def duration(value: object, name: str) -> pd.Timedelta:
    """Read a positive duration, such as "7D" or "36h".

    Raises:
        InvalidParameterError: It is none, or has no unit.
    """
    try:
        if isinstance(value, str | timedelta):
            span = pd.Timedelta(value)
            if isinstance(span, pd.Timedelta) and span > pd.Timedelta(0) and not _bare(value):
                return span
    except ValueError:
        pass
    raise InvalidParameterError(
        f"{name}= takes a positive duration with its unit, such as '7D', '36h' or a timedelta, "
        f"not {value!r}."
    )


def _bare(value: object) -> bool:
    # pandas reads "7" as seven nanoseconds.
    return isinstance(value, str) and value.strip(" +-.").replace(".", "").isdigit()


def whole(value: object, name: str, most: int) -> None:
    """Check that a value is a whole number from 1 to `most`.

    Raises:
        InvalidParameterError: It is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise InvalidParameterError(
            f"{name}= takes a whole number from 1 to {most:,}, not {value!r}."
        )


def window(
    since: object, until: object, zone: str, newest: pd.Timestamp | None
) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
    """Read the edges of a window; None leaves a side open.

    `since` is an instant, or a duration such as "14D": so long before `until`, or before the
    newest "now" of the records; or full weeks such as "8 weeks": from a Monday on, that many ISO
    weeks in `zone` and the one that runs at the end, if any.

    Raises:
        InvalidParameterError: One is neither, or they leave nothing between them.
    """
    end = None if until is None else instant(until, "until", zone)
    last = end if end is not None else newest
    weeks = _FULL_WEEKS.fullmatch(since) if isinstance(since, str) else None
    if since is None:
        start = None
    elif weeks:
        start = None if last is None else monday(last, zone, int(weeks[1]))
    elif isinstance(since, timedelta) or _is_duration(since):
        length = duration(since, "since")
        start = None if last is None else (last - length).floor("ms")
    else:
        start = instant(since, "since", zone)
    if start is not None and end is not None and start >= end:
        raise InvalidParameterError("since= must lie before until=.")
    return start, end


def monday(last: pd.Timestamp, zone: str, weeks: int) -> pd.Timestamp:
    """Give the Monday, local, that begins so many ISO weeks before the one of an instant."""
    wall = last.tz_convert(zone).tz_localize(None).normalize()
    monday = wall - pd.Timedelta(days=wall.day_of_week + 7 * weeks)
    return instant(monday, "since", zone)


def _is_duration(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        duration(value, "since")
    except InvalidParameterError:
        return False
    return True


def keys(by: object, results: Collection[str]) -> list[str]:
    """Read the columns to group by; `results` are names that the table itself uses.

    Raises:
        InvalidParameterError: They are no names, or not all different, or the table's own.
    """
    names: Sequence[Any] = by if isinstance(by, list | tuple) else [by]
    if (
        not names
        or not all(isinstance(name, str) for name in names)
        or len(set(names)) < len(names)
        or set(names) & set(results)
    ):
        raise InvalidParameterError(
            "by= takes one or more different columns of the records, as by='module'."
        )
    return list(names)


def plain(**options: object) -> dict[str, Any]:
    """Write options as plain values, as they are kept in `DataFrame.attrs`."""
    return {name: _plain(value) for name, value in options.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, timedelta):
        return f"{value.total_seconds()}s"
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)
