"""What clients write into a record as JSON text, as columns."""

from __future__ import annotations

import re
from collections import Counter
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa

from koodrive_nb.analysis import rules
from koodrive_nb.columns import STRING, categories, columns
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import narwhals as nw

MAX_COLUMNS = 100
"""A client that writes ever new keys must not make a frame of a million columns."""

_EXACT_UP_TO = 2**53
_INT64 = range(-(2**63), 2**63)
_PANDAS = {
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
    pa.large_string(): STRING,
}
_CATEGORIES = {
    column.name: column.dtype for column in columns("records") if column.kind == "category"
} | {
    "state": categories(rules.STATES),
    "stuck_reason": categories(rules.STUCK_REASONS),
    "os_family": categories(rules.OS_FAMILIES),
}
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def expand(records: Any, column: str = "properties", *, prefix: str | None = None) -> pd.DataFrame:
    """Unpack the JSON objects in a text column: one more column for each of their keys.

    Takes a frame of any engine and brings all its rows into memory, as pandas: `select` first.
    All other columns stay, and so does the text. A key becomes a column `properties.fileCount`,
    with `prefix`, else the name of the column, before the dot. Nested objects are unpacked too
    (`properties.net.type`; of two keys that come to one name the nested one counts), lists stay
    JSON text. The keys that most rows have come first, then the order is by name.

    Whole numbers become Int64, those beyond 64 bits text; other numbers float64, whole ones among
    them only where no digit is lost, else text; no number above 2^53 is put through float. Truth
    values become boolean, text stays text; what is mixed becomes JSON text.

    Rows whose text is missing, empty, or no JSON object have missing values in all of them.
    `attrs["koodrive"]` counts in `n_not_expanded` those that had a text, and in `n_keys_left_out`
    the keys beyond the 100 most frequent, which only the text has.

    Raises:
        InvalidParameterError: There is no such column of text, or the frame has a column of the
            name that a key comes to.
    """
    if not isinstance(column, str):
        raise InvalidParameterError(f"column= takes the name of a column of text, not {column!r}.")
    first = column if prefix is None else prefix
    if not isinstance(first, str) or not first:
        raise InvalidParameterError(
            f"prefix= takes what the new names begin with, as 'client', not {prefix!r}."
        )
    lazy = rules.lazy(records, (column,))
    frame = records if isinstance(records, pd.DataFrame) else _in_memory(lazy)
    places, texts = _distinct(frame, column)
    n_rows = np.bincount(places[places >= 0], minlength=len(texts))
    unread, keys = _survey(texts, n_rows)
    chosen = sorted(keys, key=lambda key: (-keys[key], key))[:MAX_COLUMNS]
    names = {key: f"{first}.{key}" for key in chosen}
    taken = sorted(set(names.values()) & set(frame.columns))
    if taken:
        raise InvalidParameterError(
            f"The frame has the column(s) {', '.join(taken)} already: was it expanded before? "
            "Give prefix= to name the new ones differently."
        )
    found = _values(texts, chosen)
    added = {names[key]: _series(*found[key], places).set_axis(frame.index) for key in chosen}
    result = pd.concat([frame, pd.DataFrame(added, index=frame.index)], axis="columns")
    result.attrs = deepcopy(frame.attrs)
    result.attrs[ATTRS] = result.attrs.get(ATTRS, {}) | {
        "n_not_expanded": int(n_rows[unread].sum()),
        "n_keys_left_out": len(keys) - len(chosen),
    }
    return result


def json_object(text: str) -> dict[str, Any] | None:
    """Read a text as a JSON object; None if it is none, or too deep or long to be read.

    A number that float would change is kept as it is written, as `msgspec.Raw`.
    """
    try:
        return _OBJECT.decode(text)
    except RecursionError:
        return None
    except (msgspec.DecodeError, UnicodeEncodeError):
        pass
    try:
        # A text that was cut inside an emoji is JSON all the same.
        return _OBJECT.decode(_ESCAPE.sub(_whole_letters, text))
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None


def _whole_letters(escape: re.Match[str]) -> str:
    return r"\ufffd" if escape["half"] else escape[0]


def _fraction(text: str) -> float | msgspec.Raw:
    value = float(text)
    # 2^53 itself is also what the next whole number is rounded to.
    return value if abs(value) < _EXACT_UP_TO else msgspec.Raw(text.encode())


_OBJECT = msgspec.json.Decoder(dict[str, Any], float_hook=_fraction)


def _in_memory(lazy: nw.LazyFrame[Any]) -> pd.DataFrame:
    """Collect all rows, with words as categories again wherever nothing is lost by that."""
    frame = rules.collect(lazy)
    for name in {*frame.columns} & {*_CATEGORIES}:
        if set(frame[name].dropna().unique()) <= set(_CATEGORIES[name].categories):
            frame[name] = frame[name].astype(_CATEGORIES[name])
    return frame


def _distinct(frame: pd.DataFrame, column: str) -> tuple[np.ndarray[Any, Any], list[str]]:
    """Give each text once, and for each row the place of its own; -1 where it is missing."""
    try:
        places, found = pd.factorize(frame[column])
        texts = list(found)
    except TypeError:
        # Values such as dicts, which somebody unpacked already.
        texts = [None]
    if not all(isinstance(text, str) for text in texts):
        raise InvalidParameterError(
            f"The column {column} holds no text: expand takes JSON text, as in properties or extra."
        )
    return places, texts


def _survey(texts: Sequence[str], n_rows: np.ndarray[Any, Any]) -> tuple[list[int], Counter[str]]:
    """Tell which texts are no JSON objects, and how many rows have each key of those that are."""
    unread = []
    shapes: Counter[tuple[str, ...]] = Counter()
    for place, text in enumerate(texts):
        found = json_object(text) if text else {}
        if found is None:
            unread.append(place)
        else:
            shapes[tuple(_flat(found))] += int(n_rows[place])
    keys: Counter[str] = Counter()
    for shape, n in shapes.items():
        keys.update(dict.fromkeys(shape, n))
    return unread, keys


def _values(
    texts: Sequence[str], chosen: Sequence[str]
) -> dict[str, tuple[list[int], list[object]]]:
    """Give for each chosen key the places of the texts that have it, and its values there."""
    # Read a second time: all that a hostile client wrote would not be held in memory.
    found: dict[str, tuple[list[int], list[object]]] = {key: ([], []) for key in chosen}
    for place, text in enumerate(texts):
        for key, value in _flat(json_object(text) or {}).items():
            if key in found:
                found[key][0].append(place)
                found[key][1].append(value)
    return found


def _flat(found: dict[str, Any]) -> dict[str, Any]:
    if dict not in map(type, found.values()):
        return found
    flat = {}
    waiting = [("", found)]
    while waiting:
        before, part = waiting.pop()
        for key, value in part.items():
            if isinstance(value, dict) and value:
                waiting.append((f"{before}{key}.", value))
            else:
                flat[f"{before}{key}"] = value
    return flat


def _series(
    at: Sequence[int], values: Sequence[object], places: np.ndarray[Any, Any]
) -> pd.Series[Any]:
    """Give each row the value of its text, in the narrowest type that loses none."""
    typed = _typed(values)
    # The last place is that of rows whose text is missing.
    place_of = np.full(int(places.max(initial=-1)) + 2, -1)
    place_of[at] = np.arange(len(at))
    taken = place_of[places]
    rows = pa.chunked_array([typed.take(pa.array(taken, mask=taken < 0))])
    series: pd.Series[Any] = rows.to_pandas(types_mapper=_PANDAS.get)
    return series


def _typed(values: Sequence[Any]) -> pa.Array:
    known = [value for value in values if value is not None]
    kinds = set(map(type, known))
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and min(known) in _INT64 and max(known) in _INT64:
        return pa.array(values, pa.int64())
    if float in kinds and kinds <= {int, float} and max(map(abs, known)) <= _EXACT_UP_TO:
        return pa.array(values, pa.float64())
    if kinds == {str}:
        return pa.array(values, pa.large_string())
    return pa.array(map(_as_json, values), pa.large_string())


def _as_json(value: object) -> str | None:
    if value is None:
        return None
    try:
        return msgspec.json.encode(value).decode()
    except RecursionError:  # pragma: no cover -- what could just be read may be too deep to write
        return None
