import math

import pandas as pd
import pytest

import koodrive_nb as kd

MAX_BYTES = 300_000


def subtitle(figure):
    return figure.layout.title.subtitle.text.replace("<br>", " ").replace("\u00a0", " ")


def of_kind(figure, kind):
    return [trace for trace in figure.data if trace.type == kind]


def test_each_hour_of_the_week_is_a_cell_with_its_rate_in_words(records):
    table = kd.analysis.load(records, tz="Asia/Shanghai")
    figure = kd.charts.load(table)
    (cells,) = of_kind(figure, "heatmap")
    for row in table.to_dict("records"):
        day, at = row["weekday"] - 1, row["hour"]
        assert cells.z[day][at] == pytest.approx(row["starts_per_occurrence"], abs=0.001)
    tuesday = table[(table["weekday"] == 2) & (table["hour"] == 23)].iloc[0]
    assert cells.customdata[1][23] == (
        f"Tue 23:00-24:00: {tuesday['starts_per_occurrence']:.3g} starts/h over 9 occurrences"
    )
    assert figure.layout.yaxis.ticktext[0] == "Mon"
    assert figure.layout.yaxis.autorange == "reversed"
    assert "Asia/Shanghai, UTC+08:00" in figure.layout.xaxis.title.text


def test_the_margins_are_means_over_all_occurrences(records):
    table = kd.analysis.load(records)
    above, beside = of_kind(kd.charts.load(table), "bar")
    for values, name in ((above.y, "hour"), (beside.x, "weekday")):
        sums = table.groupby(name)[["n", "occurrences"]].sum()
        assert list(values) == pytest.approx(list(sums["n"] / sums["occurrences"]), abs=0.001)


def test_an_hour_that_never_came_is_blank_and_said_so(make):
    frame = make({"create_time": "2025-12-16T23:10Z"})
    figure = kd.charts.load(frame, since="2025-12-16T23:00", until="2025-12-17T01:00")
    (cells,) = of_kind(figure, "heatmap")
    assert sum(cell is not None for row in cells.z for cell in row) == 2
    assert cells.customdata[0][5] == "Mon 05:00-06:00: not in the window"
    assert "Blank: it never came." in subtitle(figure)
    assert figure.layout.title.text == "Most backups start on Tue 23:00-24:00: 1 starts/h"
    assert "Blank" not in subtitle(kd.charts.load(frame))


def test_large_rates_are_short_in_the_cells_and_whole_in_the_words(records):
    table = kd.analysis.load(records)
    table["starts_per_occurrence"] = [1_690.4, 23_456.0, 99.96, 0.0, 9.5, 12.4] * 28
    figure = kd.charts.load(table)
    (cells,) = of_kind(figure, "heatmap")
    assert list(cells.text[0][:6]) == ["1.7k", "23k", "100", "0", "9.5", "12"]
    assert cells.customdata[0][0].startswith("Mon 00:00-01:00: 1,690 starts/h over")
    assert figure.layout.title.text.endswith(": 23,456 starts/h")


def test_groups_have_a_map_each_and_one_scale(records):
    figure = kd.charts.load(records, by="module")
    maps = of_kind(figure, "heatmap")
    assert {trace.coloraxis for trace in maps} == {"coloraxis"}
    assert figure.layout.coloraxis.cmin == 0
    names = [note.text.split("</b>")[0] for note in figure.layout.annotations]
    assert names == ["<b>folder", "<b>album", "<b>address book"]
    assert not of_kind(figure, "bar")


def test_the_12_largest_groups_are_drawn_and_the_subtitle_says_so(records):
    for kind in ("starts", "running"):
        options = {"kind": kind, "by": ["device_id", "module"], "since": "20D"}
        figure = kd.charts.load(records, **options, **({"bin": "day"} if kind == "running" else {}))
        assert len(figure.layout.annotations) == 12
        assert "The 12 largest of " in subtitle(figure)


def test_the_level_is_an_area_of_the_most_and_a_line_of_the_mean(records):
    table = kd.analysis.load(records, kind="running", since="10D")
    figure = kd.charts.load(table)
    most, mean = of_kind(figure, "scatter")
    assert (most.name, mean.name) == ("most at once", "mean")
    assert list(most.y) == [*table["running_max"], table["running_max"].iloc[-1]]
    assert list(mean.y)[:-1] == pytest.approx(list(table["running_mean"]), abs=0.001)
    assert (most.fill, mean.fill) == ("tozeroy", None)
    assert most.line.shape == mean.line.shape == "hv"
    assert "Stuck = open" in subtitle(figure)
    assert f"At most {table['running_max'].max()} backup" in figure.layout.title.text


def test_only_the_newest_bins_are_drawn_and_the_subtitle_says_so(records):
    figure = kd.charts.load(records, kind="running", bin="15min", since="30D")
    assert len(figure.data[0].y) == 2_101
    assert "Only the newest 2,100 of 2,880 bins are drawn." in subtitle(figure)
    assert len(figure.to_json().encode()) < MAX_BYTES


def test_names_of_the_service_are_text(make):
    frame = make({"device_name": "<img src=x>", "end_time": "2025-12-16T10:00Z"})
    for kind in ("starts", "running"):
        figure = kd.charts.load(frame, by="device_name", kind=kind)
        assert "<img" not in figure.to_json()
        assert "&lt;img src=x&gt;" in figure.layout.annotations[0].text


def test_a_name_of_many_blanks_is_called_blank(make):
    frame = make({"device_name": " " * 32}, {"device_name": "phone"})
    figure = kd.charts.load(frame, by="device_name")
    assert figure.layout.annotations[0].text.startswith("<b>(blank)</b>")


@pytest.mark.parametrize("kind", ["starts", "running"])
@pytest.mark.parametrize("by", [None, "module"])
def test_no_records_make_a_figure_that_says_so(records, kind, by):
    figure = kd.charts.load(records.head(0), kind=kind, by=by)
    assert figure.layout.title.text.startswith("Backups ")
    assert "no dates" in subtitle(figure)
    if kind == "running":
        assert figure.layout.xaxis.visible is False
    assert figure.layout.meta["alt"]


def test_the_zone_that_changes_its_offset_is_named_with_both(make):
    frame = make({"create_time": "2025-10-22T10:00Z"}, now=pd.Timestamp("2025-10-31T00:00Z"))
    figure = kd.charts.load(frame, since="2025-10-20", until="2025-10-27", tz="Europe/Berlin")
    assert "Europe/Berlin, UTC+02:00/+01:00" in figure.layout.xaxis.title.text
    (cells,) = of_kind(figure, "heatmap")
    assert "over 2 occurrences" in cells.customdata[6][2]
    assert "over 1 occurrence" in cells.customdata[6][3]
    assert not any(math.isnan(cell) for row in cells.z for cell in row)


def test_a_frame_that_is_neither_is_refused(records):
    with pytest.raises(kd.InvalidParameterError, match="neither"):
        kd.charts.load(pd.DataFrame({"hour": [1]}))
    with pytest.raises(kd.InvalidParameterError, match="made already"):
        kd.charts.load(kd.analysis.load(records), kind="running")


def test_a_cut_table_is_drawn_where_it_belongs_and_says_so(records):
    table = kd.analysis.load(records)
    day = table[table["hour"].between(8, 18) & (table["weekday"] > 1)]
    figure = kd.charts.load(day)
    (cells,) = of_kind(figure, "heatmap")
    for row in table.to_dict("records"):
        z = cells.z[row["weekday"] - 1][row["hour"]]
        is_shown = 8 <= row["hour"] <= 18 and row["weekday"] > 1
        assert (z is not None) == is_shown
        assert not is_shown or z == pytest.approx(row["starts_per_occurrence"], abs=0.001)
    assert cells.customdata[0][9] == "Mon 09:00-10:00: not in the table"
    assert figure.layout.title.text.startswith("Most backups of the hours shown start on ")
    assert "Not drawn: hours that are not in the table." in subtitle(figure)
    above, _ = of_kind(figure, "bar")
    assert above.y[9] is not None
    assert above.y[7] is None
    with pytest.raises(kd.InvalidParameterError, match="an hour of the week twice"):
        kd.charts.load(pd.concat([table, table]))


def test_rates_of_weeks_that_were_purged_are_told_to_be_lower_bounds():
    records = kd.sandbox.frames("small", 0).records
    since_then = kd.charts.load(records)
    assert "purged" not in subtitle(since_then)
    assert "at least" not in since_then.layout.title.text
    figure = kd.charts.load(records, since="8 weeks")
    assert ": at least " in figure.layout.title.text
    assert "may be purged: rates are lower bounds." in subtitle(figure)
    level = kd.charts.load(records, kind="running", since="8 weeks")
    assert level.layout.title.text.startswith("At least ")
    assert "may be purged: levels are lower bounds." in subtitle(level)


def test_a_window_that_ends_after_the_fetch_says_until_when_it_is_counted(records):
    figure = kd.charts.load(records, since="2025-12-08", until="2026-01-01")
    assert "ends after the fetch (17 Dec 2025 08:30)" in subtitle(figure)


def test_a_minute_of_an_hour_is_no_busiest_hour(make):
    now = pd.Timestamp("2025-12-17T08:00:30Z")
    rows = [{"create_time": now - pd.Timedelta("20s")}]
    rows += [{"create_time": "2025-12-16T10:10Z"}, {"create_time": "2025-12-16T10:20Z"}]
    figure = kd.charts.load(make(*rows, now=now), since="2D")
    assert figure.layout.title.text == "Most backups start on Tue 10:00-11:00: 2 starts/h"
    assert figure.layout.coloraxis.cmax == 2
