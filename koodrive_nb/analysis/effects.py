"""What each segment adds to the change of a share, and whether that is more than noise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    Numbers: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"

FEW = 100
OTHER = "other (small)"
_ROUNDING = 1e-12
_COUNTS = ("n_previous", "n", "hits_previous", "hits")


def pooled(cells: pd.DataFrame) -> pd.DataFrame:
    """Put segments with less than 100 backups in either window together.

    `cells` has one row for each cluster and `segment`, with `n_previous`, `n`, `hits_previous` and
    `hits`.
    """
    sums = cells.groupby("segment")[["n_previous", "n"]].sum()
    small = sums.index[(sums < FEW).any(axis=1)]
    return cells.assign(segment=cells["segment"].where(~cells["segment"].isin(small), OTHER))


def split(cells: pd.DataFrame) -> pd.DataFrame:
    """Split the change of the share of hits into one effect of rate and one of mix per segment.

    With weights w, shares p and the mean P of both windows' shares: the rate adds
    mean(w)(p1 - p0), the mix (mean(p) - P)(w1 - w0), and all of it is the change. A segment that is
    in one window only has no rate to change. `z` is how far, in standard deviations, the effect of
    a segment is from its weight's part of the change. Records of a cluster depend on each other:
    the deviation is that of sums over clusters, and `n_effective` says of how many it is made, as
    if all added the same.
    """
    sums = cells.groupby("segment", sort=True)[list(_COUNTS)].sum().astype("float64")
    n0, n1, hits0, hits1 = (sums[name].to_numpy() for name in _COUNTS)
    w0, w1 = n0 / n0.sum(), n1 / n1.sum()
    overall = (hits0.sum() / n0.sum(), hits1.sum() / n1.sum())
    mean = sum(overall) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        p0, p1 = hits0 / n0, hits1 / n1
    known0, known1 = np.where(n0 > 0, p0, p1), np.where(n1 > 0, p1, p0)
    rate = (w0 + w1) / 2 * (known1 - known0)
    mix = ((known0 + known1) / 2 - mean) * (w1 - w0)
    table = pd.DataFrame(
        {
            "segment": sums.index,
            "n_previous": n0.astype("int64"),
            "n": n1.astype("int64"),
            "settled_share_previous": p0,
            "settled_share": p1,
            "weight_previous": w0,
            "weight": w1,
            "rate_effect_pp": 100 * rate,
            "mix_effect_pp": 100 * mix,
            "total_pp": 100 * (rate + mix),
        }
    )
    z, n_effective = zip(*_distances(cells, table, overall), strict=True)
    return table.assign(z=z, n_effective=n_effective)


def distance(cells: pd.DataFrame) -> float:
    """Give how many standard deviations the change of the share is from none.

    The deviation is what it would be if nothing had changed: of few clusters that of each window by
    itself is far too small, and none at all where everything changed.
    """
    parts = _from_mean(cells)
    deviation = math.sqrt(float((parts**2).sum()))
    return float(parts.sum()) / deviation if deviation else 0.0


def largest(cells: pd.DataFrame) -> float:
    """Give what one cluster adds to the change where that outweighs all others, else 0.

    By squares, as in the deviation: where one is most of it, nothing else can stand out.
    """
    parts = _from_mean(cells)
    squares = parts**2
    place = int(squares.argmax())
    return float(parts[place]) if squares[place] > squares.sum() / 2 else 0.0


def probability(z: Numbers) -> Numbers:
    """Give the chance of a distance at least as large by noise alone, to either side."""
    chances: Numbers = np.array([math.erfc(abs(each) / math.sqrt(2)) for each in z])
    return chances


def _from_mean(cells: pd.DataFrame) -> Numbers:
    """Give what each cluster adds to the change, as far as it is from the mean of both shares."""
    p0, p1 = _shares(cells)
    return _beyond(cells, ((p0 + p1) / 2, (p0 + p1) / 2))


def _shares(cells: pd.DataFrame) -> tuple[float, float]:
    sums = cells[list(_COUNTS)].sum()
    return sums["hits_previous"] / sums["n_previous"], sums["hits"] / sums["n"]


def _clusters(cells: pd.DataFrame) -> tuple[np.ndarray[Any, Any], int]:
    code, names = pd.factorize(cells["cluster"])
    return code, len(names)


def _beyond(cells: pd.DataFrame, shares: tuple[float, float]) -> Numbers:
    """Give what each cluster adds to the change, as far as it is from a share in either window."""
    code, n_clusters = _clusters(cells)
    parts = np.zeros(n_clusters)
    for sign, window, share in ((-1, "_previous", shares[0]), (1, "", shares[1])):
        n, hits = (cells[f"{name}{window}"].to_numpy(dtype="float64") for name in ("n", "hits"))
        parts += sign * np.bincount(code, hits - share * n, n_clusters) / n.sum()
    return parts


def _distances(
    cells: pd.DataFrame, table: pd.DataFrame, overall: tuple[float, float]
) -> list[tuple[float, float]]:
    code, n_clusters = _clusters(cells)
    of_change = _beyond(cells, overall)
    mean, change = sum(overall) / 2, overall[1] - overall[0]
    segment = pd.Categorical(cells["segment"], categories=table["segment"]).codes
    n, hits = (
        np.array([cells[f"{name}{window}"] for window in ("_previous", "")], dtype="float64")
        for name in ("n", "hits")
    )
    whole = n.sum(axis=1)
    of_all = [np.bincount(code, each, n_clusters) for each in n]
    order = np.argsort(segment, kind="stable")
    edges = np.searchsorted(segment[order], np.arange(len(table) + 1))
    found = []
    totals = table["total_pp"].to_numpy(dtype="float64") / 100
    weights = table[["weight_previous", "weight"]].to_numpy(dtype="float64").mean(axis=1)
    for place, (total, weight) in enumerate(zip(totals, weights, strict=True)):
        mine = order[edges[place] : edges[place + 1]]
        parts = -weight * of_change
        for window, sign in ((0, -1), (1, 1)):
            beyond = hits[window, mine] - mean * n[window, mine]
            part = beyond.sum() / whole[window]
            parts += (
                sign
                * (np.bincount(code[mine], beyond, n_clusters) - part * of_all[window])
                / whole[window]
            )
        squares = parts**2
        deviation = math.sqrt(float(squares.sum()))
        # Of a segment that is all there is, nothing is left but rounding.
        if deviation < _ROUNDING:
            found.append((0.0, 0.0))
            continue
        n_effective = float(squares.sum() ** 2 / (squares**2).sum())
        found.append((float(total - weight * change) / deviation, n_effective))
    return found
