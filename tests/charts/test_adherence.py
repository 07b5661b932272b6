import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb.analysis.adherences import CELLS
from koodrive_nb.charts import judgements

GLYPHS = {"adhered": "●", "missed": "✕", "running": "◐", "not_expected": "·", "unknown": "?"}


def subtitle(figure):
    return figure.layout.title.subtitle.text.replace("<br>", " ").replace("\u00a0", " ")


@pytest.fixture(scope="module")
def fleet():
    return kd.sandbox.frames("small")


def parts(figure):
    return {trace.name: trace for trace in figure.data if trace.type == "bar"}


def test_each_day_is_divided_into_completed_unknown_and_missed(fleet):
    table = kd.analysis.adherence(fleet.records, fleet.devices)
    found = parts(kd.charts.adherence(table))
    assert list(found) == ["completed a backup", "unknown: may be purged", "none completed"]
    adhered = found["completed a backup"]
    assert list(adhered.y[:-1]) == pytest.approx(
        list(100 * table["adherence_share"].iloc[:-1]), abs=0.001
    )
    for row, numbers in zip(adhered.customdata, table.itertuples(), strict=True):
        assert list(row) == [numbers.adhered, numbers.expected]
    heights = zip(*(trace.y[:-1] for trace in found.values()), strict=True)
    assert [sum(day) for day in heights] == pytest.approx([100] * (len(table) - 1), abs=0.01)


def test_days_that_may_be_purged_or_are_not_over_are_hatched(fleet):
    table = kd.analysis.adherence(fleet.records, fleet.devices)
    figure = kd.charts.adherence(table)
    horizon = pd.Timestamp(table.attrs["koodrive"]["history_complete_from"])
    hatched = {
        trace.name: trace
        for trace in figure.data
        if "be purged before" in trace.name or "over" in trace.name
    }
    assert list(hatched) == [
        f"records may be purged before {horizon.day} {horizon:%b %Y}",
        "day is not over",
    ]
    assert list(hatched["day is not over"].x[1:3]) == ["2025-12-17", "2025-12-18"]


def test_the_title_is_of_complete_days(fleet):
    table = kd.analysis.adherence(fleet.records, fleet.devices)
    whole = table[table["is_complete"]]
    share = judgements.percent(whole["adhered"].sum() / whole["expected"].sum())
    title = kd.charts.adherence(table).layout.title.text
    assert title == f"A backup completed on {share} of device-days"


def test_without_devices_counts_are_drawn(fleet):
    figure = kd.charts.adherence(fleet.records)
    assert figure.layout.yaxis.ticksuffix is None
    assert list(parts(figure)) == ["completed a backup", "unknown: may be purged"]
    assert "Without devices= nobody knows" in subtitle(figure)


def test_the_window_ends_with_now_and_not_with_the_day(records, devices):
    for per in ("day", "device"):
        assert "19 Nov – 17 Dec 2025" in subtitle(kd.charts.adherence(records, devices, per=per))


def test_a_cell_has_a_colour_a_glyph_and_words(records, devices):
    table = kd.analysis.adherence(records, devices, per="device")
    figure = kd.charts.adherence(table)
    grid = figure.data[0]
    cells = list(table["cell"])
    assert [CELLS[code] for row in grid.z for code in row] == cells
    assert [glyph for row in grid.text for glyph in row] == [GLYPHS[cell] for cell in cells]
    assert grid.texttemplate == "%{text}"
    assert (grid.xgap, grid.ygap) == (1, 1)
    assert [list(told[1:]) for row in grid.customdata for told in row] == table[
        ["completed", "n"]
    ].to_numpy().tolist()
    assert "%a" in grid.hovertemplate


def test_the_legend_of_the_grid_names_every_cell(records, devices):
    figure = kd.charts.adherence(records, devices, per="device")
    legend = figure.data[1:]
    assert [trace.name[0] for trace in legend] == list(GLYPHS.values())
    assert len({trace.marker.color for trace in legend}) == len(CELLS)
    scale = figure.data[0].colorscale
    assert [colour for _, colour in scale[::2]] == [trace.marker.color for trace in legend]


def test_the_device_longest_without_a_completed_backup_is_on_top(records, devices):
    figure = kd.charts.adherence(records, devices, per="device")
    assert list(figure.layout.yaxis.ticktext[:2]) == ["P40 lite ·4106", "nova 12 ·2105"]
    assert figure.layout.yaxis.autorange == "reversed"


def test_a_large_grid_has_no_glyphs_and_tells_what_it_leaves_out(fleet):
    figure = kd.charts.adherence(
        fleet.records, fleet.devices, per="device", since="90D", max_devices=200
    )
    grid = figure.data[0]
    assert grid.text is None
    assert len(grid.z) * len(grid.z[0]) <= 6_000
    n = len(fleet.devices) - len(grid.z)
    assert f"{n} more devices not drawn (first those without records in this window)" in subtitle(
        figure
    )


def test_events_are_for_days_and_not_for_the_grid(records, devices):
    events = pd.DataFrame({"start": ["2025-12-01"], "label": ["release"]})
    with pytest.raises(kd.InvalidParameterError, match="per='day'"):
        kd.charts.adherence(records, devices, per="device", events=events)
