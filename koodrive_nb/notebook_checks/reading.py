"""Finding notebooks, reading them, and naming their cells as a reader sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nbformat
from nbformat.reader import NotJSONError
from nbformat.validator import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nbformat import NotebookNode

UNREADABLE = (NotJSONError, OSError, UnicodeDecodeError, ValidationError)
"""What reading a file that is no notebook comes to."""

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
OURS = "koodrive_nb"
"""The key of what a notebook's metadata say to this package."""


def find(path: Path) -> list[Path]:
    """List the notebooks in a folder and below it, hidden folders left out; a file is itself."""
    if not path.is_dir():
        return [path]
    return sorted(
        found
        for found in path.rglob("*.ipynb")
        if not any(part.startswith(".") for part in found.relative_to(path).parts)
    )


def read(text: str) -> NotebookNode:
    """Read a notebook.

    Raises:
        One of UNREADABLE: The text is no notebook.
    """
    try:
        notebook: NotebookNode = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
    except (AttributeError, KeyError, RecursionError, TypeError, nbformat.NBFormatError) as error:
        # nbformat takes for granted that JSON is shaped like a notebook.
        raise NotJSONError(f"Not shaped like a notebook ({error}).") from None
    return notebook


def is_live(notebook: NotebookNode) -> bool:
    """Tell whether a notebook's metadata say that its outputs are of a live account.

    It does so by `"koodrive_nb": {"source": "live"}`. Nobody else can make such outputs again, so
    they are guarded, but neither compared nor refreshed.
    """
    ours = notebook.metadata.get(OURS, {})
    return isinstance(ours, dict) and ours.get("source") == "live"


def named_cells(notebook: NotebookNode) -> Iterator[tuple[str, int, NotebookNode]]:
    """Give each cell its name and the number that a run from top to bottom gives it.

    That number is what a reader sees beside the cell. Text goes by the cell before it.
    """
    number = 0
    for cell in notebook.cells:
        if is_run(cell):
            number += 1
            yield f"cell {number}", number, cell
        else:
            yield f"text after cell {number}" if number else "text before cell 1", number, cell


def is_run(cell: NotebookNode) -> bool:
    """Tell whether a cell holds code to execute."""
    return bool(cell.cell_type == "code" and cell.source.strip())
