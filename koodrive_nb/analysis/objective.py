"""How old a newest completed backup may be, and what a device is that has an older one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb.analysis import arguments
from koodrive_nb.analysis.holdings import hours_between
from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from typing import Self


_MOST_SLACK = 100


@dataclass(frozen=True, slots=True)
class Objective:
    """How old a newest completed backup may be, and which devices are too young to be judged."""

    rpo: pd.Timedelta
    grace: pd.Timedelta
    slack: float

    @classmethod
    def read(cls, rpo: object, grace: object, slack: object) -> Self:
        """Read it from arguments.

        Raises:
            InvalidParameterError: One is no duration, or `slack` no number from 1.
        """
        if (
            isinstance(slack, bool)
            or not isinstance(slack, int | float)
            or not 1 <= slack <= _MOST_SLACK
        ):
            raise InvalidParameterError(
                f"slack= takes a number from 1 to {_MOST_SLACK}, such as 1.5, not {slack!r}."
            )
        return cls(arguments.duration(rpo, "rpo"), arguments.duration(grace, "grace"), float(slack))

    def facts(self) -> dict[str, Any]:
        """Give it as plain values."""
        return {
            "rpo_h": self.rpo.total_seconds() / 3600,
            "grace_h": self.grace.total_seconds() / 3600,
            "slack": self.slack,
        }


def judged(table: pd.DataFrame, goal: Objective) -> pd.DataFrame:
    """Add age, state and cause."""
    counts = ["n", "n_completed", "n_deleting", "stuck_in_a_row"]
    table[counts] = table[counts].fillna(0).astype("int64")
    age_h = hours_between(table["as_of"], table["completed"]).clip(lower=0)
    since_h = hours_between(table["as_of"], table["bound"].fillna(table["first"]))
    is_new = since_h < goal.grace.total_seconds() / 3600
    rpo_h = goal.rpo.total_seconds() / 3600
    state = pd.Series("never", index=table.index, dtype="object")
    for name, fits in (
        ("deleting", age_h.isna() & table["deleted"].notna()),
        ("initial_pending", age_h.isna() & table["deleted"].isna() & is_new),
        ("outdated", age_h > rpo_h * goal.slack),
        ("late", (age_h > rpo_h) & (age_h <= rpo_h * goal.slack)),
        ("protected", age_h <= rpo_h),
        ("warning", (age_h <= rpo_h) & (table["stuck_in_a_row"] > 0)),
        ("unbound", ~table["is_bound"]),
    ):
        state[fits] = name
    since = table["unfinished"] > table["completed"].fillna(pd.Timestamp(0, tz="UTC"))
    gone = table["deleted"].notna() & ~(table["completed"] > table["deleted"])
    cause = pd.Series("no_attempt", index=table.index, dtype="object")
    for reason, fits in (
        ("only_deleted_copies", gone),
        ("attempts_stuck", since & (state != "deleting")),
        ("never_attempted", table["n"] == 0),
        ("new", state == "initial_pending"),
        (None, state.isin(["protected", "warning", "unbound"])),
    ):
        cause[fits] = reason
    return table.assign(
        state=state, cause=cause, rpo_age_h=age_h, in_scope=table["is_bound"] & ~is_new
    )
