"""Executing a notebook so that it always comes out the same."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from koodrive_nb.errors import ConfigurationError
from koodrive_nb.notebook_checks.comparison import settled
from koodrive_nb.notebook_checks.java import lacks_java
from koodrive_nb.notebook_checks.reading import OURS, UNREADABLE, WIDGET_VIEW, named_cells, read

if TYPE_CHECKING:
    from pathlib import Path

    from nbformat import NotebookNode

CELL_TIMEOUT_S = 60

DRAWING = {
    "PLOTLY_RENDERER": "plotly_mimetype",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "TQDM_DISABLE": "1",
}
"""The variables by which figures are drawn in one way, and nothing but results is shown."""

FAILURES = (
    CellExecutionError,
    CellTimeoutError,
    ConfigurationError,
    DeadKernelError,
    *UNREADABLE,
)
"""What executing a stored file may come to."""


def environment() -> dict[str, str]:
    """Give the environment that notebooks run in: no account, UTC, one way to draw figures."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KOODRIVE_")}
    return kept | DRAWING | {"TZ": "UTC"}


def sandboxed() -> dict[str, str]:
    """Give that environment, with the sandbox in the place of an account for `kd.connect()`."""
    return environment() | {"KOODRIVE_ENDPOINT": "sandbox"}


def executor(notebook: NotebookNode, path: Path, cell_timeout_s: int) -> NotebookClient:
    """Give what executes every cell of a notebook, in its folder, in a fresh kernel."""
    return NotebookClient(
        notebook,
        timeout=cell_timeout_s,
        kernel_name="python3",
        record_timing=False,
        # A cell that is left out would keep its outputs, whatever they say.
        skip_cells_with_tag="",
        store_widget_state=False,
        extra_arguments=[
            # A kernel warns that others on this machine could listen to it.
            "--IPKernelApp.log_level=ERROR",
            # What a program that a cell starts says past Python, as Java does, is of the machine.
            "--IPKernelApp.capture_fd_output=False",
        ],
        resources={"metadata": {"path": str(path.parent.resolve())}},
    )


def refresh(path: Path, *, store: bool = True) -> list[str]:
    """Execute a notebook from top to bottom in a fresh kernel and store what comes out.

    Returns what changed, by the names of cells; nothing is written without `store`. `kd.connect()`
    reaches the sandbox, and a cell may take 60 seconds.

    Raises:
        One of FAILURES: It is no notebook, a cell failed, or one needs Java and there is none; the
            file is left as it was.
    """
    stored = path.read_text(encoding="utf-8")
    notebook = read(stored)
    for name, _, cell in named_cells(notebook):
        if lacks_java(cell):
            # Left out, it would lose its outputs, or keep some that nothing has made again.
            raise ConfigurationError(
                f"{name} needs Java, and there is none: install Java 17 and put it on the PATH, "
                "or set JAVA_HOME to it."
            )
    executor(notebook, path, CELL_TIMEOUT_S).execute(env=sandboxed())
    _tidy(notebook)
    text = nbformat.writes(notebook, version=4) + "\n"
    if text == stored:
        return []
    if store:
        path.write_text(text, encoding="utf-8")
    return _changed(read(stored), notebook)


def _tidy(notebook: NotebookNode) -> None:
    # Versions of Python and whatever an editor left behind say nothing about the notebook.
    kept = {
        name: notebook.metadata[name] for name in (OURS, "jupytext") if name in notebook.metadata
    }
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
        | kept
    )
    for cell in notebook.cells:
        kept = {name: cell.metadata[name] for name in ("tags",) if name in cell.metadata}
        cell.metadata = nbformat.from_dict(kept)
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            # Without the widget's state it would name one that nobody has, by a random id.
            data.pop(WIDGET_VIEW, None)
            if "text/plain" in data:
                data["text/plain"] = settled(data["text/plain"])


def _changed(stored: NotebookNode, new: NotebookNode) -> list[str]:
    pairs = zip(stored.cells, named_cells(new), strict=True)
    found = [name for before, (name, _, after) in pairs if before != after]
    if stored.metadata != new.metadata:
        found.append("the metadata")
    return found or ["the layout of the file"]
