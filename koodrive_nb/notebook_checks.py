"""What makes a notebook valid, and how one is executed so that it always comes out the same.

A stored output is only worth something if it was produced by the cells above it, in order, and if
it holds nothing of the machine or the account that produced it.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat.reader import NotJSONError
from nbformat.validator import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nbformat import NotebookNode

MAX_CELL_BYTES = 300_000
MAX_NOTEBOOK_BYTES = 1_000_000
CELL_TIMEOUT_S = 60

FAILURES = (
    CellExecutionError,
    CellTimeoutError,
    DeadKernelError,
    NotJSONError,
    UnicodeDecodeError,
    ValidationError,
)
"""What executing a stored file may come to."""

_NOT_COMPARED = {"nbval-ignore-output", "nbval-skip"}
_MAY_FAIL = {"nbval-raises-exception", "raises-exception"}
_SECRETS = {
    "an Authorization value": re.compile(
        r"\b(?:(?i:bearer)[ +][\w.~+/-]{16,}|AT[ +][0-9a-f]{16,})|HMAC-SHA256 AppId="
    ),
    "a long run of hex digits, as tokens have": re.compile(r"\b[0-9a-f]{40,}\b", re.IGNORECASE),
    "a JSON web token": re.compile(r"\beyJ[\w-]{10,}\.[\w-]{10,}"),
    "a secret that is set in the notebook": re.compile(
        r"(?:KOODRIVE_(?:TOKEN|APP_SECRET)|TokenAuth)\W{1,8}[\w.~+/-]{12,}"
    ),
}
_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_PATHS = re.compile(
    r"(?<![\w.:/])/(?:home|Users|root|tmp|var|opt|mnt|srv|private|workspace)/\S+|\b[A-Za-z]:\\\\?\w+"
)


def environment() -> dict[str, str]:
    """Give the environment that notebooks run in: no account, UTC, one way to draw figures."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KOODRIVE_")}
    return kept | {
        "PLOTLY_RENDERER": "plotly_mimetype",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "TQDM_DISABLE": "1",
        "TZ": "UTC",
    }


def refresh(path: Path) -> bool:
    """Execute a notebook from top to bottom in a fresh kernel and store what comes out.

    Returns whether the file changed. A cell may take 60 seconds.

    Raises:
        One of FAILURES: It is no notebook, or a cell failed; the file is left as it was.
    """
    notebook = _parsed(path.read_text(encoding="utf-8"))
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute(env=environment())
    # Versions of Python and whatever an editor left behind say nothing about the notebook.
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        kept = {name: cell.metadata[name] for name in ("tags",) if name in cell.metadata}
        cell.metadata = nbformat.from_dict(kept)
        for output in cell.get("outputs", ()):
            # Without the widget's state it would name one that nobody has, by a random id.
            output.get("data", {}).pop(_WIDGET_VIEW, None)
    text = nbformat.writes(notebook, version=4) + "\n"
    changed: bool = text != path.read_text(encoding="utf-8")
    if changed:
        path.write_text(text, encoding="utf-8")
    return changed


def problems(path: Path) -> list[str]:
    """List what is wrong with a stored notebook, without executing it; empty when it is fit.

    Looks at: cells executed once and in order, saved errors, cells that would not be compared,
    widgets, secrets, absolute paths, the size of cells (300 KB) and of the file (1 MB).
    """
    try:
        text = path.read_text(encoding="utf-8")
        notebook = _parsed(text)
    except FAILURES as error:
        return [f"is no notebook: {error}"]
    found = [f"cell {number}: {problem}" for number, problem in _cell_problems(notebook)]
    if "widgets" in notebook.metadata:
        found.append("the metadata hold widget state: refresh the notebook")
    if len(text.encode()) > MAX_NOTEBOOK_BYTES:
        found.append(f"the file is larger than {MAX_NOTEBOOK_BYTES:,} bytes: show less")
    known = {problem for _, problem in _cell_problems(notebook)}
    found += [problem for problem in leaks(text) if problem not in known]
    return found


def leaks(text: str) -> list[str]:
    """Name what a text holds that nobody else may see: secrets, and paths of this machine."""
    found = [f"holds {what}" for what, pattern in _SECRETS.items() if pattern.search(text)]
    path: Any = _PATHS.search(text)
    return [*found, f"holds a path of a machine: {path[0][:60]}"] if path else found


def _parsed(text: str) -> NotebookNode:
    try:
        notebook: NotebookNode = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
    except (AttributeError, KeyError, TypeError) as error:
        # nbformat takes for granted that JSON is shaped like a notebook.
        raise NotJSONError(f"Not shaped like a notebook ({error}).") from None
    return notebook


def _cell_problems(notebook: NotebookNode) -> Iterator[tuple[int, str]]:
    expected = 0
    for number, cell in enumerate(notebook.cells):
        text = nbformat.v4.writes(nbformat.v4.new_notebook(cells=[cell]))
        for problem in leaks(text):
            yield number, problem
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        expected += 1
        tags = set(cell.metadata.get("tags", ()))
        if cell.execution_count is None:
            yield number, "was not executed, so nothing of it is compared: refresh the notebook"
        elif cell.execution_count != expected:
            yield number, f"was executed as number {cell.execution_count}, not {expected}"
        if tags & _NOT_COMPARED or re.search("NBVAL_|PYTEST_VALIDATE_", cell.source):
            yield number, "asks not to be compared: make its output stable instead"
        if not tags & _MAY_FAIL and any(out.output_type == "error" for out in cell.outputs):
            yield number, "holds an error: mend it, or tag the cell raises-exception"
        yield from ((number, f"holds {rest}: refresh the notebook") for rest in _left_behind(cell))
        if len(text.encode()) > MAX_CELL_BYTES:
            yield number, f"is larger than {MAX_CELL_BYTES:,} bytes: show less"


def _left_behind(cell: NotebookNode) -> Iterator[str]:
    if "execution" in cell.metadata:
        yield "times of execution"
    if any(_WIDGET_VIEW in out.get("data", {}) for out in cell.outputs):
        yield "a view of a widget that is not stored"
