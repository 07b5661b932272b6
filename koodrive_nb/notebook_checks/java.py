"""Cells that need Java, as Spark does, which no package can bring along."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbformat import NotebookNode

_TAG = "needs-java"


def lacks_java(cell: NotebookNode) -> bool:
    """Tell whether a cell is tagged as needing Java where none is installed."""
    is_tagged = _TAG in cell.metadata.get("tags", ())
    return is_tagged and shutil.which("java") is None and "JAVA_HOME" not in os.environ
