"""The share that completes within a time, estimated where some are not over yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np
import pandas as pd

from koodrive_nb.analysis import groups, rules
from koodrive_nb.analysis.shares import Z_95
from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_STEPS = 512
"""The largest number of steps of one curve."""
_MAX_CURVES = 100
_LEAST_MS = 100
# From 0.1 s on, and beyond any time that milliseconds can count.
_DECADES_MS = tuple(10**power for power in range(3, 14))


def on_grid(ms: nw.Expr, *, up: bool) -> nw.Expr:
    """Round whole milliseconds to two digits, up or down; 0.1 s is least.

    In whole numbers, so that every engine rounds alike.
    """
    chain: Any = nw.when(ms < _DECADES_MS[0]).then(nw.lit(_DECADES_MS[0] // 100))
    for decade in _DECADES_MS[1:]:
        chain = chain.when(ms < decade).then(nw.lit(decade // 100))
    unit = chain.otherwise(nw.lit(_DECADES_MS[-1] // 10)).cast(nw.Int64)
    rounded = ((ms + unit - 1) if up else ms) // unit * unit
    # Whoever was seen for less than the least time tells nothing about it.
    least = nw.lit(_LEAST_MS if up else 0)
    return nw.when(rounded >= _LEAST_MS).then(rounded).otherwise(least).cast(nw.Int64)


def curves(
    seen: nw.LazyFrame[Any], keys: Sequence[str]
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Estimate the curve of each group, and tell where each ends and passes the half.

    `seen` tells of each record when it began, ended and was seen last (`_begin`, `_end`, `_now`, in
    milliseconds), whether it completed, `_done`, and whether it is `_usable`.

    Raises:
        InvalidParameterError: There are too many groups.
    """
    begin, is_usable = nw.col("_begin"), nw.col("_usable")
    # Rounded apart: DuckDB takes seconds to plan what is rounded after it depends on the state.
    ended = on_grid(nw.col("_end") - begin, up=True)
    still = on_grid(nw.col("_now") - begin, up=False)
    at = nw.when(is_usable & nw.col("_done")).then(ended).when(is_usable).then(still)
    slim = seen.select(*keys, "_usable", "_done", _at=at.otherwise(nw.lit(0)).cast(nw.Int64))
    counts = rules.collect(slim.group_by(*keys, "_usable", "_done", "_at").agg(_n=nw.len()))
    code, group = groups.numbered(counts, keys)
    if len(group) > _MAX_CURVES:
        raise InvalidParameterError(
            f"by= makes {len(group):,} groups, and at most {_MAX_CURVES} curves are computed: "
            "group by something coarser, or filter the classified records first."
        )
    counts = counts.assign(_code=code, _n=counts["_n"].astype("int64"))
    used = counts["_usable"].astype("bool")
    known = pd.RangeIndex(len(group))
    n, excluded = (
        counts[part].groupby("_code")["_n"].sum().reindex(known, fill_value=0)
        for part in (used, ~used)
    )
    tables, facts = [], []
    for place in groups.in_order(group, keys, n):
        found = _curve(counts[used & (counts["_code"] == place)])
        half = found.loc[found["completed_share"] >= 0.5, "t_s"]  # noqa: PLR2004 -- the median
        plateau = found["completed_share"].iloc[-1]
        named: dict[str, Any] = {key: _plain(group[key].iloc[place]) for key in keys}
        facts.append(
            named
            | {
                "n": int(n[place]),
                "plateau": None if pd.isna(plateau) else float(plateau),
                "median_s": None if half.empty else float(half.iloc[0]),
            }
        )
        kept = np.unique(np.linspace(0, len(found) - 1, MAX_STEPS).round().astype("int64"))
        table = found.iloc[kept].assign(n=int(n[place]), excluded=int(excluded[place]))
        for column, key in enumerate(keys):
            table.insert(column, key, group[key].iloc[[place] * len(kept)].array)
        tables.append(table)
    if tables:
        return pd.concat(tables, ignore_index=True), facts
    nothing = _curve(counts).head(0).assign(n=0, excluded=0)
    return pd.concat([counts[[*keys]], nothing], axis=1), facts


def _plain(value: Any) -> str | None:
    return None if pd.isna(value) else str(value)


def _curve(counts: pd.DataFrame) -> pd.DataFrame:
    """Estimate after Kaplan and Meier (1958) which share completes within each of the times.

    The interval is Greenwood's, on the scale of log(-log(1 - share)): it stays between 0 and 1.
    """
    done = counts["_done"].astype("bool")
    by_time = pd.DataFrame(
        {"done": counts["_n"].where(done, 0), "all": counts["_n"], "at": counts["_at"]}
    )
    by_time = by_time.groupby("at").sum().astype("int64")
    at_risk = by_time["all"][::-1].cumsum()[::-1]
    steps = by_time["done"] > 0
    completed, risk = by_time["done"][steps].to_numpy("float64"), at_risk[steps].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        open_share = np.cumprod(1 - completed / risk)
        variance = np.cumsum(completed / (risk * (risk - completed)))
        half = Z_95 * np.sqrt(variance) / np.abs(np.log(open_share))
        lo, hi = (1 - open_share ** np.exp(sign * half) for sign in (-1, 1))
    lo[open_share <= 0] = hi[open_share <= 0] = np.nan
    n = int(by_time["all"].sum())
    start = 0.0 if n else np.nan
    return pd.DataFrame(
        {
            "t_s": np.concatenate([[0.0], by_time.index[steps].to_numpy("float64") / 1000]),
            "completed_share": np.concatenate([[start], 1 - open_share]),
            "lo": np.concatenate([[start], lo]),
            "hi": np.concatenate([[start], hi]),
            "at_risk": np.concatenate([[n], risk]).astype("int64"),
        }
    )
