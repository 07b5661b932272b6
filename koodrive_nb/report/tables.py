"""The numbers of a report, as plain values for the JSON beside it."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from koodrive_nb import privacy
from koodrive_nb.errors import InvalidParameterError

MIME = "application/vnd.koodrive-nb.tables+json"
_COUNTS = {"n", "numerator", "denominator", "excluded"}
_OF_THEM = ("value", "lo", "hi", "previous", "change_pp", "share")
_WHOM = {"user_id", "device_id", "machine_code", "device_label", "device_name", "record_id"}
_SAFE_INTEGER = 2**53


def numbers(**tables: pd.DataFrame) -> Numbers:
    """Hand tables over to the JSON file beside a report, under the names they are passed by.

    Ids stay text, times become ISO 8601 in UTC, what is missing null. A table `controls` in which
    a `result` is "fail" lets `koodrive-nb report` end with exit code 2; the table `headline` is
    what a history keeps. Where the privacy is counts, tables with ids are left out, counts below 5
    are written as "<5", and shares of such counts are missing.

    Raises:
        InvalidParameterError: Something is no pandas frame, or has two columns of one name.
    """
    for name, table in tables.items():
        if not isinstance(table, pd.DataFrame) or not table.columns.is_unique:
            raise InvalidParameterError(
                f"numbers({name}=) takes a pandas frame whose columns all have different names."
            )
    return Numbers(tables)


class Numbers:
    """Tables on their way to the file beside a report; a notebook shows one line of them."""

    def __init__(self, tables: dict[str, pd.DataFrame]) -> None:
        self._tables = tables

    def __repr__(self) -> str:
        sizes = (f"{name} ({len(table):,})" for name, table in self._tables.items())
        return f"Numbers for the report: {', '.join(sizes) or 'none'}"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        is_masked = privacy.mode() == "counts"
        told = {name: _rows(table, is_masked=is_masked) for name, table in self._tables.items()}
        left_out = [name for name, rows in told.items() if is_masked and any(map(_is_whose, rows))]
        told = {name: rows for name, rows in told.items() if name not in left_out}
        return {MIME: {"tables": told, "left_out": left_out}, "text/plain": repr(self)}


def _is_whose(row: dict[str, Any]) -> bool:
    texts = (value for value in row.values() if isinstance(value, str))
    return bool(_WHOM & row.keys()) or any(map(privacy.PSEUDONYM.search, texts))


def _rows(table: pd.DataFrame, *, is_masked: bool) -> list[dict[str, Any]]:
    flat = table.reset_index() if any(table.index.names) else table
    whole = {
        str(name)
        for name, kind in flat.dtypes.items()
        if pd.api.types.is_integer_dtype(kind) or name in _COUNTS
    }
    rows = []
    for values in flat.astype(object).itertuples(index=False, name=None):
        row = {str(name): _plain(value) for name, value in zip(flat.columns, values, strict=True)}
        rows.append(_masked(row, whole) if is_masked else row)
    return rows


def _masked(row: dict[str, Any], whole: set[str]) -> dict[str, Any]:
    hidden = {
        name for name in whole if isinstance(row[name], int | float) and privacy.is_few(row[name])
    }
    told = {name: f"<{privacy.FEW}" if name in hidden else value for name, value in row.items()}
    is_of_few = {"n", "numerator"} & hidden
    if not is_of_few and _is_few(row.get("numerator"), row.get("denominator")):
        told["numerator"], is_of_few = None, {"numerator"}
    if is_of_few:
        told |= {name: None for name in _OF_THEM if name in told}
    # The n of a control is what its share is of.
    observed, n = row.get("observed"), row.get("n")
    if row.get("unit") == "share" and observed and n and _is_few(observed * n, n):
        told["observed"] = None
    return told


def _is_few(count: Any, total: Any) -> bool:
    return None not in (count, total) and privacy.is_few(float(count), float(total))


def _plain(value: Any) -> Any:
    if not pd.api.types.is_scalar(value):
        return str(value)
    if pd.isna(value):
        return None
    if isinstance(value, pd.Timestamp):
        stamp = value if value.tzinfo is None else value.tz_convert("UTC").tz_localize(None)
        return stamp.isoformat(timespec="milliseconds") + ("Z" if value.tzinfo else "")
    if isinstance(value, pd.Timedelta):
        return value.total_seconds()
    bare = value.item() if hasattr(value, "item") else value
    is_plain = (
        isinstance(bare, bool)
        or (isinstance(bare, int) and abs(bare) <= _SAFE_INTEGER)
        or (isinstance(bare, float) and math.isfinite(bare))
    )
    return bare if is_plain else str(bare)
