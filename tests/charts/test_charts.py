import json

import pandas as pd
import polars as pl
import pytest

import koodrive_nb as kd
from koodrive_nb.analysis.rules import STATES
from koodrive_nb.charts import judgements, theme

MAX_BYTES = 300_000
HOSTILE = "<img src=x onerror=alert(1)>$\\href{javascript:x}{y}$\u202e\x00" + "&" * 250


@pytest.fixture(scope="module")
def crowd():
    with kd.connect("sandbox", user_id="crowd") as client:
        some = client.devices()["device_id"].iloc[::1000]
        parts = [client.records(device_id=device) for device in some]
    return kd.analysis.classify(pd.concat(parts, ignore_index=True))


def numbers(figure):
    return json.loads(figure.to_json())


def subtitle(figure):
    return figure.layout.title.subtitle.text.replace("<br>", " ").replace("\u00a0", " ")


CHARTS = [
    kd.charts.status_breakdown,
    kd.charts.timeline,
    kd.charts.activity,
    kd.charts.durations,
]
ALL_OF_IT = {chart: {"since": None} for chart in (kd.charts.timeline, kd.charts.activity)}
"""What makes a chart show all records, where it does not by default."""


@pytest.mark.parametrize("chart", CHARTS)
def test_a_chart_takes_records_or_the_table_of_the_same_name(records, chart):
    table = getattr(kd.analysis, chart.__name__)(records)
    assert chart(records).to_json() == chart(table).to_json()


@pytest.mark.parametrize("chart", CHARTS)
def test_a_chart_takes_records_of_another_engine(records, chart):
    drawn = numbers(chart(pl.from_pandas(records)))
    assert [trace.get("x") for trace in drawn["data"]] == [
        trace.get("x") for trace in numbers(chart(records))["data"]
    ]


@pytest.mark.parametrize("chart", CHARTS)
def test_options_beside_a_table_are_refused_with_where_they_belong(records, chart):
    table = getattr(kd.analysis, chart.__name__)(records)
    with pytest.raises(kd.InvalidParameterError, match=f"kd.analysis.{chart.__name__}"):
        chart(table, tz="UTC")


@pytest.mark.parametrize("chart", CHARTS)
@pytest.mark.parametrize(
    "thing", [pd.DataFrame({"x": [1]}), [1, 2], None], ids=["frame", "list", "none"]
)
def test_what_is_neither_records_nor_a_table_is_refused(chart, thing):
    with pytest.raises(kd.InvalidParameterError, match="Pass records"):
        chart(thing)


@pytest.mark.parametrize("chart", CHARTS)
def test_a_figure_is_plain_and_the_same_every_time(records, chart):
    first, second = chart(records), chart(kd.connect("sandbox").records())
    assert first.to_json() == second.to_json()
    text = first.to_json()
    assert '"bdata"' not in text
    assert '"uid"' not in text


@pytest.mark.parametrize("chart", CHARTS)
def test_the_subtitle_names_window_zone_source_and_completeness(records, chart):
    text = subtitle(chart(records, tz="Asia/Shanghai", **ALL_OF_IT.get(chart, {})))
    assert "505 " in text
    assert "16 Sep – 17 Dec 2025 (Asia/Shanghai, UTC+08:00)" in text
    assert "sandbox (synthetic), complete" in text


@pytest.mark.parametrize("chart", [chart for chart in CHARTS if chart is not kd.charts.durations])
def test_where_stuck_is_shown_the_subtitle_names_the_rule(records, chart):
    assert "Stuck = open, with a later backup of the same device and module" in subtitle(
        chart(records)
    )


@pytest.mark.parametrize(
    "chart",
    [
        *CHARTS,
        *(kd.charts.exposure, kd.charts.exposure_history, kd.charts.adherence, kd.charts.load),
        *(kd.charts.deletion_backlog, kd.charts.explain_change),
    ],
)
def test_a_chart_of_what_is_read_as_needed_warns_of_nothing(records, chart):
    # Any warning is an error in these tests.
    options = {"window": "2025-W50"} if chart is kd.charts.explain_change else {}
    assert "sandbox" in subtitle(chart(pl.from_pandas(records).lazy(), **options))


@pytest.mark.parametrize("chart", CHARTS)
def test_lost_completeness_is_told(records, chart):
    frame = records.copy()
    frame.attrs = {}
    assert "completeness unknown" in subtitle(chart(frame))
    frame.attrs = {"koodrive": {"source": "live", "complete": False}}
    assert "sandbox (synthetic), INCOMPLETE" in subtitle(chart(frame))


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"complete": True, "sampled": 60}, "a complete sample of 60 of 2,000 users"),
        ({"complete": False, "sampled": 60}, "an INCOMPLETE sample of 60 of 2,000 users"),
        ({"sampled": 60}, "a sample of 60 of 2,000 users, completeness unknown"),
        ({"complete": True}, "a complete sample from 2,000 users"),
    ],
)
@pytest.mark.parametrize("chart", CHARTS)
def test_a_sample_never_passes_for_all_users(records, chart, told, said):
    frame = records.copy()
    frame.attrs = {"koodrive": told | {"sampled_of": 2_000}}
    assert f"sandbox (synthetic), {said}" in subtitle(chart(frame)).replace("<br>", " ")


@pytest.mark.parametrize("chart", CHARTS)
def test_no_records_make_an_empty_figure_that_says_so(records, chart):
    figure = chart(records.head(0))
    assert "0 " in subtitle(figure)
    assert "no dates" in subtitle(figure)


@pytest.mark.parametrize("chart", CHARTS)
def test_every_figure_has_an_alternative_text(records, chart):
    assert "505" in chart(records, **ALL_OF_IT.get(chart, {})).layout.meta["alt"]


@pytest.mark.parametrize("form", ["lanes", "flow"])
def test_hostile_names_are_shown_as_text_and_never_as_markup(make_hostile, form):
    figure = kd.charts.timeline(make_hostile(HOSTILE), form=form)
    text = figure.to_json()
    assert "<img" not in text
    assert "\\u202e" not in text.lower()
    assert "\u202e" not in text
    assert "$" not in text


@pytest.mark.parametrize(
    ("chart", "options"),
    [
        (kd.charts.status_breakdown, {}),
        (kd.charts.activity, {}),
        (kd.charts.durations, {}),
        (kd.charts.durations, {"kind": "curve"}),
    ],
)
def test_hostile_names_of_groups_are_shown_as_text(make_hostile, chart, options):
    text = chart(make_hostile(HOSTILE), by="device_name", **options).to_json()
    assert "<img" not in text
    assert "\u202e" not in text
    assert "$" not in text
    assert "&lt;img src=x" in text.replace("\\u0026", "&").replace("\\u003c", "<")


@pytest.fixture
def make_hostile(records):
    def make(name):
        frame = records.copy()
        frame["device_name"] = pd.array([name] * len(frame), dtype=frame["device_name"].dtype)
        frame["record_id"] = frame["record_id"] + name
        return frame

    return make


def test_a_figure_stays_small_whatever_the_rows(crowd, make_hostile):
    figures = [
        kd.charts.timeline(crowd, form="lanes", since=None),
        kd.charts.timeline(crowd, form="flow", since=None),
        kd.charts.timeline(make_hostile(HOSTILE), since=None),
        kd.charts.status_breakdown(crowd, by="record_id"),
        kd.charts.activity(crowd, since="14D", bin="hour", by="device_id"),
        kd.charts.activity(crowd, since="50D", bin="15min"),
        kd.charts.durations(crowd, by="record_id"),
        kd.charts.durations(crowd, by="device_id", kind="curve"),
    ]
    for figure in figures:
        assert len(figure.to_json().encode()) < MAX_BYTES


def test_every_state_is_in_the_breakdown_even_when_none_is(records):
    figure = kd.charts.status_breakdown(records)
    assert [trace.name for trace in figure.data] == [state.replace("_", " ") for state in STATES]
    table = kd.analysis.status_breakdown(records)
    for trace, state in zip(figure.data, STATES, strict=True):
        assert list(trace.x) == list(table[state])
        assert trace.marker.color == theme.COLOURS[state]


def test_no_state_is_told_by_colour_alone():
    for kinds in (theme.COLOURS, theme.PATTERNS, theme.SYMBOLS):
        assert list(kinds) == list(STATES)
        assert len(set(kinds.values())) == len(STATES)


def luminance(colour):
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    "colour", sorted({*theme.COLOURS.values(), *judgements.COLOURS.values(), judgements.NEUTRAL})
)
@pytest.mark.parametrize("background", ["#FFFFFF", "#111111"])
def test_colours_stand_out_on_light_and_dark(colour, background):
    brighter, darker = sorted((luminance(colour), luminance(background)), reverse=True)
    assert (brighter + 0.05) / (darker + 0.05) >= 3


def test_buttons_switch_between_counts_and_shares(records):
    figure = kd.charts.status_breakdown(records)
    count, share = figure.layout.updatemenus[0].buttons
    assert (count.args[1]["barnorm"], share.args[1]["barnorm"]) == ("", "percent")
    assert tuple(count.args[0]["text"][0]) == figure.data[0].text
    assert share.args[0]["text"][0][0] == "37.5 %"


def test_many_groups_are_cut_and_the_subtitle_says_so(records):
    figure = kd.charts.status_breakdown(records, by="record_id")
    assert len(figure.data[0].y) == 30
    assert "the 30 largest of 505 groups are drawn" in subtitle(figure)


def test_a_missing_group_is_named(records):
    figure = kd.charts.status_breakdown(records, by="device_os")
    assert any("(missing)" in text for text in figure.layout.yaxis.ticktext)


def test_the_timeline_has_a_row_for_each_device_and_module(records, devices):
    figure = kd.charts.timeline(records, devices=devices, since=None)
    labels = list(figure.layout.yaxis.ticktext)
    assert labels[:2] == ["<b>P40 lite ·4106</b>  address book", "<b>nova 12 ·2105</b>  no backup"]
    assert labels[-1] == "<b>(unknown device)</b>  album"
    names = [trace.name for trace in figure.data if trace.showlegend is not False]
    assert names == [
        "none completed",
        "completed",
        "in progress",
        "stuck",
        "to be deleted",
        "bound, no backup yet",
    ]


def test_bars_begin_at_local_time_and_last_as_long_as_the_backup(records):
    table = kd.analysis.timeline(records, tz="Asia/Shanghai", since="2025-12-10")
    figure = kd.charts.timeline(table)
    bars = next(
        trace for trace in figure.data if trace.type == "bar" and trace.legendgroup == "completed"
    )
    rows = table[(table["kind"] == "backup") & (table["state"] == "completed")]
    first = rows.iloc[0]
    local = first["create_time"].tz_convert("Asia/Shanghai").tz_localize(None)
    assert pd.Timestamp(bars.base[0]) == local
    assert bars.x[0] == round(first["duration_s"] * 1000)
    assert "Asia/Shanghai, UTC+08:00" in figure.layout.xaxis.title.text


def test_open_backups_have_an_open_edge_at_their_now(records):
    figure = kd.charts.timeline(records)
    edges = [
        trace
        for trace in figure.data
        if trace.type == "scatter" and trace.marker.symbol == "triangle-right-open"
    ]
    assert {trace.legendgroup for trace in edges} == {"in_progress", "stuck"}
    progress = next(trace for trace in edges if trace.legendgroup == "in_progress")
    assert set(progress.x) == {"2025-12-17T08:30:00.000"}


def test_a_tooltip_names_device_times_with_offset_duration_and_record(records):
    figure = kd.charts.timeline(records, tz="Asia/Shanghai")
    marks = next(trace for trace in figure.data if trace.name == "completed")
    device, _, created, ended, record = marks.customdata[0]
    row = records.set_index("record_id").loc[record]
    assert device.startswith(row["device_name"])
    assert created.endswith("+08:00")
    assert ", after " in ended


def test_what_is_left_out_is_told(crowd):
    text = subtitle(kd.charts.timeline(crowd, since=None, max_lanes=3, max_marks=50))
    assert "50 backups on 3 lanes, 7 more not drawn" in text
    assert "Only the newest 50 of these lanes are drawn, 250 older ones are not" in text


def test_a_fleet_is_drawn_as_a_flow_that_says_so(crowd):
    figure = kd.charts.timeline(crowd, since=None, form="flow")
    assert "Counts over time are drawn instead of single backups" in subtitle(figure)
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert sum(sum(trace.y) for trace in bars) == 1000


def test_zones_with_a_change_of_offset_show_both(crowd):
    figure = kd.charts.timeline(crowd, since=None, form="flow", tz="Europe/Berlin")
    assert "Europe/Berlin, UTC+02:00/+01:00" in figure.layout.xaxis.title.text


def test_a_long_name_is_cut_so_that_the_digits_of_its_id_stay(records, make_hostile):
    figure = kd.charts.timeline(make_hostile("n" * 200), since=None)
    labels = [text for text in figure.layout.yaxis.ticktext if text.startswith("<b>n")]
    assert all(" ·" in text and len(text) < 60 for text in labels)
    assert len(labels) == records["device_id"].nunique()


def test_blank_names_and_undated_records_are_told(records, make_hostile):
    figure = kd.charts.status_breakdown(make_hostile("\u2800 \u3164"), by="device_name")
    assert figure.layout.yaxis.ticktext[0].startswith("<b>(blank)</b>")
    frame = records.copy()
    frame.loc[[0, 1], "create_time"] = pd.NaT
    for form in ("lanes", "flow"):
        text = subtitle(kd.charts.timeline(frame, form=form))
        assert "Left out: 2 without a creation time." in text


def test_a_name_is_no_template_of_a_tooltip(make_hostile):
    assert "%{" not in theme.shown("%{customdata[0]}")
    figure = kd.charts.status_breakdown(make_hostile("%{y}"), by="device_name")
    assert "%&#123;y}" in figure.layout.yaxis.ticktext[0]


def test_quotes_are_shown_as_quotes(make_hostile):
    figure = kd.charts.timeline(make_hostile('Ann\'s "phone"'))
    assert figure.layout.yaxis.ticktext[0].startswith('<b>Ann\'s "phone" ·')


def test_classified_records_may_be_filtered_in_any_way_before_they_are_drawn(records, devices):
    classified = kd.analysis.classify(records)
    for part in (
        classified[classified["state"] == "stuck"],
        classified[classified["state"] != "completed"],
        classified[classified["module"] == "folder"],
        classified.sample(40, random_state=1),
    ):
        figure = kd.charts.timeline(part, devices=devices, since=None)
        assert f"{len(part)} backups on" in subtitle(figure)


def test_one_is_not_many(records):
    text = subtitle(kd.charts.timeline(records[records["device_id"].isna()]))
    assert text.startswith("1 backup on 1 lane, ")


def test_a_name_written_from_right_to_left_keeps_the_numbers_beside_it_apart():
    name = "هاتف أحمد"
    assert theme.label(f"{name} ·5036") == f"\u2068{name}\u2069 ·5036"
    assert theme.shown("nova 12") == "nova 12"
