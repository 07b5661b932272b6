"""When the service marks for deletion, and purges, what the synthetic fleet backed up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from koodrive_nb.columns import MODULES
from koodrive_nb.sandbox import habits
from koodrive_nb.sandbox.calendars import DAY
from koodrive_nb.sandbox.chance import stream
from koodrive_nb.sandbox.owners import LATER, NOW

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from koodrive_nb.sandbox.owners import Devices
    from koodrive_nb.sandbox.runs import Runs


@dataclass(frozen=True, slots=True)
class Fates:
    """One place per run: when it completes, starts to wait for its deletion, and is purged.

    Milliseconds since 1970; LATER for what never happens, and for all that becomes of a run which
    completes after the fleet's instant.
    """

    ended_at: NDArray[np.int64]
    marked_at: NDArray[np.int64]
    purged_at: NDArray[np.int64]

    def status(self, instant: int) -> NDArray[np.int8]:
        """Give what the service says of each at an instant, were it there."""
        ended, marked = self.ended_at <= instant, self.marked_at <= instant
        return np.where(marked, 2, ended).astype(np.int8)


def draw_fates(seed: int, devices: Devices, runs: Runs) -> Fates:
    """Draw what becomes of each run."""
    chance = stream(seed, "retention")
    ended_at, marked_at, purged_at = (np.full(len(runs.lane), LATER) for _ in Fates.__slots__)
    done = np.flatnonzero(~runs.stuck & (runs.end <= NOW))
    end = runs.end[done]
    ended_at[done] = end
    # A copy is one too many from the moment that so many newer ones have ended.
    keeps = np.array([habits.MODULE_HABITS[code].keeps for code in MODULES])
    newer = np.arange(len(done)) + keeps[runs.module[done]]
    place = np.minimum(newer, len(done) - 1)
    surplus = (newer < len(done)) & (runs.lane[done[place]] == runs.lane[done])
    surplus_at = np.where(surplus, end[place], LATER)
    # All copies of a device are too many from the moment that it was unbound.
    unbound_at = devices.unbound_at[runs.device[done]]
    marked_at[done] = np.maximum(np.minimum(surplus_at, unbound_at), end)
    dropped = [
        _later(at, mean * DAY * chance.standard_exponential(len(done)))
        for at, mean in (
            (surplus_at, habits.PURGE_MEAN_DAYS),
            (unbound_at, habits.UNBOUND_PURGE_MEAN_DAYS),
        )
    ]
    purged_at[done] = np.minimum(*dropped)
    given_up = runs.stuck & (chance.random(len(runs.lane)) < habits.ABANDONED_SHARE)
    marked_at[given_up] = runs.start[given_up] + int(habits.ABANDONED_AFTER_DAYS * DAY)
    return Fates(ended_at, marked_at, purged_at)


def _later(since: NDArray[np.int64], wait: NDArray[np.float64]) -> NDArray[np.int64]:
    """Add a wait to instants, of which some never come."""
    # What is never plus something would begin anew with the smallest number.
    return since + np.minimum(wait.astype(np.int64), LATER - since)
