import gc
import weakref

import pandas as pd
import plotly.graph_objects as go
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ipywidgets.widgets.widget import _instances
from pandas.testing import assert_frame_equal

import koodrive_nb as kd
from koodrive_nb.analysis import rules
from koodrive_nb.analysis.selection import Question
from koodrive_nb.forms import hands, linked, selector

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
    assert_frame_equal(form.selection, found)
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
    assert again.records_table.shown == explorer.records_table.shown


def test_fields_set_from_code_do_what_a_hand_would_do(explorer, fleet):
    explorer.filters["module"].value = ("album",)
    explorer.filters["text"].value = " mate "
    explorer.filters["since"].value = "30D"
    assert explorer.view == {"since": "30D", "module": "album", "text": "mate"}
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
        "device_id": st.sampled_from(["1053387727529341418", ["1115418553969828893", "x"], []]),
        "user_id": st.sampled_from(["1022405815421916119", ["1010792599350075555", "x"]]),
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
    mine = chosen_from.take(chosen_from.fits(Question.read(view)))
    given = {"devices": fleet.devices, "tz": "Asia/Shanghai"}
    theirs = kd.analysis.select(chosen_from.frame, **view, **given)
    assert_frame_equal(mine, theirs)
    assert mine.attrs == theirs.attrs


OTHERS = [
    {"as_of": pd.Timestamp("2025-12-10T12:00Z")},
    {"as_of": "2025-11-30", "stuck_after": {"album": "3h"}},
    {"stuck_after": pd.Timedelta("5D")},
    {"tz": "Asia/Shanghai"},
]


@pytest.mark.parametrize("others", OTHERS, ids=str)
def test_the_line_of_code_says_all_that_the_form_was_given(fleet, open_form, others):
    form = open_form(fleet.records, fleet.devices, **others)
    for view in (
        {"since": pd.Timestamp("2025-11-20T00:00+08:00"), "until": "2025-12-09 07:00"},
        {"since": pd.Timedelta("5D"), "state": "stuck"},
        {"device_id": fleet.records["device_id"].dropna().head(3), "protection": ["late", "never"]},
    ):
        form.reset(**view)
        same(form, fleet.records, fleet.devices)


def test_the_line_names_the_zone_of_the_environment(fleet, open_form, monkeypatch):
    monkeypatch.setenv("KOODRIVE_TZ", "Asia/Shanghai")
    form = open_form(fleet.records, since="2025-12-10")
    monkeypatch.delenv("KOODRIVE_TZ")
    assert "tz='Asia/Shanghai'" in form.code
    same(form, fleet.records, None)


def test_what_a_list_of_devices_carries_along_may_have_any_name(fleet, open_form):
    devices = fleet.devices.assign(group="a", rank=7, protection="x")
    form = open_form(fleet.records, devices, protection=["never", "late"])
    assert len(same(form, fleet.records, devices)) > 0


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.sample(frac=0.5, random_state=1),
        lambda frame: frame.set_index("record_id", drop=False),
        lambda frame: frame.astype(dict.fromkeys(["module", "source"], "string")),
        lambda frame: kd.analysis.classify(frame).astype({"state": "string", "os_family": "str"}),
        lambda frame: frame.assign(user_id=frame["user_id"].mask(frame["module"] == "album")),
    ],
    ids=["sampled", "indexed", "text", "classified text", "no user"],
)
def test_frames_from_elsewhere_are_selected_as_select_does(fleet, open_form, change):
    records = change(fleet.records)
    form = open_form(records, fleet.devices)
    device_id = records["device_id"].dropna().iloc[0]
    for view in ({"module": "album"}, {"state": "stuck"}, {"device_id": device_id}):
        form.reset(**view)
        assert len(same(form, records, fleet.devices)) > 0


def test_devices_of_another_engine_are_taken(fleet, open_form):
    devices = pl.from_pandas(fleet.devices)
    form = open_form(fleet.records, devices)
    form.buttons["Never"].click()
    assert form.notice.text == ""
    same(form, fleet.records, devices)


def test_a_view_can_not_be_changed_from_outside(explorer):
    explorer.buttons["Nothing for 7 days"].click()
    before = explorer.code
    explorer.view["protection"].remove("late")
    assert explorer.code == before
    explorer.buttons["Reset"].click()
    explorer.buttons["Nothing for 7 days"].click()
    assert explorer.code == before


def test_an_id_that_nobody_has_fits_nothing(explorer, fleet):
    explorer.filter(device_id="nope")
    assert len(same(explorer, fleet.records, fleet.devices)) == 0
    explorer.buttons["Reset"].click()
    assert len(explorer.selection) > 0


@pytest.mark.parametrize("error", [RuntimeError("boom"), kd.InvalidParameterError("boom")])
def test_what_fails_while_it_is_drawn_is_said_and_the_former_view_stays(
    explorer, monkeypatch, error
):
    def fail(*_, **__):
        raise error

    told = explorer.code, explorer.summary.text, explorer.records_table.shown, repr(explorer)
    monkeypatch.setattr(linked.charts, "timeline", fail)
    explorer.buttons["Stuck"].click()
    assert explorer.notice.text
    assert ("boom" in explorer.notice.text) == isinstance(error, kd.KooDriveError)
    now = explorer.code, explorer.summary.text, explorer.records_table.shown, repr(explorer)
    assert now == told
    monkeypatch.undo()
    explorer.buttons["Stuck"].click()
    assert explorer.notice.text == ""


@pytest.mark.parametrize("now", [None, "2250-01-01T00:00Z"])
def test_a_wrong_now_lets_the_form_open(make, open_form, now):
    form = open_form(make({"fetched_at": now, "status_code": 0}))
    assert form.summary.text.startswith(("0 of 1", "1 of 1"))
    form.buttons["This week"].click()
    form.buttons["Never"].click()
    assert form.notice.text == ""


def test_ids_given_one_by_one_are_all_asked_for(explorer, fleet):
    ids = explorer.selection["device_id"].dropna().unique()[:5]
    explorer.filter(device_id=(each for each in ids))
    assert len(same(explorer, fleet.records, fleet.devices)) > 0
    explorer.filter(since=None)
    assert len(same(explorer, fleet.records, fleet.devices)) > 0


def test_a_double_click_filters_once(explorer, monkeypatch):
    explorer.reset(since="60D")
    monkeypatch.setattr(hands, "sent_at", lambda: pd.Timestamp("2026-01-01T00:00:00Z"))
    place = next(place for place, n in enumerate(explorer.breakdown._shown.data[0].x) if n)
    click(explorer.breakdown, 0, place)
    click(explorer.breakdown, 0, place)
    assert explorer.view["state"] == "completed"


def test_a_closed_form_frees_its_records(fleet):
    form = kd.forms.Explorer(fleet.records, fleet.devices)
    frame = weakref.ref(form._selector.frame)
    form.close()
    del form
    gc.collect()
    assert frame() is None


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
    everything = explorer.records_table.shown
    stuck = rules.STATES.index("stuck")
    trace = explorer.breakdown._shown.data[stuck]
    place = next(place for place, n in enumerate(trace.x) if n)
    click(explorer.breakdown, stuck, place)
    module = explorer._breakdown.table["module"].iloc[place]
    assert explorer.view == {"since": "60D", "module": module, "state": "stuck"}
    assert set(explorer.selection["state"]) == {"stuck"}
    assert set(explorer._timeline.table["state"].dropna()) == {"stuck"}
    assert explorer.records_table.shown != everything
    # The figure that was clicked keeps its bars, the others faint.
    bright = [trace.selectedpoints for trace in explorer.breakdown.figure.data]
    assert bright == [(place,) if number == stuck else () for number in range(len(rules.STATES))]
    click(explorer.breakdown, stuck, place)
    assert explorer.view == {"since": "60D"}
    assert explorer.records_table.shown == everything


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
    box = {"type": "rect", "xref": "x", "yref": "y", "x0": first, "x1": last, "y0": 0, "y1": 1}
    plot._shown._js2py_relayout = {
        "relayout_data": {"selections": [box]},
        "source_view_id": "",
    }


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
    assert len(gaps) > 3
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
    form.table.value = "Devices"
    assert "never seen" in form.devices_table.shown
    assert "2222" in form.devices_table.shown


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
    with pytest.raises(kd.InvalidParameterError, match="There is no broken="):
        explorer.filter(broken=1)
    with pytest.raises(kd.InvalidParameterError, match="pandas"):
        kd.forms.Explorer([1, 2])
    with pytest.raises(kd.InvalidParameterError, match="several columns of the name 'device_id'"):
        kd.forms.Explorer(pd.concat([fleet.records, fleet.records[["device_id"]]], axis=1))
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
    assert "none" in form.records_table.shown


def test_names_of_devices_can_not_become_markup(make, open_form):
    records = make({"device_name": EVIL, "device_id": EVIL, "user_id": EVIL})
    form = open_form(records)
    form.table.value = "Devices"
    form.reset(text="<img")
    html = (
        form.records_table.shown + form.devices_table.shown + form._code.value + form.summary.value
    )
    assert "<img" not in html
    assert "&lt;img" in html


def test_the_page_that_is_shown_has_the_worst_records_first(explorer):
    explorer.reset(since="60D")
    order = explorer.selection["state"]
    assert (order == "stuck").any()
    assert "stuck" in explorer.records_table.shown.partition("</tr>")[2].partition("</tr>")[0]
    first = explorer.records_table.shown
    explorer.records_table.next.click()
    assert explorer.records_table.shown != first
    explorer.records_table.previous.click()
    assert explorer.records_table.shown == first


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
