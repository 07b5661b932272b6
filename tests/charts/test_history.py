import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb.charts import judgements

STATES = ("protected", "late", "outdated", "never")


def subtitle(figure):
    return figure.layout.title.subtitle.text.replace("<br>", " ").replace("\u00a0", " ")


@pytest.fixture(scope="module")
def fleet():
    return kd.sandbox.frames("small")


@pytest.fixture(scope="module")
def table(fleet):
    return kd.analysis.exposure_history(fleet.records, fleet.devices)


def parts(figure):
    return [trace for trace in figure.data if trace.type == "bar"]


def test_each_day_adds_up_to_all_devices_in_scope(table):
    figure = kd.charts.exposure_history(table)
    for heights in zip(*(trace.y for trace in parts(figure)), strict=True):
        assert sum(heights) == pytest.approx(100, abs=0.01)
    assert list(figure.layout.yaxis.range) == [0, 100]
    assert [trace.customdata[-1][0] for trace in parts(figure)] == list(table[[*STATES]].iloc[-1])


def test_two_lines_tell_the_share_at_the_end_of_the_day_and_over_it(table):
    figure = kd.charts.exposure_history(table)
    lines = {trace.name: trace for trace in figure.data if trace.type == "scatter" and trace.name}
    for column, name in (
        ("compliance_share", "within the RPO at the end of the day"),
        ("compliance_time_share", "share of device-time within the RPO"),
    ):
        assert list(lines[name].y) == pytest.approx(list(100 * table[column]), abs=0.001)
    assert len({lines[name].line.dash for name in list(lines)[:2]}) == 2


def test_days_whose_records_may_be_purged_are_hatched_up_to_the_first_complete_one(table):
    figure = kd.charts.exposure_history(table)
    first = table.loc[table["is_complete"], "bin_start"].iloc[0]
    horizon = pd.Timestamp(table.attrs["koodrive"]["history_complete_from"])
    words = f"records may be purged before {horizon.day} {horizon:%b %Y}"
    hatched = next(trace for trace in figure.data if trace.name == words)
    assert hatched.x[0] == f"{table['bin_start'].iloc[0]:%Y-%m-%d}"
    assert hatched.x[-1] == f"{first:%Y-%m-%d}"
    assert hatched.fillpattern.shape == "/"
    assert f"Hatched: {words}" in subtitle(figure)


def test_a_day_that_is_not_over_is_marked(table):
    hatched = next(
        trace for trace in kd.charts.exposure_history(table).data if trace.name == "day is not over"
    )
    assert hatched.x[0] == "2025-12-17"
    over = kd.charts.exposure_history(table[~table["is_partial"]])
    assert "day is not over" not in {trace.name for trace in over.data}


def test_the_title_leaves_out_what_may_be_purged(table):
    complete = table[table["is_complete"]]
    share = 1 - complete["exposed_h"].sum() / complete["in_scope_h"].sum()
    now = judgements.percent(table["compliance_share"].iloc[-1])
    title = kd.charts.exposure_history(table).layout.title.text
    assert title == (
        f"{now} of devices kept the RPO of 7 d at the end, "
        f"{judgements.percent(share)} of device-time"
    )


def test_few_devices_are_not_judged(records, devices):
    figure = kd.charts.exposure_history(records, devices)
    assert figure.layout.title.text.startswith("7 of 10 devices kept the RPO of 7 d at the end")
    assert "fewer than 20 devices" in subtitle(figure)
    used = {trace.marker.color for trace in parts(figure)}
    assert not used & (set(judgements.COLOURS.values()) - {judgements.NEUTRAL})


def test_without_devices_counts_are_drawn_and_no_line(fleet):
    table = kd.analysis.exposure_history(fleet.records)
    figure = kd.charts.exposure_history(table)
    assert [trace.name.split(":")[0] for trace in parts(figure)] == list(STATES[:-1])
    assert list(parts(figure)[0].y) == list(table["protected"])
    assert figure.layout.yaxis.ticksuffix is None
    assert not any("RPO" in (trace.name or "") for trace in figure.data[3:])
    assert "Without devices= nobody knows" in subtitle(figure)


def test_days_are_those_of_the_display_zone(fleet):
    figure = kd.charts.exposure_history(fleet.records, fleet.devices, tz="Asia/Shanghai")
    assert "Asia/Shanghai, UTC+08:00" in figure.layout.xaxis.title.text
    assert parts(figure)[0].x0 == "2025-10-22T12:00"
    assert list(figure.layout.xaxis.range) == ["2025-10-22", "2025-12-18"]


@pytest.mark.parametrize("until", ["2025-12-10", pd.Timestamp("2025-12-10T00:00Z")], ids=str)
def test_a_window_names_its_last_day(fleet, until):
    figure = kd.charts.exposure_history(fleet.records, fleet.devices, until=until)
    assert "– 9 Dec 2025" in subtitle(figure)


def test_five_years_of_days_stay_small(records, devices):
    old = records.copy()
    old.loc[0, "create_time"] = pd.Timestamp("2019-01-01T00:00Z")
    figure = kd.charts.exposure_history(old, devices, since=None)
    assert len(parts(figure)[0].y) > 1_800
    assert len(figure.to_json().encode()) < 300_000
