"""The project's own notebooks: fit to be stored, up to date, and strictly compared."""

import json
import shutil
from pathlib import Path

import nbformat
import pytest

from koodrive_nb import notebook_checks

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_fit_to_be_stored(path):
    assert notebook_checks.problems(path) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_refreshing_a_notebook_changes_nothing(path, tmp_path):
    copy = shutil.copy(path, tmp_path)
    assert notebook_checks.refresh(Path(copy)) is False


def figure_cells(notebook):
    mime = "application/vnd.plotly.v1+json"
    return [
        (number, out.data[mime])
        for number, cell in enumerate(cell for cell in notebook.cells if cell.cell_type == "code")
        for out in cell.outputs
        if mime in out.get("data", {})
    ]


def test_a_changed_number_colour_label_or_word_fails_its_cell_and_no_other(pytester):
    """The project's own configuration runs over a copy that was spoilt in four places."""
    root = FOLDER.parent
    shutil.copytree(FOLDER, pytester.path / "notebooks")
    shutil.copy(root / "pyproject.toml", pytester.path)
    path = pytester.path / "notebooks" / "01_first_look.ipynb"
    notebook = nbformat.read(path, 4)
    (breakdown, status), (lanes, timeline), (days, recent) = figure_cells(notebook)
    status["data"][0]["x"][0] += 1
    timeline["data"][-1]["marker"]["color"] = "#4172C8"
    recent["layout"]["yaxis"]["ticktext"][0] += "!"
    sentence, cell = next(
        (number, cell)
        for number, cell in enumerate(cell for cell in notebook.cells if cell.cell_type == "code")
        if "devices have no completed backup" in json.dumps(cell.outputs)
    )
    cell.outputs[0].text = cell.outputs[0].text.replace("devices", "device")
    nbformat.write(notebook, path)
    outcome = pytester.runpytest_subprocess(f"notebooks/{path.name}", "-p", "no:cacheprovider")
    failed = {
        line.split("::Cell ")[1].split()[0]
        for line in outcome.outlines
        if line.startswith("FAILED")
    }
    assert failed == {str(number) for number in (breakdown, lanes, days, sentence)}
    total = sum(cell.cell_type == "code" for cell in notebook.cells)
    outcome.assert_outcomes(passed=total - 4, failed=4)
