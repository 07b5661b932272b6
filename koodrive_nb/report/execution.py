"""A notebook executed for a report, in a fresh kernel that keeps the author's account."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import nbformat
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from koodrive_nb import notebook_checks, progress
from koodrive_nb.errors import ReportError
from koodrive_nb.report import guard, probe
from koodrive_nb.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nbclient import NotebookClient
    from nbformat import NotebookNode

CELL_TIMEOUT_S = 900
_PROBE = "__import__('koodrive_nb.report.probe', fromlist=['show']).show(globals())"


def execute(
    notebook: NotebookNode, path: Path, variables: Mapping[str, str], key: str | None
) -> dict[str, Any]:
    """Execute a notebook in place and give what its frames tell of themselves.

    It runs in the folder of `path`, each cell for at most 15 minutes, with `variables` on top of
    the environment.

    Raises:
        ReportError: A cell failed or took too long, or the kernel died.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            # Made under another privacy, they would stay where a cell has no code.
            cell.outputs = []
    client = notebook_checks.executor(notebook, path, CELL_TIMEOUT_S)
    environment = os.environ | notebook_checks.DRAWING | {**variables}
    done = 0
    total = len(notebook.cells)
    with (
        client.setup_kernel(env=environment),
        progress.bar(None, path.name, "cell", total, lambda: done) as update,
    ):
        for at, cell in enumerate(notebook.cells):
            try:
                client.execute_cell(cell, at)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                raise ReportError(_told(error, at, notebook, path, key)) from None
            done = at + 1
            update()
        return _facts(client, path)


def _facts(client: NotebookClient, path: Path) -> dict[str, Any]:
    asked = nbformat.v4.new_code_cell(_PROBE)
    client.nb.cells.append(asked)
    try:
        client.execute_cell(asked, len(client.nb.cells) - 1)
    except (CellExecutionError, CellTimeoutError, DeadKernelError):
        raise ReportError(
            f"{path.name} was executed, but its kernel did not tell what its frames hold: install "
            "koodrive_nb where the kernel python3 runs."
        ) from None
    finally:
        client.nb.cells.pop()
    found = [output["data"].get(probe.MIME) for output in asked.outputs if "data" in output]
    return next(dict(facts) for facts in found if facts)


def _is_injected(cell: NotebookNode) -> bool:
    return "injected-parameters" in cell.metadata.get("tags", ())


def _told(error: Exception, at: int, notebook: NotebookNode, path: Path, key: str | None) -> str:
    first = next((line for line in notebook.cells[at].source.splitlines() if line.strip()), "")
    if isinstance(error, CellExecutionError):
        said = f"{error.ename}: {error.evalue}"
        end = [line for line in said.splitlines() if line.strip()][-1:]
        what = said if len(said.splitlines()) == 1 else f"{error.ename}: {''.join(end)}"
    elif isinstance(error, DeadKernelError):
        what = "the kernel died"
    else:
        what = f"it took longer than {CELL_TIMEOUT_S // 60} minutes"
    if guard.secrets(what, key):
        what = what.partition(":")[0] + " (its message holds a secret)"
    if guard.secrets(first, key):
        first = ""
    number = sum(not _is_injected(one) for one in notebook.cells[: at + 1])
    where = f"Cell {number} of {path.name}"
    begins = f" ({one_line(first, 60)})" if first else ""
    return f"{where}{begins} failed, and no report was written: {one_line(what, 300)}"
