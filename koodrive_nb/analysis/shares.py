"""The share of settled backups that completed, and how sure it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    Numbers: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"

Z_95 = 1.959963984540054
"""How many standard deviations a 95 % interval reaches to each side."""

COLUMNS = ("settled", "settled_share", "settled_share_lo", "settled_share_hi")


def settle(table: pd.DataFrame) -> pd.DataFrame:
    """Add how many backups have come to an end, and the share of them that completed.

    `table` counts `completed`, `stuck`, `was_completed` and `was_abandoned`.
    """
    well = table["completed"] + table["was_completed"]
    settled = well + table["stuck"] + table["was_abandoned"]
    shares = wilson(well.to_numpy(dtype="float64"), settled.to_numpy(dtype="float64"))
    found = pd.DataFrame(dict(zip(COLUMNS, (settled, *shares), strict=True)), index=table.index)
    return table.assign(**{name: found[name] for name in COLUMNS})


def wilson(hits: Numbers, n: Numbers, z: float = Z_95) -> tuple[Numbers, Numbers, Numbers]:
    """Give hits / n with its score interval (Wilson 1927), 95 % by default; no number where n is 0.

    `z` is how many standard deviations the interval reaches to each side.
    """
    z2 = z**2
    with np.errstate(divide="ignore", invalid="ignore"):
        share = hits / n
        middle = (share + z2 / (2 * n)) / (1 + z2 / n)
        half = z / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return share, np.maximum(0.0, middle - half), np.minimum(1.0, middle + half)
