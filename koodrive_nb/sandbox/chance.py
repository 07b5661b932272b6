"""Streams of random numbers that come out the same in every run, one for each thing drawn.

numpy promises that PCG64 and SeedSequence give the same bits on every version and machine. It does
not promise that of what Generator makes of them. Used are only random(), which is 53 of those bits,
and standard_normal(), standard_exponential() and standard_gamma(), whose methods have been the same
since numpy 1.17; choices, shuffles and integers, which have changed, are made here from random().
A test pins some values, so that a numpy that breaks this is noticed.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray


def stream(seed: int, stage: str) -> np.random.Generator:
    """Give the numbers of one stage: what another stage draws does not shift them."""
    entropy = hashlib.sha256(f"{seed} {stage}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(entropy[:16])))


def choose(
    chance: np.random.Generator, weights: Sequence[float], size: int
) -> NDArray[np.integer[Any]]:
    """Draw positions among the weights, which need not sum to one."""
    return choose_by(chance, [weights], np.zeros(size, np.int8))


def choose_by(
    chance: np.random.Generator,
    weights: Sequence[Sequence[float]],
    rows: NDArray[np.integer[Any]],
) -> NDArray[np.integer[Any]]:
    """Draw one position for each of `rows`, by the weights that stand in that row."""
    edges = np.cumsum(np.asarray(weights, float), axis=1)
    edges /= edges[:, -1:]
    drawn = chance.random(len(rows))
    # The last edge is one, and no number drawn reaches it.
    places: NDArray[np.integer[Any]] = (drawn[:, None] >= edges[rows][:, :-1]).sum(axis=1)
    return places


def sample(
    chance: np.random.Generator,
    share: float,
    eligible: NDArray[np.integer[Any]],
    *,
    of: int | None = None,
) -> NDArray[np.integer[Any]]:
    """Draw a share of these, or of so many: exactly that number, and one where it rounds to none.

    Shares that are rare would otherwise be missing from a small fleet, and their counts unknown.
    """
    wanted = max(1, round(share * (len(eligible) if of is None else of)))
    return eligible[np.argsort(chance.random(len(eligible)), kind="stable")[:wanted]]
