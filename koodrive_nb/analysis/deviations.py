"""How far a number is from what is usual: median and MAD, where counts have their own noise.

Numbers are compared on a scale on which their noise is the same everywhere: twice the root of
counts (Anscombe 1948), the arcsine of shares, the logarithm of times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Numbers: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"

LIMIT_Z = 3.5
_OF_NORMAL = 0.6745
_QUARTILES_APART = 1.349
_OF_MEDIAN = np.pi / 2
_LEAST_NOISE = 0.01


@dataclass(frozen=True, slots=True)
class Measured:
    """Numbers with their places on the even scale, the noise there, and the way back."""

    value: Numbers
    place: Numbers
    noise: Numbers
    back: Callable[[Numbers], Numbers]


def of_counts(n: Numbers) -> Measured:
    """Place counts, with the noise of independent events (Poisson)."""

    def back(place: Numbers) -> Numbers:
        return np.maximum((np.maximum(place, 0.0) / 2) ** 2 - 3 / 8, 0.0)

    return Measured(n, 2 * np.sqrt(n + 3 / 8), np.ones_like(n), back)


def of_shares(hits: Numbers, n: Numbers) -> Measured:
    """Place hits of n, with the noise of independent draws (binomial); no share of none."""

    def back(place: Numbers) -> Numbers:
        share = np.sin(np.clip(place, 0.0, np.pi / 2)) ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.clip((share * (n + 3 / 4) - 3 / 8) / n, 0.0, 1.0)

    with np.errstate(divide="ignore", invalid="ignore"):
        share = hits / n
    place = np.arcsin(np.sqrt((hits + 3 / 8) / (n + 3 / 4)))
    return Measured(share, place, 1 / (2 * np.sqrt(n + 1 / 2)), back)


def of_medians(low: Numbers, middle: Numbers, high: Numbers, n: Numbers) -> Measured:
    """Place medians of times, with the noise that quartiles tell where logarithms are normal."""
    with np.errstate(divide="ignore", invalid="ignore"):
        place, below, above = (np.log(np.maximum(each, 0.001)) for each in (middle, low, high))
        noise = np.sqrt(_OF_MEDIAN / n) * (above - below) / _QUARTILES_APART
    return Measured(middle, place, np.maximum(noise, _LEAST_NOISE), np.exp)


def compare(
    place: Numbers, noise: Numbers, others: Numbers, others_noise: Numbers, *, of_noise: Any
) -> tuple[Numbers, Numbers]:
    """Give the median of others and the scale to measure the distance from it by.

    `others` has one row for each earlier week, and no number where one is not to be had. The scale
    is the MAD of Iglewicz and Hoaglin (1993), made that of a normal spread, or the noise of both
    sides if that is more; the noise alone where `of_noise`.
    """
    middle, scale = np.full_like(place, np.nan), np.full_like(place, np.nan)
    known = ~np.isnan(others)
    some = known.any(axis=0)
    if not some.any():
        return middle, scale
    there = others[:, some]
    middle[some] = np.nanmedian(there, axis=0)
    spread = np.nanmedian(np.abs(there - middle[some]), axis=0) / _OF_NORMAL
    variance = np.where(known[:, some], others_noise[:, some] ** 2, 0.0)
    n = known[:, some].sum(axis=0)
    floor = np.sqrt(noise[some] ** 2 + _OF_MEDIAN * variance.sum(axis=0) / n**2)
    is_floor = np.broadcast_to(of_noise, place.shape)[some]
    scale[some] = np.where(is_floor, floor, np.maximum(spread, floor))
    return middle, scale
