"""What somebody sees who starts JupyterLab with our command and runs the first notebook."""

import os
import re
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
FIRST = "01_first_look.ipynb"
PLOTLY = "application/vnd.plotly.v1+json"
ERRORS = ", ".join(
    f'[data-mime-type="application/vnd.jupyter.{kind}"]' for kind in ("error", "stderr")
)


@pytest.fixture
def address(lab, tmp_path):
    """Give the address that the command prints, on notebooks without outputs."""
    _copy_without_outputs(tmp_path / "notebooks")
    with lab(tmp_path) as printed:
        yield printed


def test_lab_opens_the_first_notebook_and_run_all_draws_its_figures_without_an_error(
    page, address, tmp_path
):
    stored = nbformat.read(NOTEBOOKS / FIRST, as_version=4)
    code_cells = [cell for cell in stored.cells if cell.cell_type == "code"]
    n_figures = sum(PLOTLY in out.get("data", ()) for cell in code_cells for out in cell.outputs)
    assert n_figures > 0
    page_errors = []
    page.on("pageerror", lambda error: page_errors.append(str(error)))
    figures = page.locator(".js-plotly-plot")
    errors = page.locator(ERRORS)
    prompts = page.locator(".jp-CodeCell .jp-InputArea-prompt")

    page.goto(address)
    expect(page.get_by_role("tab", name=FIRST)).to_be_visible()
    expect(prompts).to_have_text(["[ ]:"] * len(code_cells))
    expect(page.locator(".jp-OutputArea-output")).to_have_count(0)
    # JupyterLab forgets what it was told to run before it had reached the kernel.
    expect(page.get_by_text(re.compile(r"^Python.* \| Idle$"))).to_be_visible()

    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    ended = prompts.last.filter(has_text=re.compile(r"\d"))
    expect(ended.or_(errors).first).to_be_visible(timeout=120_000)
    assert errors.all_inner_texts() == []
    expect(prompts).to_have_text([f"[{number}]:" for number in range(1, len(code_cells) + 1)])

    expect(figures).to_have_count(n_figures)
    for figure in figures.all():
        figure.scroll_into_view_if_needed()
        expect(figure.locator(".main-svg").first).to_be_visible()
        expect(figure.locator("g.point path, path.point").first).to_be_visible()

    timeline = figures.filter(has_text="Backups of each device over time").first
    # Plotly lays a surface over its marks that takes the pointer.
    timeline.locator("path.point").first.hover(force=True)
    expect(timeline.locator(".hoverlayer .hovertext")).to_contain_text("created")
    assert page_errors == []

    page.set_viewport_size({"width": 1280, "height": 5600})
    page.locator(".jp-Cell").first.scroll_into_view_if_needed()
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    page.screenshot(path=folder / "first_notebook.png")


def _copy_without_outputs(folder):
    folder.mkdir()
    for path in NOTEBOOKS.glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, folder / path.name)
