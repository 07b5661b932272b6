"""The columns of any pandas frame as few plain kinds: text, numbers, truth, instants.

What is none of these becomes text, in the same way for every format.
"""

from __future__ import annotations

import json
from datetime import date
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from koodrive_nb.columns import STRING
from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNFIT = (pa.ArrowException, UnicodeEncodeError, OverflowError, TypeError, ValueError)


def flat(frame: object) -> pd.DataFrame:
    """Give a frame whose columns have one name each, in text, and whose index says nothing.

    An index with names becomes columns, and so does one without a name that holds anything but
    whole numbers, which merely count rows.

    Raises:
        InvalidParameterError: It is no pandas frame, or two of its columns have the same name.
    """
    if not isinstance(frame, pd.DataFrame):
        raise InvalidParameterError(
            f"write() takes a pandas frame, not {type(frame).__name__}: Polars and DuckDB give one "
            "with .to_pandas() or .df()."
        )
    if frame.columns.nlevels > 1:
        raise InvalidParameterError(
            "The columns have names in several levels: give each column one name, as with "
            "frame.columns = ['_'.join(map(str, name)) for name in frame.columns]."
        )
    index = frame.index
    only_counts = index.nlevels == 1 and index.name is None and index.dtype.kind in "iu"
    try:
        table = frame.reset_index(drop=only_counts)
    except ValueError:
        raise InvalidParameterError(
            f"The index and a column have the same name ({', '.join(map(str, index.names))}): "
            "rename one, or drop the index with .reset_index(drop=True)."
        ) from None
    # What others put there would go into Parquet as it is.
    table.attrs = {}
    table.columns = pd.Index([text(name) for name in table.columns], dtype=object)
    twice = table.columns[table.columns.duplicated()].unique()
    if len(twice):
        raise InvalidParameterError(
            f"There is more than one column {', '.join(map(repr, twice))}: rename them, or select "
            "one of each."
        )
    return table


def arrow(series: pd.Series[Any]) -> pa.Array:
    """Give a column as Arrow text, truth, integers, floats, or times, those with a zone in UTC."""
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        words = arrow(pd.Series(dtype.categories))
        codes = series.cat.codes.to_numpy()
        return words.take(pa.array(codes, mask=codes < 0))
    if isinstance(dtype, np.dtype) and dtype.kind == "m":
        series = series.dt.total_seconds()
    try:
        found = pa.Array.from_pandas(series)
        if isinstance(found, pa.ChunkedArray):
            found = found.combine_chunks()
    except _UNFIT:
        found = None
    plain = None if pd.api.types.is_object_dtype(dtype) else _plain(found)
    return _one_by_one(series) if plain is None else plain


def _plain(values: Any) -> Any:
    if values is None:
        return None
    kind = values.type
    if pa.types.is_timestamp(kind):
        return values.cast(pa.timestamp(kind.unit, "UTC" if kind.tz else None))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view():
        return values.cast(pa.large_string())
    if pa.types.is_float16(kind):
        return values.cast(pa.float32())
    is_kept = pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return values if is_kept else None


def _one_by_one(series: pd.Series[Any]) -> pa.Array:
    given = [None if _is_missing(value) else value for value in series.array]
    known = [value for value in given if value is not None]
    numbers = all(isinstance(value, Real) and not isinstance(value, bool) for value in known)
    if known and (numbers or all(isinstance(value, bool) for value in known)):
        try:
            values = pa.array(given, from_pandas=True)
        except _UNFIT:
            # Such as fractions, and integers beyond 64 bits.
            pass
        else:
            if _plain(values) is not None:
                return values
    return pa.array([None if value is None else text(value) for value in given], pa.large_string())


def _is_missing(value: Any) -> bool:
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def text(value: object) -> str:
    """Write any value as text: nested ones as JSON, times as ISO 8601, half characters escaped."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, date):
        written = value.isoformat()
    elif isinstance(value, dict | list | tuple):
        try:
            written = json.dumps(value, ensure_ascii=False, default=text)
        except (TypeError, ValueError):
            written = str(value)
    else:
        written = str(value)
    # Half of a surrogate pair is text to Python alone.
    return written.encode("utf-8", "backslashreplace").decode()


def iso(times: pa.Array) -> pa.Array:
    """Write times as ISO 8601, with a Z if they are in UTC."""
    # Without the zone, since Arrow would look for a database of zones that Windows has not.
    plain = times.cast(pa.timestamp(times.type.unit)).cast(pa.large_string())
    written = pc.replace_substring(plain, " ", "T")
    zone, nothing = (pa.scalar(mark, pa.large_string()) for mark in ("Z", ""))
    return pc.binary_join_element_wise(written, zone, nothing) if times.type.tz else written


def python(values: pa.Array) -> list[Any]:
    """Give a column as what Python has for it; missing is None, and infinity is text."""
    if pa.types.is_timestamp(values.type):
        values = iso(values)
    if pa.types.is_floating(values.type):
        numbers: list[float | None] = values.to_numpy(zero_copy_only=False).tolist()
        finite = pc.all(pc.is_finite(values), min_count=0).as_py() and not values.null_count
        return numbers if finite else [_finite(number) for number in numbers]
    if pa.types.is_integer(values.type) and values.null_count:
        counts: list[int | None] = values.to_pylist()
        return counts
    plain: list[Any] = values.to_numpy(zero_copy_only=False).tolist()
    return plain


def _finite(number: float | None) -> float | str | None:
    if number is None or number != number:  # noqa: PLR0124 -- that is how NaN is found
        return None
    return str(number) if number in {float("inf"), float("-inf")} else number


def is_kept_by_parquet(series: pd.Series[Any]) -> bool:
    """Tell whether a column comes back from Parquet as it is."""
    dtype = series.dtype
    words = dtype.categories.dtype if isinstance(dtype, pd.CategoricalDtype) else dtype
    try:
        pa.Array.from_pandas(series)
    except _UNFIT:
        return False
    return isinstance(words, pd.StringDtype) or words.kind in "biufmM"


def as_string(values: pa.Array) -> pd.Series[Any]:
    """Give text from Arrow as the package's own strings, anything else as pandas has it."""
    kept: pd.Series[Any] = values.to_pandas(types_mapper={pa.large_string(): STRING}.get)
    return kept


def guarded(values: pa.Array) -> pa.Array:
    """Put an apostrophe before text that a spreadsheet would take for a formula."""
    for pattern in (_FORMULA, _FORMULA_INSIDE):
        values = pc.replace_substring_regex(values, pattern=pattern, replacement=r"\1'\2")
    return values


def names(found: Iterable[str]) -> pa.Array:
    """Give names of columns as Arrow text."""
    return pa.array(list(found), pa.large_string())


_SIGN = "[=+\\-@＝＋－＠﹦﹢﹣﹫]"
"""What begins a formula; full-width and small signs count as signs."""
_FORMULA = rf"^()([\t\r\n]|[\s\p{{Z}}\p{{C}}]*{_SIGN})"
"""Whatever a spreadsheet skips before a formula stands before the sign."""
_SKIPPED = r"[\x00-\x08\x0b\x0c\x0e-\x20\x7f-\x9f\p{Z}\p{Cf}\p{Co}]"
_FORMULA_INSIDE = rf"([;\t\r\n])({_SKIPPED}*{_SIGN})"
"""Where the comma is the decimal sign, spreadsheets split at semicolons, and quotes that begin in
the middle of a cell hold nothing together."""
