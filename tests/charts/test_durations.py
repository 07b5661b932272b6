import itertools
import math

import pytest

import koodrive_nb as kd


def subtitle(figure):
    return figure.layout.title.subtitle.text.replace("<br>", " ")


def named(figure, name):
    return next(trace for trace in figure.data if trace.name and trace.name.startswith(name))


def test_each_group_and_attempt_has_its_row_with_its_number(records):
    figure = kd.charts.durations(records)
    assert list(figure.layout.yaxis.ticktext) == [
        "<b>album</b> first<br>n 6",
        "<b>album</b> later<br>n 281",
        "<b>folder</b> later<br>n 95",
        "<b>address book</b> first<br>n 3",
        "<b>address book</b> later<br>n 111",
    ]


def test_a_line_reaches_from_the_50th_to_the_highest_known_percentile(records):
    table = kd.analysis.durations(records)
    figure = kd.charts.durations(table)
    line = named(figure, "later ones")
    album, folder = (
        table[(table["module"] == module) & (table["attempt"] == "later")].iloc[0]
        for module in ("album", "folder")
    )
    assert line.x[:2] == pytest.approx((album["p50_s"], album["p99_s"]), abs=0.001)
    # P99 takes 100 backups; of folders there are 95.
    assert line.x[3:5] == pytest.approx((folder["p50_s"], folder["p95_s"]), abs=0.001)


def test_every_percentile_has_its_mark_and_the_numbers_are_durations(records):
    figure = kd.charts.durations(records)
    table = kd.analysis.durations(records)
    for column, name in (("p50_s", "P50"), ("p90_s", "P90"), ("p95_s", "P95"), ("p99_s", "P99")):
        assert len(named(figure, name).x) == table[column].notna().sum()
    words = [note.text for note in figure.layout.annotations]
    assert words[1] == "P50 1 min 23 s · P99 5 min 27 s"
    assert named(figure, "P50").customdata[1][1] == "1 min 23 s"


def test_ticks_are_times_that_people_count_in(records):
    for kind in ("percentiles", "curve"):
        axis = kd.charts.durations(records, kind=kind).layout.xaxis
        assert axis.type == "log"
        assert set(axis.ticktext) <= {"1 s", "10 s", "1 min", "10 min", "1 h", "6 h"}
        low, high = (10**end for end in axis.range)
        assert all(low <= tick <= high for tick in axis.tickvals)


def test_a_duration_of_nothing_has_a_place_on_the_axis(records):
    frame = records.copy()
    frame["end_time"] = frame["create_time"]
    frame["duration_s"] = 0.0
    figure = kd.charts.durations(frame)
    assert min(named(figure, "P50").x) == 0.1
    assert named(figure, "P50").customdata[0][1] == "0 s"


@pytest.mark.parametrize(("kind", "n"), [("percentiles", 20), ("curve", 6)])
def test_the_largest_groups_are_drawn_and_the_subtitle_says_so(records, kind, n):
    many = records.head(90)
    figure = kd.charts.durations(many, by="record_id", kind=kind)
    assert f"The {n} largest of " in subtitle(figure)
    if kind == "curve":
        assert sum(bool(trace.name) for trace in figure.data) == n
    else:
        assert len(figure.layout.yaxis.ticktext) == n


def test_a_curve_is_a_step_line_on_an_axis_to_100_percent_with_a_dash_of_its_own(records):
    figure = kd.charts.durations(records, kind="curve")
    lines = [trace for trace in figure.data if trace.name]
    assert [line.name.split(" (")[0] for line in lines] == ["folder", "album", "address book"]
    assert len({line.line.dash for line in lines}) == 3
    assert {line.line.shape for line in lines} == {"hv"}
    assert list(figure.layout.yaxis.ticktext) == ["0 %", "25 %", "50 %", "75 %", "100 %"]
    table = kd.analysis.durations(records, kind="curve")
    album = table[table["module"] == "album"]
    assert list(lines[1].y) == pytest.approx(list(100 * album["completed_share"]), abs=0.001)


def test_what_ever_completes_is_written_beside_the_end_and_none_over_another(records):
    figure = kd.charts.durations(records, kind="curve")
    notes = figure.layout.annotations
    assert [note.text for note in notes] == ["100.0 %", "100.0 %", "97.3 %"]
    heights = [note.y * 2.3 + note.yshift for note in notes]
    assert all(above - below >= 12 for above, below in itertools.pairwise(heights))
    dotted = [trace for trace in figure.data if trace.line.dash == "dot"]
    assert len(dotted) == 3
    assert all(trace.y[0] == trace.y[1] for trace in dotted)


def test_the_median_is_in_the_legend(records):
    figure = kd.charts.durations(records, kind="curve", by=None)
    # Rounded up to two digits, as all times of a curve are.
    assert named(figure, "all").name == "all (n 505, half within 1 min 24 s)"


def test_the_subtitle_tells_what_the_estimate_is(records):
    text = subtitle(kd.charts.durations(records, kind="curve"))
    assert "Kaplan-Meier estimate with its 95 % interval" in text
    assert "what is open, stuck or was abandoned counts as not completed up to its age" in text


@pytest.mark.parametrize("kind", ["percentiles", "curve"])
def test_no_records_make_an_empty_figure(records, kind):
    figure = kd.charts.durations(records.head(0), kind=kind)
    assert "no dates" in subtitle(figure)
    assert all(math.isfinite(end) for end in figure.layout.xaxis.range)
