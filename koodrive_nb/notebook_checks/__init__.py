"""What makes a notebook valid, and how one is executed so that it always comes out the same.

A stored output is only worth something if it was produced by the cells above it, in order, and if
it holds nothing of the machine or the account that produced it.
"""

from koodrive_nb.notebook_checks.comparison import differences
from koodrive_nb.notebook_checks.execution import (
    CELL_TIMEOUT_S,
    DRAWING,
    FAILURES,
    environment,
    executor,
    refresh,
    sandboxed,
)
from koodrive_nb.notebook_checks.guards import leaks, problems
from koodrive_nb.notebook_checks.reading import find, is_live, read

__all__ = [
    "CELL_TIMEOUT_S",
    "DRAWING",
    "FAILURES",
    "differences",
    "environment",
    "executor",
    "find",
    "is_live",
    "leaks",
    "problems",
    "read",
    "refresh",
    "sandboxed",
]
