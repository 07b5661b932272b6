import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb.charts import theme

MAX_BYTES = 300_000


def subtitle(figure):
    return figure.layout.title.subtitle.text.replace("<br>", " ")


def named(figure, name):
    return [trace for trace in figure.data if trace.name == name]


def test_created_is_stacked_by_state_and_sums_to_what_the_table_counts(records):
    table = kd.analysis.activity(records)
    figure = kd.charts.activity(table)
    assert figure.layout.barmode == "stack"
    for trace in (trace for trace in figure.data if trace.type == "bar"):
        state = trace.name.replace(" ", "_")
        assert list(trace.y) == list(table[state])
        assert trace.marker.color == theme.COLOURS[state]
        assert trace.marker.pattern.shape == theme.PATTERNS[state]


def test_bars_lie_inside_their_bins_on_the_wall(records):
    table = kd.analysis.activity(records, tz="Europe/Berlin")
    bars = next(trace for trace in kd.charts.activity(table).data if trace.type == "bar")
    begun = table["bin_start"].dt.tz_convert("Europe/Berlin")
    assert list(bars.x) == [f"{stamp:%Y-%m-%d}" for stamp in begun]
    # On the wall each day is as long, that of the switch in October too.
    assert 0 < bars.offset < bars.offset + bars.width < 86_400_000


def test_lines_end_where_the_last_bin_ends(records):
    table = kd.analysis.activity(records, bin="week")
    figure = kd.charts.activity(table)
    for name, column in (("ended", "ended"), ("open at the end", "open")):
        (line,) = named(figure, name)
        assert list(line.y) == [*table[column], table[column].iloc[-1]]
        assert line.x[-1] == "2025-12-22"
        assert line.line.shape == "hv"


def test_shares_of_few_are_drawn_apart_and_all_on_an_axis_to_100_percent(records):
    table = kd.analysis.activity(records, bin="week", since=None)
    figure = kd.charts.activity(table)
    (many,) = named(figure, "settled share")
    (few,) = named(figure, "settled share of fewer than 20")
    enough = table["settled"] >= 20
    assert len(many.y) == enough.sum() > 0
    assert len(few.y) == (~enough).sum() > 0
    assert few.marker.symbol == "circle-open"
    assert figure.layout.yaxis3.ticktext == ("0 %", "50 %", "100 %")
    assert max(many.y) <= 100
    low = [share - below for share, below in zip(many.y, many.error_y.arrayminus, strict=True)]
    assert low == pytest.approx(list(100 * table["settled_share_lo"][enough]), abs=0.02)


def test_cut_and_young_bins_are_marked_and_the_subtitle_says_how(records):
    figure = kd.charts.activity(records, bin="week")
    bars = next(trace for trace in figure.data if trace.type == "bar")
    assert [lightness < 1 for lightness in bars.marker.opacity] == [False] * 8 + [True]
    shaded = {(shape.x0, shape.x1) for shape in figure.layout.shapes}
    assert shaded == {("2025-12-15", "2025-12-22")}
    assert "Lighter: cut by the window or by “now”." in subtitle(figure)
    assert "Shaded: so young that its share may still change." in subtitle(figure)


def test_nothing_is_marked_where_nothing_is_cut_or_young(records):
    figure = kd.charts.activity(records, since="2025-11-01", until="2025-12-01")
    assert not figure.layout.shapes
    assert "Lighter" not in subtitle(figure)
    assert "Shaded" not in subtitle(figure)


def test_groups_have_panels_of_their_own_and_one_legend(records):
    figure = kd.charts.activity(records, by="module")
    titles = [note.text for note in figure.layout.annotations if "created" in note.text]
    names = [title.split("</b>")[0] for title in titles]
    assert names == ["<b>folder", "<b>album", "<b>address book"]
    shown = [trace.name for trace in figure.data if trace.showlegend]
    assert len(shown) == len(set(shown))
    assert {trace.yaxis for trace in figure.data} == {"y", "y2", "y3", "y4", "y5", "y6"}


def test_the_12_largest_groups_are_drawn_and_the_subtitle_says_so(records):
    figure = kd.charts.activity(records, by=["device_id", "module"], bin="week", since=None)
    assert len(figure.layout.annotations) == 2 * 12
    assert "The 12 largest of " in subtitle(figure)


def test_the_newest_bins_are_drawn_and_the_subtitle_says_so(records):
    figure = kd.charts.activity(records, since="40D", bin="hour")
    (line,) = named(figure, "ended")
    assert len(line.y) == 757
    assert "Only the newest 756 of 961 bins are drawn." in subtitle(figure)


@pytest.mark.parametrize(
    ("now", "note"),
    [("2025-10-27T08:30Z", "drawn at UTC+02:00"), ("2025-03-31T08:30Z", "drawn at UTC+01:00")],
)
def test_hours_lie_side_by_side_where_the_clock_changes(records, now, note):
    moved = records.copy()
    by = pd.Timestamp(now) - records["fetched_at"].max()
    for name in ("create_time", "end_time", "device_create_time", "fetched_at"):
        moved[name] = (moved[name] + by).astype(records[name].dtype)
    figure = kd.charts.activity(moved, since="3D", bin="hour", tz="Europe/Berlin")
    (line,) = named(figure, "ended")
    apart = pd.Series(pd.to_datetime(list(line.x))).diff().dropna()
    assert set(apart) == {pd.Timedelta("1h")}
    assert note in figure.layout.xaxis.title.text


def test_a_width_without_a_name_is_written_as_a_duration(records):
    figure = kd.charts.activity(records, since="3D", bin="15min")
    assert figure.layout.title.text == "Backups created and ended per 15 min"


@pytest.mark.parametrize("options", [{}, {"by": "module"}], ids=str)
def test_no_records_make_panels_without_bars(records, options):
    figure = kd.charts.activity(records.head(0), **options)
    assert not any(trace.type == "bar" for trace in figure.data)
    assert "0 backups created, no dates" in subtitle(figure)


def test_the_largest_figure_stays_small(busy):
    for options in ({"since": "10D"}, {"since": "3D", "by": ["module", "device_os"]}):
        figure = kd.charts.activity(busy, bin="15min", **options)
        assert len(figure.to_json().encode()) < MAX_BYTES


@pytest.fixture
def busy(records):
    """Give many records of every state at all times, in 12 groups with long names."""
    parts = []
    span = pd.Timedelta("12D") / 60
    for number in range(60):
        part = records.head(120).copy()
        at = records["fetched_at"].max() - number * span
        minutes = pd.to_timedelta(pd.Series(range(len(part))) * 2, unit="min")
        part["create_time"] = (at - minutes).astype(records["create_time"].dtype)
        part["end_time"] = part["create_time"] + pd.Timedelta("90s")
        part["record_id"] = part["record_id"] + f"-{number}"
        part["status_code"] = pd.array([0, 1, 1, 2, 7] * 24, dtype="Int64")
        names = [f"<&{number}{'&' * 60}" for number in range(4)] * 30
        part["device_os"] = pd.array(names, dtype=records["device_os"].dtype)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)
