"""What is counted on each local day in each group: the first step of judging days."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np
import pandas as pd

from koodrive_nb.analysis import bins, deviations, duration_tables, groups, retention, rules
from koodrive_nb.analysis.zones import epoch_ms
from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from koodrive_nb.analysis.bins import Bins
    from koodrive_nb.analysis.deviations import Measured

METRICS = ("created", "stuck_share", "duration_p50_s")
NEEDED = (*retention.NEEDED, "module", "duration_s", "device_create_time", "stuck_after_s")
FEW = 20
_QUARTILES = (25, 50, 75)
_STRAY = 0.01


@dataclass(frozen=True, slots=True)
class Series:
    """One row per group, one column per day: `n` records, and what was `measured` of them.

    `first` is the first day of each group with more than one in a hundred of its records so far,
    -1 where that is before the days.
    """

    group: pd.DataFrame
    n: np.ndarray[Any, Any]
    first: np.ndarray[Any, Any]
    measured: Measured


def counted(frame: nw.LazyFrame[Any], metric: str, limit_ms: int) -> nw.LazyFrame[Any]:
    """Mark with `_counted` the records that a metric is made of; `_ms` is their creation."""
    if metric == "duration_p50_s":
        made = {"since": None, "until": None}
        # First attempts copy everything: a week of many new devices is no slow week.
        frame = duration_tables.with_attempt(frame, made)
        counts = nw.col("_counted") & nw.col("_usable") & (nw.col("_later") == 1)
    elif metric == "stuck_share":
        frame = retention.with_oldest(frame)
        counts = (retention.is_copy() | retention.is_failed()) & retention.is_whole()
    else:
        frame = frame.with_columns(_ms=epoch_ms(frame, "create_time"))
        counts = ~nw.col("_ms").is_null()
    known = (nw.col("create_time") <= nw.col("as_of")) & (nw.col("_ms") < limit_ms)
    return frame.with_columns(_counted=(counts & known).fill_null(value=False))


def measure(  # noqa: PLR0913, PLR0917 -- what is measured, of whom and when
    frame: nw.LazyFrame[Any],
    metric: str,
    found: Bins,
    keys: Sequence[str],
    limit_ms: int,
    n_shown: int,
) -> Series:
    """Count on the engine, and lay out by group and day, of which `n_shown` will be rows.

    Raises:
        InvalidParameterError: There would be more than 5 000 of them.
    """
    marked = counted(frame.select(*dict.fromkeys((*NEEDED, *keys))), metric, limit_ms)
    parts: dict[str, Any] = {"_n": nw.len()}
    shown: dict[str, nw.Expr] = {}
    if metric == "stuck_share":
        shown["_hit"] = retention.is_failed().cast(nw.Int64)
        parts["_hits"] = nw.col("_hit").sum()
    if metric == "duration_p50_s":
        shown["_took_s"] = nw.col("duration_s")
        parts |= {
            f"_p{place}": nw.col("_took_s").quantile(place / 100, interpolation="linear")
            for place in _QUARTILES
        }
    kept = marked.select(*keys, "_counted", "_ms", **shown).filter("_counted")
    by_day = kept.with_columns(_day=found.unit(nw.col("_ms"))).group_by(*keys, "_day")
    counts = rules.collect(by_day.agg(**parts))
    code, group = groups.numbered(counts, keys)
    if len(group) * n_shown > bins.AT_MOST:
        raise InvalidParameterError(
            f"Days and groups would make more than {bins.AT_MOST:,} rows: take a later since=, "
            "or fewer groups in by=."
        )
    grids = _grids(counts, code, (len(group), len(found.edges) - 1))
    n = grids["_n"]
    return Series(group, n, _first(counts, code, n), _measured(metric, grids))


def _first(
    counts: pd.DataFrame, code: np.ndarray[Any, Any], n: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """Give the day by which each group has its first records, but for one in a hundred.

    One record of a clock that is wrong by years would make silence of all days before the first.
    """
    table = pd.DataFrame({"code": code, "day": counts["_day"], "n": counts["_n"]}).astype("int64")
    table = table.sort_values("day")
    so_far, of = (table.groupby("code")["n"].transform(how).to_numpy() for how in ("cumsum", "sum"))
    begun = table[so_far > _STRAY * of]
    first = np.full(len(n), n.shape[1])
    np.minimum.at(first, begun["code"].to_numpy(), begun["day"].to_numpy())
    return first


def _grids(
    counts: pd.DataFrame, code: np.ndarray[Any, Any], shape: tuple[int, int]
) -> dict[str, np.ndarray[Any, Any]]:
    day = counts["_day"].to_numpy(dtype="int64")
    inside = day >= 0
    grids = {}
    for name in (name for name in counts.columns if name.startswith("_") and name != "_day"):
        grid = np.full(shape, np.nan if name.startswith("_p") else 0.0)
        values = counts[name].to_numpy(dtype="float64", na_value=np.nan)
        grid[code[inside], day[inside]] = values[inside]
        grids[name] = grid
    return grids


def _measured(metric: str, grids: Mapping[str, np.ndarray[Any, Any]]) -> Measured:
    if metric == "stuck_share":
        return deviations.of_shares(grids["_hits"], grids["_n"])
    if metric == "duration_p50_s":
        low, middle, high = (grids[f"_p{place}"] for place in _QUARTILES)
        return deviations.of_medians(low, middle, high, grids["_n"])
    return deviations.of_counts(grids["_n"])
