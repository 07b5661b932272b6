"""An axis of durations, from parts of a second to years."""

from __future__ import annotations

import math
from typing import Any

from koodrive_nb.analysis.rules import span

_TICKS_S = (0.1, 1, 10, 60, 600, 3600, 21_600, 86_400, 604_800, 2_592_000, 31_536_000)
PAD = 1.15
"""By how much an axis of durations reaches beyond them."""


def duration_axis(low_s: float, high_s: float) -> dict[str, Any]:
    """Give a logarithmic axis of durations, with ticks where people count on."""
    ends = [low_s / PAD, high_s * PAD]
    return {
        "type": "log",
        "range": [round(math.log10(end), 4) for end in ends],
        "tickmode": "array",
        "tickvals": [tick for tick in _TICKS_S if ends[0] <= tick <= ends[1]],
        "ticktext": [span(tick) for tick in _TICKS_S if ends[0] <= tick <= ends[1]],
    }
