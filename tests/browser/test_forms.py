"""What an analyst does with the forms in JupyterLab, by mouse and by keyboard."""

import os
import re
import socket
from pathlib import Path

import nbformat
import openpyxl
import pandas as pd
import pytest
from playwright.sync_api import expect

import koodrive_nb as kd

pytestmark = pytest.mark.browser

# The hard case for secrets: what widgets hold goes into the file.
SETTINGS = {"@jupyter-widgets/jupyterlab-manager/plugin": {"saveState": True}}
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
MARKER = "marker-of-a-token-that-is-nowhere"
DOCUMENTED = "1842862763295184641"
CONNECT = "import koodrive_nb as kd\nconnect = kd.forms.ConnectForm()\nconnect"
LOOKUP = (
    "import koodrive_nb as kd\n"
    "lookup = kd.forms.RecordForm(kd.connect('sandbox'), tz='Asia/Shanghai')\n"
    "lookup"
)
EXPLORE = (
    "import koodrive_nb as kd\n"
    "fleet = kd.sandbox.frames('small', 0)\n"
    "records, devices = fleet.records, fleet.devices\n"
    "explorer = kd.forms.Explorer(records, devices)\n"
    "explorer"
)
STATES = ("completed", "in progress", "stuck", "to be deleted", "unknown")
MODULES = ("folder", "album", "address book")
ERRORS = '[data-mime-type="application/vnd.jupyter.error"]'
LAYOUT = """
form => {
  const box = element => element.getBoundingClientRect();
  const room = box(form);
  const shown = [...form.querySelectorAll(
    "button, input, select, textarea, label, .widget-html-content, .js-plotly-plot"
  )].filter(element => box(element).width > 0 && box(element).height > 0);
  const name = element => `${element.tagName} ${element.textContent.trim().slice(0, 30)}`;
  const wrong = shown.filter(
    element => box(element).right > room.right + 1 || box(element).left < room.left - 1
  ).map(element => `${name(element)} is outside of the form`);
  shown.forEach((one, place) => shown.slice(place + 1).forEach(other => {
    if (one.contains(other) || other.contains(one)) return;
    const [a, b] = [box(one), box(other)];
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (wide > 1 && high > 1) wrong.push(`${name(one)} overlaps ${name(other)}`);
  }));
  const figures = [...form.querySelectorAll(".js-plotly-plot")].map(figure => {
    const place = box(figure.closest(".koodrive-plot"));
    const drawn = box(figure.querySelector(".main-svg"));
    if (Math.abs(drawn.width - place.width) > 2) {
      wrong.push(`a figure is ${drawn.width} px wide in a place of ${place.width} px`);
    }
    return place;
  });
  const [first, second] = figures;
  const is_beside = second.left >= first.right && Math.abs(second.top - first.top) < 2;
  const is_stacked = second.top >= first.bottom && Math.abs(second.left - first.left) < 2;
  return { wrong, arranged: is_beside ? "beside" : is_stacked ? "stacked" : "neither" };
}
"""
CONTENT_WIDTH = """
form => {
  const style = getComputedStyle(form);
  return form.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
}
"""


class Notebook:
    """A notebook that is open in JupyterLab. Its last cell is free for questions."""

    def __init__(self, page, path):
        self.page, self.path = page, path
        self.cells = page.locator(".jp-CodeCell")
        self.forms = page.locator(".koodrive-form")
        self.figures = page.locator(".koodrive-plot")

    def run_all(self):
        # JupyterLab forgets what it was told to run before it had reached the kernel.
        idle = self.page.get_by_text(re.compile(r"^Python.* \| Idle$"))
        expect(idle).to_be_visible()
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        errors = self.page.locator(ERRORS)
        expect(self.forms.or_(errors).last).to_be_visible()
        assert errors.all_inner_texts() == []

    def ask(self, code):
        """Run code in the last cell, after all that was clicked before, and give its result."""
        cell = self.cells.last
        prompt = cell.locator(".jp-InputArea-prompt")
        before = prompt.inner_text()
        self.write(cell, code)
        expect(prompt).not_to_have_text(before)
        expect(prompt).to_have_text(re.compile(r"\d"))
        assert self.page.locator(ERRORS).all_inner_texts() == []
        return cell.locator(".jp-OutputArea-output").last.inner_text().strip()

    def write(self, cell, code):
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(code)
        self.page.keyboard.press("Control+Enter")

    def tab_to(self, target, key="Tab"):
        for _ in range(40):
            self.page.keyboard.press(key)
            if target.evaluate("element => element === document.activeElement"):
                return
        pytest.fail("the keyboard does not reach it")

    def save(self):
        written = self.path.stat().st_mtime_ns
        self.page.keyboard.press("Control+S")
        expect(self.page.locator(".jp-mod-dirty")).to_have_count(0)
        assert self.path.stat().st_mtime_ns > written
        return self.path.read_text()

    def click_bar(self, module, state):
        bars = self.figures.first.locator("g.trace.bars").nth(STATES.index(state))
        box = self.box(bars.locator("path").nth(MODULES.index(module)))
        self.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    def drag_over_time(self, first, last):
        """Drag from one share of the timeline's width to another."""
        box = self.box(self.figures.nth(1).locator(".nsewdrag").first)
        y = box["y"] + box["height"] / 2
        self.page.mouse.move(box["x"] + box["width"] * first, y)
        self.page.mouse.down()
        self.page.mouse.move(box["x"] + box["width"] * last, y, steps=5)
        self.page.mouse.up()

    def box(self, target):
        """Give where something is, once it stays there: plotly has no click on what moves."""
        target.scroll_into_view_if_needed()
        before = None
        for _ in range(20):
            now = target.bounding_box()
            if now == before:
                break
            before = now
            self.page.wait_for_timeout(200)
        return before

    def shoot(self, name):
        folder = Path(os.environ.get("SCREENSHOTS", self.path.parent))
        self.page.screenshot(path=folder / f"{name}.png")


@pytest.fixture(scope="module")
def place(lab, tmp_path_factory):
    """Give the folder of notebooks and the address of the JupyterLab that shows it."""
    folder = tmp_path_factory.mktemp("lab")
    notebooks = folder / "notebooks"
    notebooks.mkdir()
    nbformat.write(nbformat.v4.new_notebook(), notebooks / "start.ipynb")
    with lab(folder, "--notebook=notebooks/start.ipynb", settings=SETTINGS) as address:
        yield notebooks, address


@pytest.fixture
def notebook(browser, place):
    """Give what opens a notebook of these cells and runs it, and forgives no error."""
    folder, address = place
    page = browser.new_page(viewport={"width": 1280, "height": 1700})
    page.set_default_timeout(60_000)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    said, wrong = [], []
    page.on("console", lambda message: said.append((message.type, message.text)))
    page.on("pageerror", lambda error: wrong.append(str(error)))

    def open_notebook(name, source):
        cells = [nbformat.v4.new_code_cell(text) for text in (source, "")]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(
            nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}),
            folder / f"{name}.ipynb",
        )
        # In a workspace of its own, where the notebooks of other tests are not open.
        page.goto(address.replace("/tree/start", f"/workspaces/{name}/tree/{name}"))
        opened = Notebook(page, folder / f"{name}.ipynb")
        opened.run_all()
        return opened

    yield open_notebook
    page.close()
    assert wrong == []
    assert [text for kind, text in said if kind == "error"] == []
    assert [text for _, text in said if MARKER in text] == []


@pytest.fixture(scope="module")
def fleet():
    return kd.sandbox.frames("small", 0)


@pytest.fixture
def refusing():
    """Give the address of a service that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def test_connecting_by_keyboard_and_a_secret_that_stays_nowhere(notebook, refusing):
    opened = notebook("connect", CONNECT)
    page, form = opened.page, opened.forms.first
    message = form.get_by_role("status").or_(form.get_by_role("alert")).last
    opened.cells.first.locator(".cm-content").click()
    page.keyboard.press("Escape")
    opened.tab_to(form.get_by_role("button", name="Connect"))
    page.keyboard.press("Enter")
    expect(message).to_contain_text("Connected to the sandbox")
    n_devices = int(opened.ask("len(connect.client.devices())"))
    expect(message).to_contain_text(f": {n_devices} devices.")

    form.get_by_role("button", name="Live").click()
    form.get_by_label("Endpoint").fill(refusing)
    form.get_by_label("User id").fill("1001")
    token = form.get_by_label("Access token", exact=True)
    # As slowly as a hand: what follows a click within a second is half of a double click.
    token.press_sequentially(MARKER, delay=35)
    assert token.get_attribute("type") == "password"
    form.get_by_role("button", name="Connect").click()
    endpoint = form.locator(".koodrive-field", has=page.get_by_label("Endpoint"))
    expect(endpoint.get_by_role("alert")).to_be_visible()
    expect(token).to_have_value("")
    expect(message).to_contain_text("Kept: still connected to the sandbox")
    opened.shoot("connect_form")

    saved = opened.save()
    assert "koodrive-form" in str(nbformat.reads(saved, 4).metadata["widgets"][WIDGET_STATE])
    assert MARKER not in saved


def test_pasting_a_documented_id_shows_its_card(notebook):
    opened = notebook("lookup", LOOKUP)
    form = opened.forms.first
    form.locator("textarea").fill(f'"{DOCUMENTED}", ')
    form.get_by_role("button", name="Look up").click()
    card = form.get_by_role("region", name=f"Backup record {DOCUMENTED}")
    expect(card).to_be_visible()
    expect(card).to_contain_text("API statusnew (0)")
    assert opened.ask("lookup.records['record_id'].tolist()") == f"['{DOCUMENTED}']"
    opened.shoot("record_form")


def test_fields_and_keys_filter_figures_and_table(notebook, fleet):
    opened = notebook("fields", EXPLORE)
    page, form = opened.page, opened.forms.first
    summary = form.locator(".koodrive-notice").filter(has_text=" of 8,335 records")
    rows = form.get_by_role("table").locator("tbody tr")
    lanes = opened.figures.nth(1).locator("g.ytick")
    recent = kd.analysis.select(fleet.records, since="14D")
    expect(summary).to_contain_text(f"{len(recent):,} of")

    form.get_by_label("device", exact=True).press_sequentially("huang bo tab")
    expect(form.get_by_text(re.compile(r"1 of \d+ devices fit"))).to_be_visible()
    form.get_by_role("option", name="Huang Bo tablet").click()
    expect(summary).to_contain_text("on 1 device ")
    form.get_by_role("listbox", name="state").get_by_role("option", name="completed").click()
    of_device = recent[recent["device_label"].fillna("").str.startswith("Huang Bo tablet")]
    kept = kd.analysis.select(of_device, state="completed")
    expect(form.locator(".koodrive-code code")).to_contain_text("state='completed'")
    expect(summary).to_contain_text(f"{len(kept):,} of")
    expect(rows).to_have_count(len(kept))
    expect(lanes).to_have_count(of_device["module"].nunique())
    expect(lanes.first).to_contain_text("Huang Bo tablet")

    # By keyboard alone.
    opened.cells.first.locator(".cm-content").click()
    page.keyboard.press("Escape")
    opened.tab_to(form.get_by_role("button", name="Stuck"))
    page.keyboard.press("Enter")
    stuck = kd.analysis.select(fleet.records, state="stuck")
    expect(summary).to_contain_text(f"{len(stuck):,} of")
    opened.tab_to(form.get_by_label("text"))
    page.keyboard.type("mate")
    page.keyboard.press("Enter")
    with_text = kd.analysis.select(stuck, text="mate")
    assert 0 < len(with_text) < len(stuck)
    expect(summary).to_contain_text(f"{len(with_text):,} of")
    # A list takes the keys that JupyterLab would move between cells with.
    opened.tab_to(form.get_by_role("listbox", name="module"), "Shift+Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(form.locator(".koodrive-code code")).to_contain_text("module='album'")
    albums = kd.analysis.select(with_text, module="album")
    expect(summary).to_contain_text(f"{len(albums):,} of")


def test_a_click_on_a_bar_and_a_drag_over_time_filter_all_else(notebook, fleet):
    opened = notebook("figures", EXPLORE)
    form = opened.forms.first
    summary = form.locator(".koodrive-notice").filter(has_text=" of 8,335 records")
    rows = form.get_by_role("table").locator("tbody tr")
    lanes = opened.figures.nth(1).locator("g.ytick")
    since, until = form.get_by_label("since"), form.get_by_label("until")
    recent = kd.analysis.select(fleet.records, since="14D")
    expect(lanes.filter(has_text="folder")).not_to_have_count(0)

    opened.click_bar("album", "stuck")
    clicked = kd.analysis.select(recent, module="album", state="stuck")
    expect(summary).to_contain_text(f"{len(clicked)} of")
    expect(rows).to_have_count(20)
    assert {(row[0].split()[0], row[2]) for row in _texts(rows)} == {("stuck", "album")}
    expect(lanes.filter(has_text="folder")).to_have_count(0)
    drawn = {text.split("  ")[0] for text in lanes.all_text_contents()}
    assert drawn <= set(clicked["device_label"])

    opened.drag_over_time(0.2, 0.8)
    expect(since).to_have_value(re.compile(r"^2025-12-0\d \d\d:\d\d"))
    expect(until).to_have_value(re.compile(r"^2025-12-1\d \d\d:\d\d"))
    span = {"since": since.input_value(), "until": until.input_value()}
    dragged = kd.analysis.select(clicked, **span)
    assert 0 < len(dragged) < len(clicked)
    expect(summary).to_contain_text(f"{len(dragged)} of")
    opened.shoot("explorer_filtered")

    form.get_by_role("button", name="Reset", exact=True).click()
    expect(since).to_have_value("14D")
    expect(until).to_have_value("")
    expect(summary).to_contain_text(f"{len(recent):,} of")
    expect(lanes.filter(has_text="folder")).not_to_have_count(0)


def test_pages_files_and_the_line_of_code_have_the_same_records(notebook, fleet):
    opened = notebook("export", EXPLORE)
    page, form = opened.page, opened.forms.first
    table = form.get_by_role("table")
    rows = table.locator("tbody tr")
    previous = form.get_by_role("button", name="Previous")
    form.get_by_role("button", name="Stuck").click()
    stuck = kd.analysis.select(fleet.records, state="stuck")
    ids = stuck["record_id"].tolist()
    expect(form.get_by_text(f"rows 1 to 20 of {len(ids)}")).to_be_visible()
    expect(previous).to_be_disabled()
    first = {row[6] for row in _texts(rows)}
    form.get_by_role("button", name="Next").click()
    expect(form.get_by_text(f"rows 21 to 40 of {len(ids)}")).to_be_visible()
    second = {row[6] for row in _texts(rows)}
    assert (len(first), len(second)) == (20, 20)
    assert first | second <= set(ids)
    assert first.isdisjoint(second)
    previous.click()
    expect(form.get_by_text(f"rows 1 to 20 of {len(ids)}")).to_be_visible()

    save = form.get_by_role("button", name="Save")
    save.click()
    expect(form.get_by_text(f"Saved {len(ids)} rows to backup_records.csv")).to_be_visible()
    form.get_by_label("Format").select_option("Excel")
    expect(form.get_by_label("Save as")).to_have_value("backup_records.xlsx")
    # What follows a click within a second is half of a double click.
    page.wait_for_timeout(1100)
    save.click()
    expect(form.get_by_text(f"Saved {len(ids)} rows to backup_records.xlsx")).to_be_visible()
    folder = opened.path.parent
    assert pd.read_csv(folder / "backup_records.csv", dtype=str)["record_id"].tolist() == ids
    book = openpyxl.load_workbook(folder / "backup_records.xlsx")
    header, *cells = book.worksheets[0].iter_rows()
    column = [cell.value for cell in header].index("record_id")
    assert [(row[column].value, row[column].data_type) for row in cells] == [
        (identity, "s") for identity in ids
    ]
    line = form.locator(".koodrive-code code").inner_text()
    assert line in {str(cell.value) for row in book.worksheets[1].iter_rows() for cell in row}

    form.get_by_role("button", name="Copy").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == line
    same = opened.ask(
        f'found = {copied}\nfound["record_id"].tolist() == explorer.selection["record_id"].tolist()'
    )
    assert same == "True"
    assert opened.ask("len(found)") == str(len(ids))


def test_running_the_cell_again_leaves_one_form_and_a_sound_file(notebook):
    opened = notebook("again", EXPLORE)
    count = "from ipywidgets.widgets.widget import _instances\nlen(_instances)"
    expect(opened.figures.locator(".main-svg").last).to_be_visible()
    n_widgets = opened.ask(count)
    for _ in range(2):
        first = opened.page.locator(".koodrive-form").first.element_handle()
        opened.write(opened.cells.first, EXPLORE)
        opened.page.wait_for_function("form => !form.isConnected", arg=first)
        expect(opened.forms).to_have_count(1)
        expect(opened.page.locator(".js-plotly-plot")).to_have_count(2)
        assert opened.ask(count) == n_widgets


def test_figures_fill_their_place_at_any_width(notebook):
    opened = notebook("layout", EXPLORE)
    page, form = opened.page, opened.forms.first
    expect(opened.figures.locator(".main-svg").last).to_be_visible()
    assert _settled(form)["wrong"] == []
    expected = {1400: "beside", 1000: "beside", 999: "stacked", 700: "stacked"}
    for theme in ("Light", "Dark"):
        page.get_by_role("menuitem", name="Settings", exact=True).click()
        labels = page.locator(".lm-Menu-itemLabel")
        labels.filter(has_text=re.compile(r"^Theme$")).click()
        labels.filter(has_text=re.compile(f"^JupyterLab {theme}$")).click()
        for width, arranged in expected.items():
            # JupyterLab may still be laying itself out when it is asked for the first time.
            while excess := round(form.evaluate(CONTENT_WIDTH)) - width:
                window = page.viewport_size["width"] - excess
                page.set_viewport_size({"width": window, "height": 2400})
                page.wait_for_timeout(300)
            layout = _settled(form)
            opened.shoot(f"explorer_{theme.lower()}_{width}")
            assert layout == {"wrong": [], "arranged": arranged}, f"{width} px, {theme}"


def _settled(form):
    """Tell how a form is laid out, once its figures had time to follow."""
    for _ in range(50):
        layout = form.evaluate(LAYOUT)
        if not layout["wrong"]:
            break
        form.page.wait_for_timeout(100)
    return layout


def _texts(rows):
    return [row.locator("td").all_inner_texts() for row in rows.all()]
