"""A report as its reader sees it, offline, on a screen and on paper."""

import os
from pathlib import Path

import nbformat
import pytest

from koodrive_nb import report
from koodrive_nb.report import rendering

pytestmark = pytest.mark.browser

CELLS = (
    'import koodrive_nb as kd\nclient = kd.connect("sandbox")',
    "records, devices = client.records(), client.devices()",
    'records.attrs["koodrive"]["complete"] = False',
    "kd.report.by_module(kd.charts.status_breakdown, records)",
    "kd.charts.exposure(records, devices)",
    'print("<script>window.hacked = 1</script>")',
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    heading = nbformat.v4.new_markdown_cell("# Backups of a week")
    nbformat.write(nbformat.v4.new_notebook(cells=[heading, *cells]), folder / "some.ipynb")
    return report.render(
        folder / "some.ipynb", output=folder / "some.html", key=folder / "key", pdf=True
    ).path


def test_every_figure_is_drawn_and_the_switch_switches_offline(page, made, tmp_path):
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(made.as_uri())
    page.wait_for_function("document.querySelectorAll('.plot .main-svg').length >= 4")
    assert page.title() == "Backups of a week"
    buttons = page.locator(".modebar-btn").evaluate_all("all => all.map(b => b.dataset.title)")
    assert buttons
    assert not [
        title for title in buttons if "loud" in title or "hare" in title or "tudio" in title
    ]

    bar = page.locator(".plot .bars .point path").first
    bar.scroll_into_view_if_needed()
    box = bar.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector(".hoverlayer .hovertext")

    total = "document.querySelector('.plot').data.flatMap(trace => trace.x).reduce((a, b) => a + b)"
    whole = page.evaluate(total)
    alone = page.locator("figure details:visible").count()
    page.locator("input[value=all]").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("input[value=folder]").is_checked()
    assert 0 < page.evaluate(total) < whole
    assert page.locator("figure details:visible").count() == alone
    assert "folder" in page.locator("figure details:visible summary").first.inner_text().lower()

    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    page.screenshot(path=folder / "report.png", full_page=True)
    page.emulate_media(media="print")
    assert page.locator(".stamp").is_visible()
    assert page.locator("label:visible").all_inner_texts() == ["Folder"]
    page.screenshot(path=folder / "report_print.png", full_page=True)
    assert said == []
    assert asked == [made.as_uri()]
    assert page.evaluate("window.hacked === undefined")


def test_it_is_printed_to_a_file(made):
    printed = made.with_suffix(".pdf").read_bytes()
    assert printed.startswith(b"%PDF-")
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") >= 1
    assert made.stat().st_size < rendering.MAX_BYTES
