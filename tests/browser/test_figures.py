"""What somebody sees of each figure, of ten devices, a thousand, and a million records."""

import os
from pathlib import Path

import pandas as pd
import plotly.offline
import pytest

import koodrive_nb as kd

pytestmark = pytest.mark.browser

MAX_BYTES = 300_000
WIDTHS = (700, 1280)
TZ = "Asia/Shanghai"
LAYOUT = Path(__file__).with_name("layout.js").read_text()
HOSTILE = (
    '<img src=x onerror="window.hacked=1">',
    "\u202etxt.exe ملف صور العائلة",
    "家庭的手机 👩‍👩‍👧‍👦📱🧨",
    " " * 32,
    "<script>window.hacked=1</script>" + "W" * 218,
    "$\\href{javascript:window.hacked=1}{x}$",
)
RENDERED = ("<img src=x", "<script>window", "$\\href{javascript:", "家庭的手机", "txt.exe")
EVENTS = pd.DataFrame(
    [
        ("2025-12-04 10:00", None, "app 4.2 released"),
        ("2025-12-06 22:00", "2025-12-09 04:00", "outage of the object storage"),
        ("2025-12-16 09:00", None, "hotfix"),
    ],
    columns=["start", "end", "label"],
)


def _timeline(form):
    def draw(records, devices, *, events=None, by=None):
        return kd.charts.timeline(records, devices=devices, form=form, tz=TZ, events=events)

    return draw


def _breakdown(records, devices, *, events=None, by="module"):
    return kd.charts.status_breakdown(records, by=by, tz=TZ)


def _activity(records, devices, *, events=None, by=None):
    return kd.charts.activity(records, by=by, tz=TZ, events=events)


def _activity_of_groups(records, devices, *, events=None, by="module"):
    return kd.charts.activity(records, by=by, tz=TZ, events=events)


def _activity_marked(by):
    def draw(records, devices, *, events=None, by=by):
        unusual = kd.analysis.anomalies(records, "created", by=by, tz=TZ)
        # Nothing was planted into what is created: some days are marked all the same.
        unusual.loc[unusual.index % 9 == 4, "verdict"] = "unusually_low"
        unusual.loc[unusual.index % 9 == 7, "verdict"] = "unusually_high"
        return kd.charts.activity(records, by=by, tz=TZ, events=events, anomalies=unusual)

    return draw


def _drivers(records, devices, *, events=None, by=None):
    windows = {"window": ("2025-12-06", "2025-12-14"), "previous": ("2025-11-29", "2025-12-05")}
    return kd.charts.explain_change(records, tz=TZ, **windows)


def _durations(kind):
    def draw(records, devices, *, events=None, by="module"):
        return kd.charts.durations(records, by=by, kind=kind, tz=TZ)

    return draw


def _exposure(kind):
    def draw(records, devices, *, events=None, by=()):
        return kd.charts.exposure(records, devices, by=by, kind=kind, tz=TZ)

    return draw


def _history(records, devices, *, events=None, by=None):
    return kd.charts.exposure_history(records, devices, tz=TZ, events=events)


def _adherence(per):
    def draw(records, devices, *, events=None, by=None):
        marked = {"events": events} if per == "day" else {}
        return kd.charts.adherence(records, devices, per=per, tz=TZ, **marked)

    return draw


def _load(kind):
    def draw(records, devices, *, events=None, by=None):
        return kd.charts.load(records, kind=kind, by=by, tz=TZ)

    return draw


def _backlog(records, devices, *, events=None, by="module"):
    return kd.charts.deletion_backlog(records, devices, by=by, tz=TZ)


FIGURES = {
    "status": _breakdown,
    "lanes": _timeline("lanes"),
    "flow": _timeline("flow"),
    "activity": _activity,
    "activity_of_groups": _activity_of_groups,
    "activity_marked": _activity_marked(None),
    "activity_of_groups_marked": _activity_marked("module"),
    "drivers": _drivers,
    "percentiles": _durations("percentiles"),
    "completion": _durations("curve"),
    "exposure": _exposure("buckets"),
    "exposure_curve": _exposure("curve"),
    "history": _history,
    "adherence": _adherence("day"),
    "adherence_of_devices": _adherence("device"),
    "load": _load("starts"),
    "running": _load("running"),
    "backlog": _backlog,
}
NAMES_NOWHERE = {"flow", "activity", "activity_marked", "drivers", "history", "adherence"}
EVENTS_SOMEWHERE = {
    *("lanes", "flow", "activity", "activity_of_groups", "history", "adherence"),
    *("activity_marked", "activity_of_groups_marked"),
}
each_figure = pytest.mark.parametrize("name", FIGURES)


@pytest.fixture(scope="module")
def ten(records, devices):
    return kd.analysis.classify(records), devices


@pytest.fixture(scope="module")
def thousand():
    fleet = kd.sandbox.frames("medium")
    n_devices = fleet.devices.groupby("user_id", sort=False).size().cumsum()
    some = n_devices.index[n_devices <= 1000]
    records, devices = (
        frame[frame["user_id"].isin(some)].reset_index(drop=True)
        for frame in (fleet.records, fleet.devices)
    )
    return kd.analysis.classify(records), devices


@pytest.fixture(scope="module")
def million():
    fleet = kd.sandbox.frames("large")
    return kd.analysis.classify(fleet.records), fleet.devices


@pytest.fixture(scope="module")
def hostile(records, devices):
    ids = pd.concat([records["device_id"], devices["device_id"]]).dropna().unique()
    names = {device: HOSTILE[place % len(HOSTILE)] for place, device in enumerate(ids)}
    records, devices = (
        frame.assign(device_name=frame["device_id"].map(names).astype(frame["device_name"].dtype))
        for frame in (records, devices)
    )
    return kd.analysis.classify(records), devices


@pytest.fixture(scope="module")
def screen(browser):
    """Give a page that has plotly.js and nothing else."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_content('<!doctype html><body style="margin:0"><div id="figure"></div></body>')
    page.add_script_tag(content=plotly.offline.get_plotlyjs())
    page.evaluate(LAYOUT)
    yield page
    page.close()


@pytest.fixture
def show(screen, request, tmp_path):
    """Draw a figure at a width, and give what is wrong with it."""
    trouble = []
    listeners = {
        "pageerror": lambda error: trouble.append(f"error: {error}"),
        "dialog": lambda dialog: (trouble.append(f"dialog: {dialog.message}"), dialog.dismiss()),
        "console": lambda said: said.type == "error" and trouble.append(f"console: {said.text}"),
        "request": lambda asked: trouble.append(f"request: {asked.url}"),
    }
    for event, listener in listeners.items():
        screen.on(event, listener)

    def draw(figure, width, name):
        screen.evaluate("([json, width]) => draw(json, width)", [figure.to_json(), width])
        folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
        screen.locator("#figure").screenshot(path=folder / f"{name}_{width}.png")
        return [f"{width} px: {wrong}" for wrong in [*trouble, *screen.evaluate("misplaced()")]]

    yield draw
    for event, listener in listeners.items():
        screen.remove_listener(event, listener)


@pytest.mark.parametrize("fleet", ["ten", "thousand", "million"])
@each_figure
def test_nothing_is_clipped_and_nothing_overlaps(show, request, fleet, name):
    records, devices = request.getfixturevalue(fleet)
    figure = FIGURES[name](records, devices, events=EVENTS if fleet == "thousand" else None)
    assert len(figure.to_json()) < MAX_BYTES
    wrong = [one for width in WIDTHS for one in show(figure, width, f"{name}_{fleet}")]
    assert wrong == []


@each_figure
def test_hostile_names_are_text_and_nothing_of_them_runs(show, screen, hostile, name):
    records, devices = hostile
    events = EVENTS.assign(label=[HOSTILE[0], HOSTILE[-1], HOSTILE[1]])
    by = "device_label" if name.startswith("exposure") else "device_name"
    more = {"by": by} if name not in NAMES_NOWHERE else {}
    figure = FIGURES[name](records, devices, events=events, **more)
    wrong = [one for width in WIDTHS for one in show(figure, width, f"{name}_hostile")]
    assert wrong == []
    assert screen.evaluate("window.hacked === undefined")
    assert screen.locator("#figure").locator("img, script, foreignObject").count() == 0
    links = screen.locator("#figure svg a").evaluate_all("found => found.map(a => a.outerHTML)")
    assert links == []
    words = screen.locator("#figure").evaluate("figure => figure.textContent")
    if name not in NAMES_NOWHERE:
        assert [text for text in RENDERED if text not in words] == []
    if name in EVENTS_SOMEWHERE:
        assert HOSTILE[0][:19] in words
    assert "\u202e" not in words
