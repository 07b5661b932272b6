"""The groups of a table: which record is in which, and in what order they stand."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np
import pandas as pd

from koodrive_nb.analysis import rules
from koodrive_nb.columns import columns
from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_INT64_MAX = 2**63 - 1
_ADDED = ("os_family", "device_label", "state", "stuck_reason")
_NO_GROUPS = {"record_id", "properties", "extra", "status", "state", "stuck_reason"}


def check_keys(records: Any, keys: Sequence[str]) -> None:
    """Check that what to group by is a column of the records, or one that classifying adds.

    Raises:
        InvalidParameterError: One is not; it says what to group by instead.
    """
    schema = rules.lazy(records, ()).collect_schema()
    # Where a column of the schema is missing, it is the records that are to blame.
    known = {*schema.names(), *_ADDED, *(column.name for column in columns("records"))}
    unknown = [key for key in keys if key not in known]
    if not unknown:
        return
    words = nw.String | nw.Categorical | nw.Enum | nw.Boolean
    names = [name for name, kind in schema.items() if isinstance(kind, words)]
    names = [name for name in dict.fromkeys((*_ADDED, *names)) if name not in _NO_GROUPS]
    close = difflib.get_close_matches(unknown[0], names, 1)
    close += [name for name in names if unknown[0].lower() in name]
    meant = f": did you mean {close[0]!r}?" if close else "."
    raise InvalidParameterError(
        f"by= names {unknown[0]!r}, which is no column of the records{meant} It takes "
        f"{', '.join(names)}, or a column that you add."
    )


def same(keys: Sequence[str], row: Mapping[str, Any]) -> list[nw.Expr]:
    """Tell the records of the group that a row of a table stands for; missing equals missing."""
    return [
        nw.col(key).is_null() if pd.isna(row[key]) else nw.col(key) == nw.lit(row[key])
        for key in keys
    ]


def numbers(frame: pd.DataFrame, names: Sequence[str]) -> np.ndarray[Any, Any]:
    """Number the rows so that those alike in all these columns share a number.

    pandas' own grouping of a million rows by texts takes several times as long.
    """
    numbers = np.zeros(len(frame), dtype="int64")
    below = 1
    for name in names:
        codes, distinct = pd.factorize(frame[name])
        if below * (len(distinct) + 1) > _INT64_MAX:
            numbers, seen = pd.factorize(numbers)
            below = len(seen)
        numbers = numbers * (len(distinct) + 1) + codes + 1
        below *= len(distinct) + 1
    places, _ = pd.factorize(numbers)
    return places


def numbered(
    counts: pd.DataFrame, keys: Sequence[str]
) -> tuple[np.ndarray[Any, Any], pd.DataFrame]:
    """Number the groups that rows are in, and give each group once."""
    if not keys:
        # No rows are one group too: of nothing.
        return np.zeros(len(counts), dtype="int64"), pd.DataFrame(index=pd.RangeIndex(1))
    code = counts.groupby([*keys], sort=False, dropna=False, observed=True).ngroup().to_numpy()
    _, first = np.unique(code, return_index=True)
    return code, counts[[*keys]].iloc[first].reset_index(drop=True)


def in_order(groups: pd.DataFrame, keys: Sequence[str], sizes: pd.Series[Any]) -> pd.Index[Any]:
    """Give the places of groups in their order: modules as the API has them, others by size."""
    order = groups.assign(_size=-sizes)
    by = [*keys] if "module" in keys else ["_size", *keys]
    return order.sort_values(by, kind="stable", key=_sortable).index


def _sortable(values: pd.Series[Any]) -> pd.Series[Any]:
    if values.name == "module":
        known = {label: f"{place}" for place, label in enumerate(rules.MODULE_LABELS)}
        return values.astype(str).map(lambda label: known.get(label, label))
    return values if values.dtype.kind in "iuf" else values.astype(str)
