"""How many backups run at once, per bin of time: a sweep over their beginnings and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np
import pandas as pd

from koodrive_nb.analysis import activities, bins, groups, rules
from koodrive_nb.columns import TIME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from zoneinfo import ZoneInfo

    Edges = tuple[pd.Timestamp, pd.Timestamp]
    Numbers = np.ndarray[Any, np.dtype[np.int64]]

_AUTO = {"5min": pd.Timedelta("5min"), "15min": pd.Timedelta("15min"), "hour": pd.Timedelta("1h")}
_MOST_BINS = 2_016
_SUMS = ("_change", "_moment", "_begun")
_COLUMNS: Mapping[str, Any] = {
    **dict.fromkeys(("bin_start", "bin_end"), TIME),
    **dict.fromkeys(("n", "running_max"), "int64"),
    "running_mean": "float64",
    "is_partial": "bool",
}


def per_bin(
    frame: nw.LazyFrame[Any],
    edges: Edges | None,
    zone: ZoneInfo,
    keys: Sequence[str],
    width: object,
) -> tuple[pd.DataFrame, str | None]:
    """Give how many classified records ran at once per group and bin, and the width of the bins."""
    if edges is None:
        key_columns = {key: pd.Series(dtype="object") for key in keys}
        empty = {name: pd.Series(dtype=kind) for name, kind in _COLUMNS.items()}
        return pd.DataFrame(key_columns | empty), None
    if width == "auto":
        n_groups = len(rules.collect(frame.group_by(*keys).agg(_n=nw.len()))) if keys else 1
        # The window may cut one bin more.
        most = min(_MOST_BINS, bins.AT_MOST // max(1, n_groups) - 1)
        length = edges[1] - edges[0]
        width = next((name for name, each in _AUTO.items() if length <= most * each), "day")
    found = bins.cut(width, zone, *edges)
    changes = _changes(frame, found, keys)
    code, group = groups.numbered(changes, keys)
    n_bins = len(found.edges) - 1
    bins.check_rows(len(group) * n_bins, found.name)
    table = _table(changes, code, len(group), found)
    order = groups.in_order(group, keys, pd.Series(table["n"].reshape(len(group), n_bins).sum(1)))
    rows = (order.to_numpy()[:, None] * n_bins + np.arange(n_bins)).ravel()
    named = {key: group[key].iloc[np.repeat(order, n_bins)].array for key in keys}
    numbers = {name: values[rows] for name, values in table.items()}
    return pd.DataFrame(named | numbers).astype(dict(_COLUMNS)), found.name


def _runs(frame: nw.LazyFrame[Any], edges: Edges, keys: Sequence[str]) -> nw.LazyFrame[Any]:
    """Give from when to when each record ran in the window, in milliseconds of UTC."""
    start, limit = (bins.epoch(edge) for edge in edges)
    known = activities.lives(frame, limit, keys)
    created, over, now = nw.col("_created"), nw.col("_over"), nw.col("_now")
    over = nw.when(over < now).then(over).otherwise(now)
    known = known.with_columns(_over=nw.when(over < limit).then(over).otherwise(nw.lit(limit)))
    known = known.with_columns(
        _from=nw.when(created > start).then(created).otherwise(nw.lit(start))
    )
    return known.filter(nw.col("_over") > nw.col("_from"))


def _changes(frame: nw.LazyFrame[Any], found: bins.Bins, keys: Sequence[str]) -> pd.DataFrame:
    """Reduce to one row per group and unit of time: the change in it, and its highest sum so far.

    An end comes before a beginning at the same instant, so that no sum is higher than any level. It
    is of the bin in which the backup ran last: at its end itself it no longer does.
    """
    runs = _runs(frame, (found.start, found.limit), keys)
    begun, ended = (
        runs.select(*keys, _at=nw.col(at).cast(nw.Int64), _change=nw.lit(change).cast(nw.Int64))
        for at, change in (("_from", 1), ("_over", -1))
    )
    both = nw.concat([begun, ended])
    at, change = nw.col("_at"), nw.col("_change")
    both = both.with_columns(
        _unit=found.unit(nw.when(change > 0).then(at).otherwise(at - 1)),
        _order=at * 2 + nw.when(change > 0).then(nw.lit(1)).otherwise(nw.lit(0)),
        _moment=(at - bins.epoch(found.start)) * change,
        _begun=nw.when(change > 0).then(nw.lit(1)).otherwise(nw.lit(0)),
    )
    both = both.with_columns(_so_far=change.cum_sum().over(*keys, "_unit", order_by="_order"))
    sums = {name: nw.col(name).sum() for name in _SUMS}
    return rules.collect(
        both.group_by(*keys, "_unit").agg(_highest=nw.col("_so_far").max(), **sums)
    )


def _table(
    changes: pd.DataFrame, code: Numbers, n_groups: int, found: bins.Bins
) -> dict[str, np.ndarray[Any, Any]]:
    """Lay the changes out by group and bin, and add up from left to right."""
    n_units, n_bins = len(found.places), len(found.edges) - 1
    grid = {name: np.zeros((n_groups, n_units), dtype="int64") for name in (*_SUMS, "_highest")}
    where = code, changes["_unit"].to_numpy(dtype="int64")
    for name, numbers in grid.items():
        numbers[where] = changes[name].to_numpy(dtype="int64")
    before = grid["_change"].cumsum(axis=1) - grid["_change"]
    of_bin = np.broadcast_to(found.places, before.shape)
    group = np.arange(n_groups)[:, None]
    most = np.zeros((n_groups, n_bins), dtype="int64")
    np.maximum.at(most, (group, of_bin), before + np.maximum(grid["_highest"], 0))
    sums = {name: np.zeros((n_groups, n_bins), dtype="int64") for name in _SUMS}
    for name, numbers in sums.items():
        np.add.at(numbers, (group, of_bin), grid[name])
    before = sums["_change"].cumsum(axis=1) - sums["_change"]
    begins, ends = found.edges[:-1], found.edges[1:]
    first = np.maximum(_since(begins, found), 0)
    last = np.minimum(_since(ends, found), bins.epoch(found.limit) - bins.epoch(found.start))
    # What was there before ran all the time; each change counts from its instant to the end.
    running_ms = before * (last - first) + sums["_change"] * last - sums["_moment"]
    is_partial = (begins < found.start) | (ends > found.limit)
    return {
        "bin_start": np.tile(begins, n_groups),
        "bin_end": np.tile(ends, n_groups),
        "n": (before + sums["_begun"]).ravel(),
        "running_max": most.ravel(),
        "running_mean": (running_ms / (last - first)).ravel(),
        "is_partial": np.tile(is_partial, n_groups),
    }


def _since(stamps: pd.DatetimeIndex, found: bins.Bins) -> Numbers:
    since: Numbers = ((stamps - found.start) // pd.Timedelta("1ms")).to_numpy(dtype="int64")
    return since


def records_behind(
    frame: nw.LazyFrame[Any], row: Mapping[str, Any], edges: Edges
) -> nw.LazyFrame[Any]:
    """Keep the records that ran at any time in the bin of a row."""
    names = frame.collect_schema().names()
    start, limit = max(edges[0], row["bin_start"]), min(edges[1], row["bin_end"])
    return _runs(frame, (start, limit), names)
