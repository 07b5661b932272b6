"""A report as its reader sees it, offline, on a screen and on paper."""

import json
import os
import shutil
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import nbformat
import pandas as pd
import pytest
from click.testing import CliRunner

from koodrive_nb import cli, report
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


@pytest.fixture(scope="module")
def weekly(tmp_path_factory):
    """Give the folder of the weekly report, made by the command line, and how that ended."""
    folder = tmp_path_factory.mktemp("weekly")
    for name in ("05_weekly_report.ipynb", "weekly_policy.toml"):
        shutil.copy(Path(__file__).parents[2] / "notebooks" / name, folder)
    command = ["report", str(folder / "05_weekly_report.ipynb"), "-o", str(folder / "weekly.html")]
    command += ["--pdf", "--history", str(folder / "kpis.parquet"), "-p", "junit=weekly.xml"]
    start = time.monotonic()
    ended = CliRunner().invoke(cli.main, [*command, "--key", str(folder / "key")])
    assert time.monotonic() - start < 60
    return folder, ended


def test_a_policy_that_fails_is_exit_code_2_junit_and_a_line_and_the_report_is_there(weekly):
    folder, ended = weekly
    assert ended.exit_code == 2, ended.output
    (failed,) = ET.parse(folder / "weekly.xml").getroot().iterfind(".//testcase[failure]")
    numbers = json.loads((folder / "weekly.json").read_text())
    (control,) = (row for row in numbers["tables"]["controls"] if row["result"] == "fail")
    assert failed.get("name") == control["control"] == "protected"
    lost = round(100 * (1 - control["observed"]))
    assert f"Attention: {lost} % of" in (folder / "weekly.html").read_text()
    assert len(pd.read_parquet(folder / "kpis.parquet")) == len(numbers["tables"]["headline"]) == 6
    assert (folder / "weekly.html").stat().st_size < rendering.MAX_BYTES
    assert (folder / "weekly.pdf").read_bytes().startswith(b"%PDF-")


def test_every_figure_of_the_weekly_report_is_drawn_offline(page, weekly):
    address = (weekly[0] / "weekly.html").as_uri()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    figures = page.locator("figure .plot")
    assert figures.count() == 3
    for figure in figures.all():
        figure.locator(".main-svg").first.wait_for()
        plot = figure.locator(".nsewdrag").first
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.95, box["y"] + box["height"] * 0.9)
        figure.locator(".hoverlayer text").first.wait_for()
    assert (said, asked) == ([], [address])
