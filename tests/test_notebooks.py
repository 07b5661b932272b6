"""The project's own notebooks, which `pytest` itself executes and compares."""

from pathlib import Path

import nbformat
import pytest

from koodrive_nb import notebook_checks
from koodrive_nb.notebook_checks import execution

NOTEBOOKS = notebook_checks.find(Path(__file__).parents[1] / "notebooks")


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_laid_out_as_refreshing_lays_it_out(path):
    text = path.read_text(encoding="utf-8")
    notebook = notebook_checks.read(text)
    execution._tidy(notebook)
    assert nbformat.writes(notebook, version=4) + "\n" == text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_nothing_that_is_not_compared(path):
    assert "Not compared:" not in path.read_text(encoding="utf-8")
