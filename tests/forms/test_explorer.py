import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ipywidgets.widgets.widget import _instances
from pandas.testing import assert_frame_equal

import koodrive_nb as kd
from koodrive_nb.analysis import rules
from koodrive_nb.analysis.selection import Question
from koodrive_nb.forms import linked, selector

EVIL = "<img src=x onerror=alert(1)>$\\frac{1}{2}$%{x}"


@pytest.fixture(scope="module")
def fleet():
    return kd.sandbox.frames("small", 0)


@pytest.fixture
def explorer(fleet):
    form = kd.forms.Explorer(fleet.records, fleet.devices)
    yield form
    form.close()


@pytest.fixture
def open_form():
    opened = []

    def build(*args, **kwargs):
        opened.append(kd.forms.Explorer(*args, **kwargs))
        return opened[-1]

    yield build
    for form in opened:
        form.close()


def same(form, records, devices):
    """Run the line of code that the form shows, and compare what it gives."""
    found = eval(form.code, {"kd": kd, "records": records, "devices": devices})
    assert_frame_equal(form.selection.reset_index(drop=True), found.reset_index(drop=True))
    return found


def test_it_opens_on_the_last_14_days(explorer, fleet):
    assert explorer.view == {"since": "14D"}
    assert explorer.code == "kd.analysis.select(records, since='14D')"
    found = same(explorer, fleet.records, fleet.devices)
    assert 0 < len(found) < len(fleet.records)
    assert (
        repr(explorer) == f"Explorer({len(found):,} of {len(fleet.records):,} records, since='14D')"
    )


def test_keywords_of_select_restore_a_view(explorer, fleet, open_form):
    explorer.reset(module=["album"], state=["stuck", "in_progress"], since="2025-11-01")
    again = open_form(fleet.records, fleet.devices, **explorer.view)
    assert again.view == explorer.view
    assert_frame_equal(again.selection, explorer.selection)
    assert again.records.shown == explorer.records.shown


def test_fields_set_from_code_do_what_a_hand_would_do(explorer, fleet):
    explorer.filters["module"].value = ("album",)
    explorer.filters["text"].value = " mate "
    explorer.filters["since"].value = "30D"
    assert explorer.view == {"since": "30D", "module": ["album"], "text": "mate"}
    same(explorer, fleet.records, fleet.devices)
    explorer.filters["module"].value = ()
    explorer.filters["since"].value = ""
    assert explorer.view == {"text": "mate"}
    same(explorer, fleet.records, fleet.devices)


WORDS = {
    "module": [*rules.MODULE_LABELS],
    "state": [*rules.STATES],
    "os_family": [*rules.OS_FAMILIES],
    "protection": [*rules.PROTECTION],
    "cause": [*rules.CAUSES],
}
VIEWS = st.fixed_dictionaries(
    {},
    optional={
        name: st.lists(st.sampled_from(words), unique=True, max_size=3)
        for name, words in WORDS.items()
    }
    | {
        "since": st.sampled_from(["14D", "2 weeks", "2025-11-20", "2025-12-01T12:00+08:00"]),
        "until": st.sampled_from(["2025-12-10", "2025-12-16T03:04:05.678"]),
        "text": st.sampled_from(["mate", "MATE", "184", "auto", "手机", "no such text"]),
    },
)


@pytest.fixture(scope="module")
def chosen_from(fleet):
    return selector.Selector(
        fleet.records, fleet.devices, as_of=None, tz="Asia/Shanghai", stuck_after="auto"
    )


@given(VIEWS)
@settings(max_examples=60, deadline=None)
def test_every_view_holds_what_select_gives(chosen_from, fleet, view):
    mine = chosen_from.take(chosen_from.fits(Question.read(**view)))
    given = {"devices": fleet.devices, "tz": "Asia/Shanghai"}
    theirs = kd.analysis.select(chosen_from.frame, **view, **given)
    assert_frame_equal(mine, theirs)
    assert mine.attrs == theirs.attrs


def test_records_with_everything_wrong_are_selected_as_select_does(make, open_form):
    records = make(
        {"record_id": "a", "device_id": None, "user_id": None},
        {"record_id": "b", "create_time": None, "device_name": EVIL},
        {"record_id": "c", "module": None, "status_code": None, "user_id": "v"},
        {"record_id": "d", "create_time": "2199-01-01T00:00Z"},
        {"record_id": "e", "user_id": "v", "properties": EVIL},
        {"record_id": "f", "user_id": "w", "device_id": "2", "create_time": None},
    )
    form = open_form(records, since=None)
    assert len(form.selection) == 6
    for view in (
        {"user_id": ["v"]},
        {"device_id": ["1000000000000000001"]},
        {"device_id": ["2"]},
        {"protection": ["never", "protected"]},
        {"text": "onerror"},
        {"module": ["unknown"]},
        {"since": "14D"},
    ):
        form.reset(**view)
        same(form, records, None)


@pytest.mark.parametrize(
    ("button", "view"),
    [
        ("Stuck", {"state": "stuck"}),
        ("Nothing for 7 days", {"protection": ["never", "deleting", "outdated", "late"]}),
        ("Never", {"protection": "never"}),
        ("This week", {"since": "2025-12-15"}),
        ("Reset", {"since": "14D"}),
    ],
)
def test_buttons_are_views(explorer, fleet, button, view):
    explorer.filter(text="mate")
    explorer.buttons[button].click()
    assert explorer.view == view
    same(explorer, fleet.records, fleet.devices)


def test_a_click_on_a_bar_filters_timeline_and_table_and_a_second_one_takes_it_back(explorer):
    explorer.reset(since="60D")
    everything = explorer.records.shown
    stuck = rules.STATES.index("stuck")
    trace = explorer.breakdown._shown.data[stuck]
    place = next(place for place, n in enumerate(trace.x) if n)
    click(explorer.breakdown, stuck, place)
    module = explorer._breakdown.table["module"].iloc[place]
    assert explorer.view == {"since": "60D", "module": module, "state": "stuck"}
    assert set(explorer.selection["state"]) == {"stuck"}
    assert set(explorer._timeline.table["state"].dropna()) == {"stuck"}
    assert explorer.records.shown != everything
    # The figure that was clicked keeps its bars, the others faint.
    bright = [trace.selectedpoints for trace in explorer.breakdown.figure.data]
    assert bright == [(place,) if number == stuck else () for number in range(len(rules.STATES))]
    click(explorer.breakdown, stuck, place)
    assert explorer.view == {"since": "60D"}
    assert explorer.records.shown == everything


def click(plot, number, place):
    """Do what plotly does when its front end tells of a click."""
    trace = plot._shown.data[number]
    plot._shown._handler_js2py_pointsCallback(
        {
            "new": {
                "event_type": "plotly_click",
                "points": {
                    "trace_indexes": [number],
                    "point_indexes": [place],
                    "xs": [trace.x[place]],
                    "ys": [trace.y[place]],
                },
                "device_state": None,
                "selector": None,
            }
        }
    )


def select(plot, first, last):
    """Do what plotly does when somebody drags over a span."""
    plot._shown._handler_js2py_pointsCallback(
        {
            "new": {
                "event_type": "plotly_selected",
                "points": {"trace_indexes": [], "point_indexes": [], "xs": [], "ys": []},
                "device_state": None,
                "selector": {
                    "type": "box",
                    "selector_state": {"xrange": [first, last], "yrange": [0, 1]},
                },
            }
        }
    )


def test_a_click_in_the_timeline_asks_for_its_device(explorer):
    marks = next(
        (number, trace)
        for number, trace in enumerate(explorer.timeline._shown.data)
        if trace.type == "scatter" and trace.name == "completed"
    )
    record_id = marks[1].customdata[0][4]
    device = explorer._timeline.table.set_index("record_id")["device_id"][record_id]
    click(explorer.timeline, marks[0], 0)
    assert explorer.view == {"since": "14D", "device_id": device}
    assert set(explorer.selection["device_id"]) == {device}
    assert explorer.filters["device_id"].value == (device,)
    number = [trace.name for trace in explorer.timeline._shown.data].index("completed")
    click(explorer.timeline, number, 0)
    assert explorer.view == {"since": "14D"}


def test_a_span_that_is_dragged_over_bounds_the_time_in_the_zone_of_the_figure(fleet, open_form):
    form = open_form(fleet.records, fleet.devices, tz="Asia/Shanghai")
    select(form.timeline, "2025-12-10 06:12:33.12", "2025-12-11 08:00:00.001")
    assert form.view == {"since": "2025-12-10 06:12", "until": "2025-12-11 08:01"}
    times = form.selection["create_time"]
    assert times.min() >= pd.Timestamp("2025-12-09T22:12Z")
    assert times.max() < pd.Timestamp("2025-12-11T00:01Z")
    same(form, fleet.records, fleet.devices)


def test_gaps_are_those_of_all_records_whatever_the_filter(explorer):
    explorer.reset(since="60D", state=["stuck"])
    stuck = explorer._timeline.table
    gaps = stuck[stuck["kind"] == "gap"]
    devices = stuck["device_id"].unique()
    explorer.reset(since="60D", device_id=list(devices))
    whole = explorer._timeline.table
    everything = whole[whole["kind"] == "gap"]
    columns = ["device_id", "create_time", "shown_until"]
    assert_frame_equal(
        gaps[columns].sort_values(columns).reset_index(drop=True),
        everything[columns].sort_values(columns).reset_index(drop=True),
    )
    assert (stuck[stuck["kind"] == "backup"]["state"] == "stuck").all()


def test_devices_without_any_record_are_in_the_timeline_and_the_table(make, open_form):
    records = make({"device_id": "1", "create_time": "2025-12-16T00:00Z"})
    devices = records[["user_id", "device_id", "device_name", "device_os", "machine_code"]].assign(
        device_create_time=pd.Timestamp("2025-10-01", tz="UTC"),
        fetched_at=records["fetched_at"],
    )
    silent = devices.assign(device_id="2222", device_name="never seen")
    form = open_form(records, pd.concat([devices, silent], ignore_index=True))
    form.buttons["Never"].click()
    assert len(form.selection) == 0
    assert form._timeline.table["device_id"].tolist() == ["2222"]
    form._table.value = "Devices"
    assert "never seen" in form.devices.shown
    assert "2222" in form.devices.shown


def test_a_fleet_is_drawn_as_counts_and_a_click_asks_for_that_time(make, open_form, monkeypatch):
    monkeypatch.setattr(linked, "_FLOW_ABOVE_DEVICES", 2)
    records = make(
        *(
            {"device_id": str(1000 + n), "create_time": f"2025-12-{1 + n:02d}T10:00Z"}
            for n in range(15)
        )
    )
    form = open_form(records)
    assert "bin_start" in form._timeline.table
    created = next(t for t in form.timeline._shown.data if t.type == "bar")
    place = next(place for place, n in enumerate(created.y) if n)
    click(form.timeline, list(form.timeline._shown.data).index(created), place)
    assert len(form.selection) == 1
    same(form, records, None)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("since", "yesterdayish", "since="),
        ("until", "soon", "until="),
        ("text", "\ud800", "text="),
    ],
)
def test_what_is_wrong_with_a_field_is_said_beside_it_and_the_view_stays(
    explorer, field, value, said
):
    before = explorer.view
    explorer.filters[field].value = value
    assert said in explorer.filters.complaint(field)
    assert explorer.view == before
    explorer.buttons["Reset"].click()
    assert explorer.filters.complaint(field) == ""


def test_unknown_words_are_refused_from_code(explorer, fleet):
    with pytest.raises(kd.InvalidParameterError, match="state="):
        explorer.filter(state="broken")
    with pytest.raises(kd.InvalidParameterError, match="device"):
        kd.forms.Explorer(fleet.records, device_id="nobody's")
    with pytest.raises(kd.InvalidParameterError, match="pandas"):
        kd.forms.Explorer([1, 2])
    with pytest.raises(kd.InvalidParameterError, match="lacks"):
        kd.forms.Explorer(
            fleet.records.drop(columns="state", errors="ignore").drop(columns="status_code")
        )


def test_the_summary_names_the_source_and_whether_all_is_there(client, open_form):
    form = open_form(client.records(module="folder"))
    assert form.summary.text.endswith("sandbox (synthetic), complete")
    form = open_form(client.records(max_pages=1, errors="collect"))
    assert form.summary.text.endswith("sandbox (synthetic), INCOMPLETE")


def test_an_empty_account_is_shown_as_one(records, devices, open_form):
    form = open_form(records.head(0), devices)
    assert form.summary.text.startswith("0 of 0 records")
    for button in form.buttons.values():
        button.click()
        assert len(form.selection) == 0
    form = open_form(records.head(0))
    assert "none" in form.records.shown


def test_names_of_devices_can_not_become_markup(make, open_form):
    records = make({"device_name": EVIL, "device_id": EVIL, "user_id": EVIL})
    form = open_form(records)
    form._table.value = "Devices"
    form.reset(text="<img")
    html = form.records.shown + form.devices.shown + form._code.value + form.summary.value
    assert "<img" not in html
    assert "&lt;img" in html


def test_the_page_that_is_shown_has_the_worst_records_first(explorer):
    explorer.reset(since="60D")
    order = explorer.selection["state"]
    assert (order == "stuck").any()
    assert "stuck" in explorer.records.shown.partition("</tr>")[2].partition("</tr>")[0]
    first = explorer.records.shown
    explorer.records.next.click()
    assert explorer.records.shown != first
    explorer.records.previous.click()
    assert explorer.records.shown == first


def test_closing_it_leaves_no_widget(fleet):
    before = len(_instances)
    form = kd.forms.Explorer(fleet.records, fleet.devices)
    form.reset(state="stuck")
    form.close()
    assert len(_instances) == before


def test_what_it_shows_is_saved_with_the_line_that_makes_it(explorer, tmp_path):
    explorer.reset(state="stuck")
    explorer.saving.name.value = str(tmp_path / "stuck.parquet")
    explorer.saving.button.click()
    assert "Saved" in explorer.saving.notice.text
    kept = pd.read_parquet(tmp_path / "stuck.parquet")
    assert kept["record_id"].tolist() == explorer.selection["record_id"].tolist()


def test_without_figure_widget_figures_are_plain_and_filters_work(fleet, open_form, monkeypatch):
    def missing(*_, **__):
        raise ImportError("Please install anywidget", name="anywidget")

    monkeypatch.setattr(go, "FigureWidget", missing)
    form = open_form(fleet.records, fleet.devices)
    form.buttons["Stuck"].click()
    assert set(form.selection["state"]) == {"stuck"}
    assert "anywidget" in form.breakdown.children[0].text
