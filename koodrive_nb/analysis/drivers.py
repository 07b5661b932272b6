"""Which segments a change goes with: what is tested of them, and what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from koodrive_nb.analysis import effects, rules
from koodrive_nb.text import counted, named

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

LEAST_PART = 0.25
CHANCE = 0.05
NOT_OVER = "; the window was not over at the fetch"
_LEAST_TESTED = 0.5
# So many devices, of like weight, that their sum is nearly normal.
_FEWEST = 20
_SMALL = f"not tested: made of segments with fewer than {effects.FEW} backups in a window"
_ALONE = "not tested: all backups are in it"
_PURGED = "not tested: records of the earlier window may be purged"
_BY_CHANCE = "not tested: the change itself is no more than chance"
_LITTLE = "not tested: less than a quarter of the change"
_OF_WEIGHT = "not tested: no more than its weight would bring"
_BY_FEW = "not tested: a few devices make most of it"
_UNSURE = f"within chance: p is not below {CHANCE}"


def judge(table: pd.DataFrame, about: Mapping[str, Any], *, is_purged: bool) -> pd.DataFrame:
    """Add whether each segment is a driver, with `p_value`, and the `reason` where it is none.

    Tested is what may be a driver by its size; what is not has neither `z` nor `p_value`, which
    would say the contrary of its verdict.
    """
    change = about["change_pp"]
    is_chance = about["change_p_value"] >= CHANCE
    is_other = (table["segment"] == effects.OTHER).to_numpy(dtype=bool)
    is_alone = (table.groupby("dimension")["dimension"].transform("size") == 1).to_numpy(dtype=bool)
    z, total = (table[name].to_numpy(dtype="float64") for name in ("z", "total_pp"))
    of_change = total / change if change else 0 * total
    # Tested or not, each of them could have been the one that stands out.
    chances = effects.probability(z) * segments(table)
    barred = (
        (is_other, _SMALL),
        (is_alone, _ALONE),
        (np.full(len(table), is_purged), _PURGED),
        (np.full(len(table), is_chance), f"{_BY_CHANCE} (p = {about['change_p_value']:.2g})"),
        (of_change < LEAST_PART, _LITTLE),
        (z * change <= 0, _OF_WEIGHT),
        (table["n_effective"].to_numpy() < _FEWEST, _BY_FEW),
        (chances >= CHANCE, _UNSURE),
    )
    reason = np.select([each for each, _ in barred], [why for _, why in barred], "")
    reason = reason.astype("object")
    reason[reason == ""] = None
    is_tested = np.array([why is None or why == _UNSURE for why in reason])
    return table.assign(
        z=np.where(is_tested, z, np.nan),
        p_value=np.where(is_tested, np.minimum(chances, 1.0), np.nan),
        is_driver=[why is None for why in reason],
        reason=reason,
    )


def segments(table: pd.DataFrame) -> int:
    """Count the segments that may be drivers, whatever the change is."""
    whole = table[table["segment"] != effects.OTHER]
    sizes = table.groupby("dimension").size()
    return int((whole["dimension"].map(sizes) > 1).sum())


def went(change_pp: float) -> str:
    """Say in words that the settled share rose, fell, or did neither to two digits."""
    much = f"{abs(change_pp):.2f}"
    if not float(much):
        return "The settled share did not change"
    return f"The settled share {'fell' if change_pp < 0 else 'rose'} by {much} percentage points"


def too_few(n_previous: int, n: int) -> str:
    """Say that either window has too few backups to tell anything."""
    return (
        f"not enough data: {counted(n_previous, 'backup')} came to an end in the earlier window "
        f"and {n:,} in this one, and fewer than {effects.FEW} tell nothing"
    )


def verdict(table: pd.DataFrame, about: Mapping[str, Any], *, is_purged: bool) -> str:
    """Say how the share changed, and what that goes with."""
    before, now = (
        (_percent(about[f"settled_share{which}"]), f"{about[f'n{which}']:,}")
        for which in ("_previous", "")
    )
    words = went(about["change_pp"])
    told = (
        f"{words}, from {before[0]} of {before[1]} to {now[0]} of {now[1]} backups"
        if " by " in words
        else f"{words}, with {before[0]} of {before[1]} before and {now[0]} of {now[1]} backups now"
    )
    if is_purged:
        return f"{told}: no driver is named, since records of the earlier window may be purged"
    untested, share = _untested(table)
    is_nothing = len(untested) == table["dimension"].nunique()
    lacking = (
        f"not enough data to name a driver, since segments of {_listed(untested)} with "
        f"{effects.FEW} backups in both windows, and others beside them, hold "
        f"{f'only {_percent(share)}' if share else 'none'} of the backups"
    )
    if about["change_p_value"] >= CHANCE:
        return f"{told}: no more than chance, and {lacking if is_nothing else 'no clear driver'}"
    found = table[table["is_driver"]]
    with_it = "; ".join(_driver(row) for row in _ranked(found).to_dict("records"))
    if is_nothing and not with_it:
        return f"{told}: {lacking}"
    said = (
        f"associated with {with_it}"
        if with_it
        else "no clear driver, since no segment stands out from the others"
    )
    more = f"; not enough data of {_listed(untested)}" if untested else ""
    return f"{told}: {said}{more}"


def _untested(table: pd.DataFrame) -> tuple[list[str], float]:
    """Give the dimensions most of whose backups no test can tell of, and the part it can."""
    can_be = ~table["reason"].isin([_SMALL, _ALONE]).to_numpy(dtype=bool)
    weights = table[["weight_previous", "weight"]].mean(axis=1).where(can_be, 0.0)
    sums = weights.groupby(table["dimension"], sort=False).sum()
    lacking = sums[sums < _LEAST_TESTED]
    return [str(name) for name in lacking.index], float(lacking.max()) if len(lacking) else 1.0


def _listed(names: list[str]) -> str:
    return " and ".join(rules.word(name) for name in names)


def _ranked(drivers: pd.DataFrame) -> pd.DataFrame:
    ranked: pd.DataFrame = drivers.assign(part=drivers["total_pp"].abs()).sort_values(
        "part", ascending=False, kind="stable"
    )
    return ranked


def _driver(row: Mapping[Any, Any]) -> str:
    is_rate = abs(row["rate_effect_pp"]) >= abs(row["mix_effect_pp"])
    before, now = (
        (row["settled_share_previous"], row["settled_share"])
        if is_rate
        else (row["weight_previous"], row["weight"])
    )
    what = "its share went" if is_rate else "its part of all backups went"
    segment = f"{rules.word(str(row['dimension']))} {named(row['segment'])}"
    return (
        f"{segment}, {row['total_pp']:+.2f} percentage points ({what} from {_percent(before)} to "
        f"{_percent(now)})"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
