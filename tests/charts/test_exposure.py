import json

import pandas as pd
import polars as pl
import pytest

import koodrive_nb as kd
from koodrive_nb.analysis.rules import CAUSES
from koodrive_nb.charts import judgements

MAX_BYTES = 300_000
HOSTILE = "<img src=x onerror=alert(1)>$\\href{javascript:x}{y}$\u202e\x00" + "&" * 250
DRAWN = [
    (kd.charts.exposure, {}),
    (kd.charts.exposure, {"kind": "curve"}),
    (kd.charts.exposure_history, {}),
    (kd.charts.adherence, {}),
    (kd.charts.adherence, {"per": "device"}),
]
each_chart = pytest.mark.parametrize(
    ("chart", "options"),
    DRAWN,
    ids=["buckets", "curve", "history", "adherence per day", "adherence per device"],
)


def subtitle(figure):
    return figure.layout.title.subtitle.text.replace("<br>", " ").replace("\u00a0", " ")


@pytest.fixture(scope="module")
def fleet():
    return kd.sandbox.frames("small")


@each_chart
def test_a_chart_takes_records_or_the_table_of_the_same_name(records, devices, chart, options):
    table = getattr(kd.analysis, chart.__name__)(records, devices, **options)
    assert chart(records, devices, **options).to_json() == chart(table).to_json()


@each_chart
def test_a_chart_takes_records_of_another_engine(records, devices, chart, options):
    moved = chart(pl.from_pandas(records), pl.from_pandas(devices), **options)
    expected = json.loads(chart(records, devices, **options).to_json())
    assert json.loads(moved.to_json())["data"] == expected["data"]


@each_chart
def test_options_beside_a_table_are_refused_with_where_they_belong(
    records, devices, chart, options
):
    table = getattr(kd.analysis, chart.__name__)(records, devices, **options)
    with pytest.raises(kd.InvalidParameterError, match=f"kd.analysis.{chart.__name__}"):
        chart(table, tz="UTC")


@pytest.mark.parametrize("chart", dict.fromkeys(chart for chart, _ in DRAWN))
@pytest.mark.parametrize("thing", [pd.DataFrame({"x": [1]}), [1, 2], None], ids=str)
def test_what_is_neither_records_nor_a_table_is_refused(chart, thing):
    with pytest.raises(kd.InvalidParameterError, match="Pass records"):
        chart(thing)


@each_chart
def test_a_figure_is_plain_and_the_same_every_time(records, devices, chart, options):
    with kd.connect("sandbox") as client:
        again = chart(client.records(), client.devices(), **options)
    text = chart(records, devices, **options).to_json()
    assert text == again.to_json()
    assert '"bdata"' not in text
    assert '"uid"' not in text


@each_chart
def test_the_subtitle_names_window_zone_source_completeness_and_rule(
    records, devices, chart, options
):
    text = subtitle(chart(records, devices, tz="Asia/Shanghai", **options))
    assert "505 records" in text
    assert "– 17 Dec 2025 (Asia/Shanghai, UTC+08:00)" in text
    assert "sandbox (synthetic), complete" in text
    assert "Stuck = open, with a later backup of the same device and module" in text


@each_chart
def test_lost_completeness_is_told(records, devices, chart, options):
    frame = records.copy()
    frame.attrs = {}
    assert "completeness unknown" in subtitle(chart(frame, devices, **options))
    frame.attrs = {"koodrive": {"source": "live", "complete": False}}
    assert "sandbox (synthetic), INCOMPLETE" in subtitle(chart(frame, devices, **options))


@each_chart
def test_no_records_make_a_figure_that_says_so(records, devices, chart, options):
    text = subtitle(chart(records.head(0), **options))
    assert "0 records, no dates" in text
    assert "0 records" in subtitle(chart(records.head(0), devices, **options))


@each_chart
def test_a_table_that_lost_what_it_says_of_itself_is_still_drawn(records, devices, chart, options):
    table = getattr(kd.analysis, chart.__name__)(records, devices, **options)
    table.attrs = {}
    assert "completeness unknown" in subtitle(chart(table))


@each_chart
def test_every_figure_has_an_alternative_text(records, devices, chart, options):
    assert "505 records" in chart(records, devices, **options).layout.meta["alt"]


@each_chart
def test_hostile_names_are_shown_as_text_and_never_as_markup(records, devices, chart, options):
    records, devices = records.copy(), devices.assign(region=HOSTILE)
    for frame in (records, devices):
        frame["device_name"] = pd.array([HOSTILE] * len(frame), dtype=frame["device_name"].dtype)
    grouped = {"by": "region"} if chart is kd.charts.exposure else {}
    text = chart(records, devices, **options, **grouped).to_json()
    assert "<img" not in text
    assert "\\u202e" not in text.lower()
    assert "\u202e" not in text
    assert "$" not in text
    if grouped:
        assert "&lt;img" in text.replace("\\u0026", "&")


@pytest.fixture(scope="module")
def large():
    fleet = kd.sandbox.frames(kd.sandbox.Preset(700))
    return kd.analysis.classify(fleet.records), fleet.devices


@each_chart
def test_a_figure_stays_small_whatever_the_devices(large, chart, options):
    records, devices = large
    devices = devices.assign(region=[str(number) for number in range(len(devices))])
    assert len(devices) > 1_000
    devices["device_name"] = pd.array(
        ["\u4e2d" * 250] * len(devices), dtype=devices["device_name"].dtype
    )
    wide = {"since": None, "max_devices": 1_000} if options.get("per") == "device" else {}
    wide |= {"by": "region"} if chart is kd.charts.exposure else {}
    figure = chart(records, devices, **options, **wide)
    assert len(figure.to_json().encode()) < MAX_BYTES
    assert len(chart(records, devices, **options).to_json().encode()) < MAX_BYTES


def bars(figure):
    return {trace.name: trace for trace in figure.data}


def test_the_title_says_which_share_has_no_backup_of_the_last_days(fleet):
    status = kd.analysis.protection_status(fleet.records, fleet.devices)
    judged = status[status["in_scope"]]
    share = round(100 * (~(judged["rpo_age_h"] <= 168)).mean())
    for kind in ("buckets", "curve"):
        title = kd.charts.exposure(fleet.records, fleet.devices, kind=kind).layout.title.text
        assert title == f"{share} % of devices have no completed backup from the last 7 days"


@pytest.fixture
def late_copy(records, devices):
    """Let a device be bound five days ago whose only copy is three days old."""
    late, now = devices["device_id"].iloc[0], devices["fetched_at"].iloc[0]
    records, devices = records.copy(), devices.copy()
    devices.loc[devices["device_id"] == late, "device_create_time"] = now - pd.Timedelta("5D")
    mine = records["device_id"] == late
    records.loc[mine, "create_time"] = now - pd.Timedelta("3D")
    return records, devices


def test_a_device_that_is_new_counts_nowhere_though_its_copy_is_old(late_copy):
    records, devices = late_copy
    figure = kd.charts.exposure(records, devices, rpo="2D")
    assert figure.layout.title.text.startswith("4 of 9 devices have no completed backup")


def test_few_devices_are_counted_and_not_judged(records, devices):
    figure = kd.charts.exposure(records, devices)
    assert figure.layout.title.text == (
        "3 of 10 devices have no completed backup from the last 7 days"
    )
    assert "fewer than 20 devices" in subtitle(figure)
    used = {trace.marker.color for trace in figure.data}
    assert not used & set(judgements.COLOURS.values()) - {judgements.NEUTRAL}


def test_bars_of_many_devices_add_up_to_all_in_scope_by_cause(fleet):
    table = kd.analysis.exposure(fleet.records, fleet.devices)
    figure = kd.charts.exposure(table)
    assert sum(sum(trace.x) for trace in figure.data) == pytest.approx(100, abs=0.05)
    found = bars(figure)
    of = int(table["of"].iloc[0])
    in_scope = table[~table["bucket"].isin(["new", "unbound"])]
    assert sum(found["no attempt"].x) == pytest.approx(
        100 * in_scope["no_attempt"].sum() / of, abs=0.05
    )
    assert found["no attempt"].marker.color == judgements.COLOURS["no_attempt"]
    assert list(figure.layout.xaxis.range) == [0, 100]


def test_each_edge_says_what_an_objective_there_would_mean(records, devices):
    notes = [note.text for note in kd.charts.exposure(records, devices).layout.annotations]
    assert notes == [
        "≤ 1 d: 60 % · older 40 %",
        "≤ 3 d: 70 % · older 30 %",
        "≤ 14 d: 70 % · older 30 %",
        "≤ 30 d: 80 % · older 20 %",
        "≤ 90 d: 80 % · older 20 %",
        "<b>RPO 7 d</b>: 70 % · older 30 %",
    ]


@pytest.mark.parametrize(("rpo", "place"), [("7D", 2.5), ("5D", 2.0), ("12h", 0.0), ("200D", 6.0)])
def test_a_line_parts_protected_from_exposed_at_the_objective(records, devices, rpo, place):
    (line,) = kd.charts.exposure(records, devices, rpo=rpo).layout.shapes
    assert line.y0 == line.y1 == pytest.approx(place)


def test_devices_out_of_scope_are_named_and_not_drawn(records, devices):
    figure = kd.charts.exposure(records, devices)
    assert "Not drawn: 1 new, bound for less than 7 d" in subtitle(figure)
    assert len(figure.layout.yaxis.ticktext) == 8
    bound = devices[devices["device_name"] != "Office PC"]
    text = subtitle(kd.charts.exposure(records, bound))
    assert "1 with records, but not bound any more" in text


@pytest.mark.parametrize("kind", ["buckets", "curve"])
def test_without_devices_counts_are_drawn_and_no_share_is_claimed(records, kind):
    figure = kd.charts.exposure(records, kind=kind)
    assert "Without devices= nobody knows" in subtitle(figure)
    assert "%" not in figure.layout.title.text
    assert figure.layout.xaxis.ticksuffix is None
    assert figure.layout.yaxis.ticksuffix is None
    assert not any("%" in (note.text or "") for note in figure.layout.annotations)


def test_a_group_is_drawn_below_its_name_and_judged_by_its_own_size(fleet):
    figure = kd.charts.exposure(fleet.records, fleet.devices, by="os_family")
    labels = list(figure.layout.yaxis.ticktext)
    heads = [label for label in labels if "in scope" in label]
    assert labels[0] == heads[0]
    assert len(labels) == 9 * len(heads)
    assert "fewer than 20 devices" in subtitle(figure)
    used = {trace.marker.color for trace in figure.data if trace.name == "within the RPO"}
    assert used == {judgements.COLOURS["protected"], judgements.NEUTRAL}


@pytest.mark.parametrize("kind", ["buckets", "curve"])
def test_many_groups_are_cut_to_the_largest_and_the_subtitle_says_so(fleet, kind):
    devices = fleet.devices.assign(region=[str(n % 20) for n in range(len(fleet.devices))])
    figure = kd.charts.exposure(fleet.records, devices, by="region", kind=kind)
    assert "the 12 largest of 20 groups" in subtitle(figure)
    # One curve, or one line at the objective, a group.
    drawn = figure.data if kind == "curve" else figure.layout.shapes
    assert len(drawn) == 12


def test_a_missing_group_is_named(fleet):
    devices = fleet.devices.assign(region=pd.NA)
    figure = kd.charts.exposure(fleet.records, devices, by="region")
    assert figure.layout.yaxis.ticktext[0].startswith("<b>(missing)</b>")


def test_modules_of_devices_are_called_so(records, devices):
    figure = kd.charts.exposure(records, devices, per="module")
    assert "modules of devices" in figure.layout.title.text


def test_the_curve_rises_in_steps_to_those_that_ever_completed(records, devices):
    table = kd.analysis.exposure(records, devices, kind="curve")
    figure = kd.charts.exposure(table)
    line, dots = figure.data
    assert line.line.shape == "hv"
    assert list(line.y) == sorted(line.y)
    assert line.y[-1] == pytest.approx(100 * table["share"].iloc[-1])
    assert (line.x[0], line.x[-1]) == (1, 8760)
    assert len(dots.text) == len(table)
    notes = [note.text for note in figure.layout.annotations]
    assert "1 d<br><b>60 %</b>" in notes
    assert "RPO 7 d<br><b>70 %</b>" in notes
    assert notes[-1].startswith("never: 2 (20 %)")


def test_the_line_of_an_rpo_of_a_usual_age_is_drawn_and_named_once(records, devices):
    figure = kd.charts.exposure(records, devices, kind="curve", rpo="7D")
    named = [note.text for note in figure.layout.annotations if "7 d" in note.text]
    assert named == ["RPO 7 d<br><b>70 %</b>"]
    assert sum(shape.x0 == 168 for shape in figure.layout.shapes) == 1


def test_a_bar_is_as_high_as_its_row_where_rows_beside_it_are_empty(records, devices):
    figure = kd.charts.exposure(records, devices)
    assert {bar.width for bar in figure.data} == {0.76}


def test_the_curve_of_an_age_of_years_reaches_there(records, devices):
    old = records.assign(create_time=records["create_time"] - pd.Timedelta("730D"))
    figure = kd.charts.exposure(old, devices, kind="curve")
    assert figure.data[0].x[-1] > 2 * 8760
    assert figure.data[0].y[-1] == pytest.approx(80)


def test_a_line_close_to_the_objective_gives_way_to_it(records, devices):
    figure = kd.charts.exposure(records, devices, kind="curve", rpo="8D")
    words = [note.text.split("<br>")[0] for note in figure.layout.annotations[:-1]]
    assert words == ["1 d", "3 d", "30 d", "RPO 8 d"]


def test_groups_of_which_no_device_ever_completed_count_in_both_kinds(records, devices):
    titles = {
        kd.charts.exposure(records, devices, by="device_label", kind=kind).layout.title.text
        for kind in ("buckets", "curve")
    }
    assert titles == {"3 of 10 devices have no completed backup from the last 7 days"}


def test_each_curve_has_its_own_dash_and_colour(fleet):
    devices = fleet.devices.assign(region=[str(n % 12) for n in range(len(fleet.devices))])
    figure = kd.charts.exposure(fleet.records, devices, by="region", kind="curve")
    looks = {(trace.line.dash, trace.line.color) for trace in figure.data}
    assert len(looks) == 12


@pytest.mark.parametrize(
    ("share", "words"),
    [(0, "0 %"), (0.001, "under 1 %"), (0.394, "39 %"), (0.999, "over 99 %"), (1, "100 %")],
)
def test_a_share_is_nothing_or_all_only_where_it_is(share, words):
    assert judgements.percent(share) == words


def test_every_cause_has_a_colour_and_a_pattern_of_its_own():
    assert set(judgements.CAUSES) == set(CAUSES) - {"new"}
    for names in (
        ("protected", *judgements.CAUSES),
        ("protected", "late", "outdated", "never"),
        ("adhered", "missed", "running", "unknown"),
    ):
        for kinds in (judgements.COLOURS, judgements.PATTERNS):
            assert len({kinds[name] for name in names}) == len(names)
