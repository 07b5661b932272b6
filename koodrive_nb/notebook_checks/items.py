"""The tests that pytest makes of a notebook: one for each cell, and one for the whole.

Everything here leans on nbval 0.11 and on nothing but its classes; what is checked is not its.
"""

from __future__ import annotations

import os
import subprocess
import time
import warnings
from queue import Empty
from typing import TYPE_CHECKING, Any

import pytest
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, RunningKernel, start_new_kernel
from nbval.plugin import (
    IPyNbCell,
    IPyNbFile,
    find_comment_markers,
    find_metadata_tags,
    nocolors,
)

from koodrive_nb.notebook_checks.comparison import differences
from koodrive_nb.notebook_checks.execution import CELL_TIMEOUT_S, sandboxed
from koodrive_nb.notebook_checks.guards import problems
from koodrive_nb.notebook_checks.java import lacks_java
from koodrive_nb.notebook_checks.reading import UNREADABLE, is_live, is_run, named_cells, read
from koodrive_nb.text import one_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from nbformat import NotebookNode

_NBVAL_TIMEOUT_S = 2000
_OUTPUT_TIMEOUT_S = 20
"""A busy machine may take longer to hand an output over than the 5 s that nbval waits."""
_LOOK_AFTER_S = 0.5
_PROBLEM_CHARACTERS = 500
_TAKEN_BACK = {"update_display_data", "clear_output"}


def prepare(option: argparse.Namespace) -> None:
    """Set nbval's time for a cell to ours, unless another one was asked for."""
    if option.nbval_cell_timeout == _NBVAL_TIMEOUT_S:
        option.nbval_cell_timeout = CELL_TIMEOUT_S


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect a notebook."""
    if file_path.suffix != ".ipynb" or file_path.parent.name == ".ipynb_checkpoints":
        return None
    found: pytest.Collector = NotebookFile.from_parent(parent, path=file_path)
    return found


class KernelDiedError(Exception):
    """The kernel ended before it had answered."""


class Kernel(RunningKernel):  # type: ignore[misc]  # nbval has no types
    """A kernel in the environment of pytest itself, without an account, which is seen to die."""

    has_taken_back = False
    """Whether a cell has changed or cleared what it had shown, which nbval does not follow."""

    def __init__(self, folder: Path, startup_timeout_s: float) -> None:
        self.km, self.kc = start_new_kernel(
            startup_timeout=startup_timeout_s,
            kernel_name=CURRENT_ENV_KERNEL_NAME,
            stderr=subprocess.DEVNULL,
            cwd=str(folder),
            env=sandboxed(),
        )
        self._ensure_iopub_up()

    def get_message(self, stream: str, timeout: float | None = None) -> Any:
        """Wait for a message as nbval does, and look now and then whether the kernel is alive.

        Raises:
            KernelDiedError: It is not, and left no message.
            queue.Empty: The time is over.
        """
        deadline = time.monotonic() + (CELL_TIMEOUT_S if timeout is None else timeout)
        while True:
            was_alive = self.is_alive()
            left = deadline - time.monotonic()
            try:
                message = super().get_message(stream, timeout=max(0.0, min(left, _LOOK_AFTER_S)))
            except Empty:
                if not was_alive:
                    raise KernelDiedError from None
                if left <= _LOOK_AFTER_S:
                    raise
            else:
                self.has_taken_back |= message["msg_type"] in _TAKEN_BACK
                return message


class NotebookFile(IPyNbFile):  # type: ignore[misc]  # as above
    """A notebook, whose kernel starts with the first cell that is run."""

    kernel: Kernel | None = None
    ended_by: str | None = None
    """The cell after which there is no kernel to go on with."""

    def setup(self) -> None:
        """Start nothing yet: what only looks at the file needs no kernel."""

    def start(self) -> None:
        """Start the kernel, unless it runs."""
        if self.kernel is None:
            self.setup_sanitize_files()
            # Where it does not start, no other cell is to wait for it again.
            self.ended_by = "a start that failed"
            timeout_s = self.config.option.nbval_kernel_startup_timeout
            self.kernel = Kernel(self.path.parent, timeout_s)
            self.ended_by = None

    def collect(self) -> Iterator[pytest.Item]:
        """Give the test of the whole, and one for each cell with code, by its number."""
        yield FitItem.from_parent(self, name="fit")
        try:
            notebook = read(self.path.read_text(encoding="utf-8"))
        except UNREADABLE:
            return
        if is_live(notebook):
            return
        for _, number, cell in named_cells(notebook):
            if not is_run(cell):
                continue
            options = {"check": True, "check_exception": False, "skip": False} | _markers(cell)
            yield NotebookCell.from_parent(
                self, name=f"Cell {number}", cell_num=number, cell=cell, options=options
            )

    def teardown(self) -> None:
        """Stop the kernel."""
        # nbval takes the manager away where it has stopped the kernel itself.
        if self.kernel is not None and hasattr(self.kernel, "km"):
            self.kernel.stop()


def _markers(cell: NotebookNode) -> dict[str, bool]:
    with warnings.catch_warnings():
        # Markers that contradict each other: the later one counts.
        warnings.simplefilter("ignore")
        return dict(find_metadata_tags(cell.metadata)) | dict(find_comment_markers(cell.source))


class NotebookCell(IPyNbCell):  # type: ignore[misc]  # as above
    """A cell that is executed, and whose outputs must be the stored ones."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.output_timeout = _OUTPUT_TIMEOUT_S
        self.colors = nocolors

    def setup(self) -> None:
        """Start the kernel, or skip the cell where one has ended it or the cell lacks Java.

        In CI, where nobody reads what is skipped, a cell that lacks Java fails.
        """
        if self.parent.ended_by:
            pytest.skip(f"not run: {self.parent.ended_by} left no kernel to go on with")
        if lacks_java(self.cell):
            reason = "This cell needs Java, and there is none: install Java 17, or set JAVA_HOME"
            if os.environ.get("CI") == "true":
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)
        self.parent.start()

    def runtest(self) -> None:
        """Execute the cell and compare what comes out."""
        if not self.parent.kernel.is_alive():
            self.parent.ended_by = self.name
            self.raise_cell_error("The kernel died before this cell: one above it has ended it")
        self.parent.kernel.has_taken_back = False
        try:
            super().runtest()
        except KernelDiedError:
            self.parent.ended_by = self.name
            self.raise_cell_error("The kernel died while it executed this cell")
        finally:
            if self.parent.timed_out:
                self.parent.ended_by = self.name
        if self.parent.timed_out:
            # It has caught the interruption, and its outputs may even be the stored ones.
            self.raise_cell_error("The time for a cell was over before this one ended")
        if self.options["check"] and self.parent.kernel.has_taken_back:
            self.raise_cell_error(
                "What it has shown it changes or clears: show it once, at the end"
            )

    def compare_outputs(self, test: Any, ref: Any, skip_compare: Any = None) -> bool:
        """Compare the outputs of now with the stored ones."""
        del skip_compare
        self.comparison_traceback = differences(ref, test, self.sanitize)
        return not self.comparison_traceback


class NotFitError(Exception):
    """A notebook is not fit to be stored."""


class FitItem(pytest.Item):
    """The test of a notebook as a whole, which executes nothing."""

    def runtest(self) -> None:
        """Look at the stored file."""
        found = problems(self.path)
        if found:
            raise NotFitError("\n".join(one_line(each, _PROBLEM_CHARACTERS) for each in found))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """List what is wrong."""
        if isinstance(excinfo.value, NotFitError):
            return f"{self.path.name} is not fit to be stored:\n{excinfo.value}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Name the test."""
        return self.path, None, f"{self.path.name}::fit"
