"""How many records are in each state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np
import pandas as pd

from koodrive_nb import settings
from koodrive_nb.analysis import arguments, groups, rules, shares
from koodrive_nb.analysis.states import prepared
from koodrive_nb.columns import STRING, UNKNOWN
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from koodrive_nb.analysis.arguments import StuckAfter

_COUNTS = ("n", *rules.STATES, "was_completed", "was_abandoned")
_RESULTS = {*_COUNTS, *shares.COLUMNS}


def status_breakdown(
    records: Any,
    *,
    by: str | Sequence[str] = "module",
    as_of: object = None,
    tz: str | None = None,
    stuck_after: StuckAfter = "auto",
) -> pd.DataFrame:
    """Count the records in each state, one row per group.

    Columns: the group's own, `n`, one count for each state (`to_be_deleted` split into
    `was_completed` and `was_abandoned`, by whether it has an end), and of those that have come to
    an end the share that completed: `settled_share` = (`completed` + `was_completed`) / `settled`,
    from 0 to 1, with its 95 % Wilson interval `settled_share_lo` and `settled_share_hi`. In
    progress and unknown are in neither part. Groups of modules come in the API's order, others by
    size. Records created after a past `as_of` are not counted. `tz` is the zone in which a figure
    names the span.

    Raises:
        InvalidParameterError: A column is missing, or an argument is not what this takes.
    """
    keys = arguments.keys(by, _RESULTS)
    zone = settings.display_zone(tz).key
    frame, context = prepared(records, keys, zone, as_of, stuck_after)
    counted = frame.filter(~rules.later(nw.col("as_of"))).select(
        *keys, _state=nw.col("state"), _end=nw.col("end_time")
    )
    # To spell out or to add up anything for each record would take longer than to count them.
    counts = rules.collect(
        counted.group_by(*keys, "_state").agg(_n=nw.len(), _n_ended=nw.col("_end").count())
    )
    table = _in_order(_by_state(counts, keys), keys)
    table = shares.settle(table)
    n_later = context.n_records - int(table["n"].sum())
    made = {"table": "status_breakdown", "by": keys}
    made |= arguments.plain(as_of=as_of, tz=zone, stuck_after=stuck_after)
    table.attrs[ATTRS] = context.as_attrs(by=keys, n_later=n_later, made=made)
    return table


def records_behind(
    frame: nw.LazyFrame[Any], row: Mapping[str, Any], made: Mapping[str, Any]
) -> nw.LazyFrame[Any]:
    """Give the classified records that a row of `status_breakdown` counts."""
    counted = frame.filter(~rules.later(nw.col("as_of")))
    for key in made["by"]:
        is_mine = rules.same(key, row[key])
        if key == "module" and row[key] == UNKNOWN:
            is_mine = is_mine | nw.col("module").is_null()
        counted = counted.filter(is_mine)
    return counted


def modules_named(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Write modules that are missing as unknown, where the groups are modules."""
    if "module" in keys:
        table["module"] = table["module"].astype(STRING).fillna(UNKNOWN)
    return table


def _by_state(counts: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Put the counts of each group side by side."""
    counts = modules_named(counts, keys)
    code, table = groups.numbered(counts, keys)
    n, n_ended = counts["_n"].astype("int64"), counts["_n_ended"].astype("int64")
    state = counts["_state"].astype(STRING).fillna("")
    deleting = state == "to_be_deleted"
    parts = {"n": n, **{name: n.where(state == name, 0) for name in rules.STATES}}
    parts |= {
        "was_completed": n_ended.where(deleting, 0),
        "was_abandoned": (n - n_ended).where(deleting, 0),
    }
    for name, part in parts.items():
        sums = np.bincount(code, weights=part.to_numpy(), minlength=len(table))
        table[name] = sums.astype("int64")
    return table


def _in_order(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    if list(keys) == ["module"]:
        named = [label for label in rules.MODULE_LABELS if label != UNKNOWN]
        extra = [label for label in table["module"] if label not in named]
        order = pd.DataFrame({"module": pd.array([*named, *extra], dtype=STRING)})
        table = order.merge(table, on="module", how="left")
        return table.fillna(dict.fromkeys(_COUNTS, 0)).astype(dict.fromkeys(_COUNTS, "int64"))
    return table.sort_values(
        ["n", *keys], ascending=[False, *(True for _ in keys)], kind="stable", key=_sortable
    ).reset_index(drop=True)


def _sortable(values: pd.Series[Any]) -> pd.Series[Any]:
    return values if values.dtype.kind in "iuf" else values.astype(str)
