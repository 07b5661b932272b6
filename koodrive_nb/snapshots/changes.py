"""What changed from each snapshot to the next, counted."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from koodrive_nb.columns import STATUSES, STRING
from koodrive_nb.errors import SnapshotError
from koodrive_nb.snapshots.lives import KEYS

if TYPE_CHECKING:
    from collections.abc import Sequence

_NEW, _COMPLETED, _TO_BE_DELETED = STATUSES
_COUNTS = ("created", "completed", "to_be_deleted", "disappeared", "open")
_WAITS = ("waited_at_least_h", "waited_at_most_h")


def counted(
    looks: Sequence[tuple[str, pd.DataFrame, pd.DataFrame]], lives: pd.DataFrame, by: str
) -> pd.DataFrame:
    """Count the changes between neighbours of these looks, the oldest first.

    A look is the name of a snapshot, its records (`user_id`, `record_id`, `status_code` and `by`)
    and its users. `lives` tells how long what disappeared had waited.

    Raises:
        SnapshotError: Neighbours are of lists that have no user in common.
    """
    is_marked = lives["to_be_deleted_by"].notna()
    # What was never seen with the mark got it after it was last seen, and waited for less.
    after = lives["to_be_deleted_after"].where(is_marked, lives["disappeared_after"])
    waits = lives[list(KEYS)].assign(
        waited_at_least_h=_hours(lives["disappeared_after"] - lives["to_be_deleted_by"]),
        waited_at_most_h=_hours(lives["disappeared_by"] - after),
    )
    waits["waited_at_least_h"] = waits["waited_at_least_h"].where(is_marked, 0.0)
    # Marked when first seen, a record may have waited for any time before.
    is_open = is_marked & waits["waited_at_most_h"].isna()
    waits["waited_at_most_h"] = waits["waited_at_most_h"].mask(is_open, np.inf)
    steps = [_step(*pair, waits, by) for pair in pairwise(looks)]
    names = ["previous", "snapshot", by, "n_users", *_COUNTS, *_WAITS]
    empty = pd.DataFrame(columns=names).astype(
        dict.fromkeys(("n_users", *_COUNTS), "int64") | dict.fromkeys(_WAITS, "float64")
    )
    table = pd.concat(steps, ignore_index=True) if steps else empty
    return table.astype(dict.fromkeys(["previous", "snapshot"], STRING))[names]


def _step(
    before: tuple[str, pd.DataFrame, pd.DataFrame],
    after: tuple[str, pd.DataFrame, pd.DataFrame],
    waits: pd.DataFrame,
    by: str,
) -> pd.DataFrame:
    if not before[2]["user_id"].isin(after[2]["user_id"]).any():
        raise SnapshotError(
            f"The snapshots {before[0]} and {after[0]} have no users in common, so nothing can "
            "have changed between them: keep one folder for each list of users, and move one of "
            "these to another."
        )
    seen = [users.loc[users["outcome"] == "complete", "user_id"] for _, _, users in (before, after)]
    both = seen[0][seen[0].isin(seen[1])]
    was, now = (rows[rows["user_id"].isin(both)] for _, rows, _ in (before, after))
    rows = was.merge(now, on=list(KEYS), how="outer", suffixes=("_was", ""), indicator="_in")
    rows = rows.merge(waits, on=list(KEYS), how="left")
    was_status, status = rows["status_code_was"], rows["status_code"]
    was_settled = was_status.isin([_COMPLETED, _TO_BE_DELETED])
    is_gone = rows["_in"] == "left_only"
    marks = {
        "created": rows["_in"] == "right_only",
        "completed": status.eq(_COMPLETED).fillna(value=False) & ~was_settled,
        "to_be_deleted": status.eq(_TO_BE_DELETED).fillna(value=False)
        & ~was_status.eq(_TO_BE_DELETED).fillna(value=False),
        "disappeared": is_gone,
        "open": status.eq(_NEW).fillna(value=False),
    }
    marked = rows.assign(
        **{name: mark.astype("int64") for name, mark in marks.items()},
        **{name: rows[name].where(is_gone) for name in _WAITS},
        **{by: rows[by].fillna(rows[f"{by}_was"])},
    )
    groups: Any = marked.groupby(by, dropna=False, sort=True)
    table = groups[[*_COUNTS]].sum().join(groups[[*_WAITS]].median())
    table[[*_WAITS]] = table[[*_WAITS]].replace(np.inf, np.nan)
    table = table.reset_index().assign(previous=before[0], snapshot=after[0], n_users=len(both))
    return pd.DataFrame(table)


def _hours(spans: pd.Series[Any]) -> pd.Series[Any]:
    return pd.Series(spans.dt.total_seconds() / 3600)
