import inspect
import json

import pandas as pd
import pytest

import koodrive_nb as kd

HOSTILE = "<img src=x onerror=alert(1)>$\\href{javascript:x}{y}$\u202e\x00" + "&" * 250
CHARTS = {
    "lanes": lambda records, devices, **more: kd.charts.timeline(records, devices=devices, **more),
    "flow": lambda records, devices, **more: kd.charts.timeline(
        records, devices=devices, form="flow", **more
    ),
    "activity": lambda records, devices, **more: kd.charts.activity(records, **more),
    "activity of groups": lambda records, devices, **more: kd.charts.activity(
        records, by="module", **more
    ),
    "history": kd.charts.exposure_history,
    "adherence": kd.charts.adherence,
}
each_chart = pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS)


def events(*rows):
    return pd.DataFrame(rows, columns=["start", "end", "label"])


def subtitle(figure):
    return figure.layout.title.subtitle.text.replace("<br>", " ").replace("\u00a0", " ")


def labels(figure, plain):
    """Give the annotations that the figure has more than without events."""
    return list(figure.layout.annotations)[len(plain.layout.annotations) :]


@each_chart
def test_an_event_is_marked_with_its_label_on_every_time_axis(records, devices, chart):
    plain = chart(records, devices, tz="Asia/Shanghai")
    figure = chart(
        records,
        devices,
        tz="Asia/Shanghai",
        events=events(
            ("2025-12-08 08:00", None, "release"), ("2025-12-10", "2025-12-12", "outage")
        ),
    )
    assert {note.text for note in labels(figure, plain)} == {"release", "outage"}
    band = next(
        shape for shape in figure.layout.shapes if shape.fillcolor == "rgba(110,64,168,0.12)"
    )
    assert [pd.Timestamp(x) for x in (band.x0, band.x1)] == [
        pd.Timestamp("2025-12-10"),
        pd.Timestamp("2025-12-12"),
    ]
    assert (band.layer, band.yref) == ("below", "paper")
    release = next(note for note in figure.layout.annotations if note.text == "release")
    assert pd.Timestamp(release.x) == pd.Timestamp("2025-12-08T08:00")
    assert figure.layout.height > plain.layout.height
    assert json.loads(figure.to_json())["data"] == json.loads(plain.to_json())["data"]


@each_chart
def test_a_zone_of_an_event_counts(records, devices, chart):
    figure = chart(
        records, devices, tz="Asia/Shanghai", events=events(("2025-12-08T00:00Z", None, "release"))
    )
    (at,) = {note.x for note in figure.layout.annotations if note.text == "release"}
    assert pd.Timestamp(at) == pd.Timestamp("2025-12-08T08:00")


def test_an_event_lies_between_hours_that_do_not_follow_the_clock(hours):
    figure = kd.charts.activity(
        hours,
        since=None,
        bin="hour",
        tz="Europe/Berlin",
        events=events(("2025-10-26T02:00Z", None, "after the change")),
    )
    (at,) = {note.x for note in figure.layout.annotations if note.text == "after the change"}
    # Drawn at UTC+02:00 throughout, though the clock on the wall says three.
    assert pd.Timestamp(at) == pd.Timestamp("2025-10-26T04:00")


@pytest.fixture
def hours(records):
    """Give an hourly backup over the night in which Europe's clocks are set back."""
    frame = records.head(12).copy()
    begin = pd.Timestamp("2025-10-25T20:00Z")
    frame["create_time"] = pd.Series(pd.date_range(begin, periods=12, freq="h")).astype(
        frame["create_time"].dtype
    )
    frame["fetched_at"] = begin + pd.Timedelta("12h")
    frame["fetched_at"] = frame["fetched_at"].astype(records["fetched_at"].dtype)
    return frame


def test_events_go_with_a_table_too(records, devices):
    table = kd.analysis.exposure_history(records, devices)
    marks = events(("2025-12-08", None, "release"))
    assert (
        kd.charts.exposure_history(table, events=marks).to_json()
        == kd.charts.exposure_history(records, devices, events=marks).to_json()
    )


def test_the_options_of_a_chart_are_in_its_signature():
    for chart in (
        kd.charts.timeline,
        kd.charts.activity,
        kd.charts.exposure_history,
        kd.charts.adherence,
    ):
        option = inspect.signature(chart).parameters["events"]
        assert (option.default, option.kind) == (None, option.KEYWORD_ONLY)
    assert "events" not in inspect.signature(kd.charts.exposure).parameters
    assert "events" not in inspect.signature(kd.analysis.timeline).parameters


@each_chart
def test_what_lies_outside_the_window_is_not_drawn_but_told(records, devices, chart):
    plain = chart(records, devices)
    figure = chart(
        records,
        devices,
        events=events(("2020-01-01", "2020-01-02", "early"), ("2030-01-01", None, "late")),
    )
    assert labels(figure, plain) == []
    assert "Events: 2 events outside this window." in subtitle(figure)


def test_a_band_that_reaches_out_of_the_window_ends_at_its_edge(records, devices):
    figure = kd.charts.adherence(
        records, devices, events=events(("2020-01-01", "2030-01-01", "always"))
    )
    band = next(shape for shape in figure.layout.shapes if shape.layer == "below")
    assert (band.x0, band.x1) == ("2025-11-19T00:00:00.000", "2025-12-18T00:00:00.000")


def test_the_newest_twenty_are_drawn_and_the_rest_told(records, devices):
    many = events(
        *((f"2025-11-{1 + n // 24:02d}T{n % 24:02d}:00", None, f"e{n}") for n in range(30))
    )
    figure = kd.charts.exposure_history(records, devices, events=many)
    assert {note.text for note in figure.layout.annotations} == {f"e{n}" for n in range(10, 30)}
    assert "the newest 20 of 30 events are marked" in subtitle(figure)


def test_labels_that_would_meet_are_written_above_each_other(records, devices):
    near = events(
        ("2025-12-01", None, "first of several"),
        ("2025-12-02", None, "second of several"),
        ("2025-12-16", None, "at the right edge"),
        ("2025-11-20", None, "far away"),
    )
    figure = kd.charts.adherence(records, devices, events=near)
    found = {note.text: note for note in figure.layout.annotations}
    assert found["first of several"].yshift > found["second of several"].yshift
    assert found["far away"].yshift == found["second of several"].yshift
    assert found["at the right edge"].xanchor == "right"


@each_chart
def test_hostile_labels_are_text_and_short(records, devices, chart):
    plain = chart(records, devices)
    figure = chart(records, devices, events=events(*[("2025-12-10", "2025-12-12", HOSTILE)] * 20))
    text = figure.to_json()
    assert "<img" not in text
    assert "\u202e" not in text
    assert "$" not in text
    assert len(labels(figure, plain)) == 20
    assert len(text.encode()) < 300_000


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([("2025-12-01", "release")], "events= takes a pandas frame with the columns start, end"),
        (pd.DataFrame({"start": ["2025-12-01"]}), "columns start, end"),
        (events(("soon", None, "x")), "start of events= takes an instant"),
        (events((7, None, "x")), "start of events= takes an instant"),
        (events((None, None, "x")), "start of events= takes an instant"),
        (events(("2025-12-01", "later", "x")), "end of events= takes an instant"),
        (events(("2025-12-02", "2025-12-01", "x")), "'x' ends before it starts"),
    ],
    ids=["list", "no label", "word", "number", "missing", "end", "backwards"],
)
def test_unfit_events_are_refused_with_what_they_take(records, devices, given, says):
    with pytest.raises(kd.InvalidParameterError, match=says):
        kd.charts.exposure_history(records, devices, events=given)


@each_chart
def test_no_events_change_nothing(records, devices, chart):
    plain = chart(records, devices).to_json()
    assert chart(records, devices, events=None).to_json() == plain
    assert chart(records, devices, events=events()).to_json() == plain
