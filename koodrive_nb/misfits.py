"""Rows that do not fit the schema, read one by one so that nothing of them is lost."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from koodrive_nb.columns import Column
    from koodrive_nb.streams import Stream

_ROW = msgspec.json.Decoder(dict[str, msgspec.Raw])
# Every zone can show these times; python has none before year 1 and after 9999.
_FIRST = datetime(2, 1, 1, tzinfo=UTC)
_LAST = datetime(9998, 12, 31, tzinfo=UTC)
FIRST_MS, LAST_MS = (
    (edge - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    for edge in (_FIRST, _LAST)
)
_INT64 = range(-(2**63), 2**63)


def read_row(text: bytes, fields: Sequence[Column], stream: Stream) -> dict[str, Any] | None:
    """Read one row, whatever of it can be read; None if it is no object.

    Counts on the stream what had to be bent to fit.
    """
    try:
        left = _flatten(_ROW.decode(text), fields)
        twice = _names_twice(text)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    row: dict[str, Any] = {}
    coerced = int(twice)
    for column in fields:
        place = tuple(str(column.api_field).split("."))
        raw = left.get(place)
        row[column.name] = None
        if raw is None:
            continue
        try:
            row[column.name], bent = _value(msgspec.json.decode(raw), column)
        except (TypeError, ValueError, OverflowError, RecursionError):
            continue
        coerced += bent
        del left[place]
    kept = [f"{_quote('.'.join(place))}:{raw.decode()}" for place, raw in left.items()]
    # Of a name that stands twice the last value counts; the whole text shows the other.
    kept += [f'"row as sent":{_quote(text.decode())}'] if twice else []
    row["extra"] = f"{{{','.join(kept)}}}" if kept else None
    stream.coerced += coerced
    return row


def _flatten(row: dict[str, msgspec.Raw], fields: Sequence[Column]) -> dict[tuple[str, ...], bytes]:
    """Give each value by its place, the fields of nested objects below the object's name."""
    flat: dict[tuple[str, ...], bytes] = {(name,): bytes(raw) for name, raw in row.items()}
    for outer in {str(column.api_field).rpartition(".")[0] for column in fields} - {""}:
        raw = flat.get((outer,), b"")
        if raw == b"null":
            del flat[outer,]
        elif raw.startswith(b"{"):
            del flat[outer,]
            flat |= {(outer, name): bytes(part) for name, part in _ROW.decode(raw).items()}
    return flat


def _names_twice(text: bytes) -> bool:
    """Tell whether an object of the row names a field twice, which a dict cannot show."""
    found = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal found
        found |= len({name for name, _ in pairs}) < len(pairs)

    try:
        # Numbers stay text: Python refuses to read those of thousands of digits.
        json.loads(text, object_pairs_hook=look, parse_int=str)
    except RecursionError:
        return False
    return found


def _value(value: Any, column: Column) -> tuple[Any, bool]:
    """Give a value in the type of its column, and whether it had to be bent.

    Raises:
        TypeError, ValueError, OverflowError: It does not fit.
    """
    if value is None:
        return None, False
    if column.kind == "time":
        return _time(value)
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if column.kind == "string":
        if isinstance(value, str):
            return value, False
        if column.digits and is_integer:
            return str(value), True
    elif is_integer and value in _INT64:
        return value, False
    raise TypeError


def _time(value: Any) -> tuple[datetime | None, bool]:
    if value == "":
        return None, True
    instant = datetime.fromisoformat(value)
    naive = instant.tzinfo is None
    if naive:
        instant = instant.replace(tzinfo=UTC)
    cut = instant.astimezone(UTC).replace(microsecond=instant.microsecond // 1000 * 1000)
    if not _FIRST <= cut <= _LAST:
        raise ValueError
    return cut, naive or cut != instant


def _quote(name: str) -> str:
    return msgspec.json.encode(name).decode()
