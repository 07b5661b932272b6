import numpy as np
import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb.analysis import effects

WINDOW = {"window": ("2025-12-06", "2025-12-14"), "previous": ("2025-11-29", "2025-12-05")}
HOSTILE = "<img src=x onerror=alert(1)>$\\href{javascript:x}{y}$\u202e" + "&" * 250


def subtitle(figure):
    return figure.layout.title.subtitle.text.replace("<br>", " ").replace("\u00a0", " ")


@pytest.fixture(scope="module")
def fleet():
    return kd.analysis.classify(kd.sandbox.frames("small", 4).records)


@pytest.fixture(scope="module")
def table(fleet):
    return kd.analysis.explain_change(fleet, tz="Asia/Shanghai", **WINDOW)


def bars(figure):
    """Give base, length and words of each bar by its place from the top."""
    found = [
        (place, base, length, words)
        for trace in figure.data
        if trace.type == "bar"
        for place, base, length, words in zip(
            trace.y, trace.base, trace.x, trace.customdata, strict=True
        )
    ]
    return sorted(found)


def test_each_step_begins_where_the_last_one_ended_and_all_of_them_are_the_change(table):
    figure = kd.charts.explain_change(table)
    change = table.attrs["koodrive"]["change_pp"]
    at, n_dimensions = 0.0, 0
    for _, base, length, words in bars(figure):
        if "the whole change" in words:
            assert (base, length) == (0, pytest.approx(change, abs=1e-3))
            assert at == pytest.approx(change, abs=1e-3)
            at, n_dimensions = 0.0, n_dimensions + 1
        else:
            assert base == pytest.approx(at, abs=1e-3)
            at += length
    assert n_dimensions == 2


def test_records_with_options_and_their_table_draw_the_same(fleet, table):
    drawn = kd.charts.explain_change(fleet, tz="Asia/Shanghai", **WINDOW)
    assert drawn.to_json() == kd.charts.explain_change(table).to_json()


def test_falling_and_rising_differ_without_colour_and_have_their_sign(table):
    figure = kd.charts.explain_change(table)
    kinds = {trace.name: trace for trace in figure.data if trace.type == "bar"}
    lower, higher = kinds["lowers the share"], kinds["raises the share"]
    assert lower.marker.pattern.shape != higher.marker.pattern.shape
    assert {text[0] for text in lower.text if text != "0.00"} == {"\u2212"}
    assert {text[0] for text in higher.text if text != "0.00"} == {"+"}


def test_hover_has_the_numbers_of_both_windows_in_words(table):
    row = table.iloc[0]
    (words,) = [
        words
        for *_, words in bars(kd.charts.explain_change(table))
        if f"<b>{row['segment']}" in words
    ]
    assert f"{100 * row['settled_share_previous']:.1f} % of {row['n_previous']:,} before" in words
    assert f"{100 * row['settled_share']:.1f} % of {row['n']:,} now" in words
    points = f"{row['rate_effect_pp']:+.2f}".replace("-", "\u2212")
    assert f"by its own share {points}" in words


def test_hover_says_what_was_tested_at_which_limit_and_why_a_segment_is_no_driver(table):
    tested = table.assign(is_driver=table.index == 0, p_value=0.01, reason="within chance")
    tested.loc[0, "reason"] = None
    tested.loc[1, ["p_value", "reason"]] = [np.nan, "not tested: all backups are in it"]
    tested.attrs = table.attrs
    words = {place: text for place, *_, text in bars(kd.charts.explain_change(tested))}
    assert "p = 0.01 among " in words[1]
    assert "a driver has less than 0.05" in words[1]
    assert "no driver" not in words[1]
    assert "p =" not in words[2]
    assert words[2].endswith("no driver, not tested: all backups are in it")
    assert words[3].endswith("no driver, within chance")


@pytest.mark.parametrize("points", [0.001, -0.001, 0.0])
def test_what_rounds_to_nothing_has_no_sign(table, points):
    still = table.assign(total_pp=points, rate_effect_pp=points, mix_effect_pp=points)
    still.attrs = {"koodrive": table.attrs["koodrive"] | {"change_pp": points}}
    figure = kd.charts.explain_change(still)
    assert figure.layout.title.text == "The settled share did not change"
    text = figure.to_json()
    assert "+0.00" not in text
    assert "\\u22120.00" not in text
    assert "\u22120.00" not in text


def test_the_subtitle_does_not_say_the_title_again(table):
    figure = kd.charts.explain_change(table)
    assert figure.layout.title.text not in subtitle(figure)
    assert subtitle(figure).startswith("From ")
    assert figure.layout.meta["alt"].count("The settled share") == 1


def test_a_window_that_was_not_over_says_how_much_of_it_is_there(fleet):
    figure = kd.charts.explain_change(fleet, window="2025-W51", tz="Asia/Shanghai")
    assert (
        "This window was not over at the fetch (17 Dec 16:30): 2 d 16 h of its 7 d are compared "
        "with the whole one before."
    ) in subtitle(figure)
    assert subtitle(figure).count("not over") == 1


def test_the_subtitle_names_both_windows_zone_source_rule_and_the_verdict(table):
    text = subtitle(kd.charts.explain_change(table))
    about = table.attrs["koodrive"]
    title = kd.charts.explain_change(table).layout.title.text
    assert text[1:].startswith(about["verdict"].removeprefix(f"{title}, ")[1:])
    assert "29 Nov – 4 Dec 2025 (Asia/Shanghai, UTC+08:00)" in text
    assert "6 Dec – 13 Dec 2025 (Asia/Shanghai, UTC+08:00)" in text
    assert "sandbox (synthetic)" in text
    assert "Stuck = open, with a later backup" in text
    assert f"{about['n_purged']:,} of devices whose earlier backups may be purged" in text


def test_a_filter_that_hides_what_was_purged_is_told(fleet, table):
    words = "No record waits for deletion: were they filtered out, what is older looks wrong."
    assert words not in subtitle(kd.charts.explain_change(table))
    part = fleet[fleet["state"] != "to_be_deleted"]
    assert words in subtitle(kd.charts.explain_change(part, **WINDOW))


def test_a_driver_is_marked_in_its_label(table):
    marked = table.assign(is_driver=table.index == 0)
    marked.attrs = table.attrs
    figure = kd.charts.explain_change(marked)
    assert [text.startswith("◆ <b>") for text in figure.layout.yaxis.ticktext].count(True) == 1
    assert "that is no cause" in subtitle(figure)
    assert "no cause" not in subtitle(kd.charts.explain_change(table.assign(is_driver=False)))


def test_many_and_hostile_segments_stay_few_small_and_text(table):
    cells = pd.DataFrame(
        {
            "cluster": range(400),
            "segment": [f"{number % 40}{HOSTILE}" for number in range(400)],
            "n_previous": 20,
            "n": 30,
            "hits_previous": 19,
            "hits": [28 + (number % 40 < 3) for number in range(400)],
        }
    )
    many = effects.split(cells).assign(dimension="device_name", p_value=0.5, is_driver=False)
    figure = kd.charts.explain_change(many)
    text = figure.to_json()
    assert len(figure.layout.yaxis.ticktext) == 1 + 12 + 1 + 1
    assert "28 others" in figure.layout.yaxis.ticktext
    assert "<img" not in text
    assert "$" not in text
    assert "\\u202e" not in text.lower()
    assert len(text.encode()) < 300_000


def test_not_enough_data_makes_a_figure_that_says_so(records):
    figure = kd.charts.explain_change(records.head(50), window="2025-W50")
    assert not figure.data
    assert subtitle(figure).startswith("Not enough data: ")
    assert "Not enough data" in figure.layout.meta["alt"]


def test_where_there_is_nothing_to_draw_no_axis_is_drawn(records, table):
    empty = kd.charts.explain_change(records.head(50), window="2025-W50").layout
    full = kd.charts.explain_change(table).layout
    assert (empty.xaxis.visible, empty.yaxis.visible) == (False, False)
    assert (full.xaxis.visible, full.yaxis.visible) == (True, True)
    assert empty.height < full.height


def test_what_is_neither_is_refused():
    with pytest.raises(kd.InvalidParameterError, match="Pass records"):
        kd.charts.explain_change(pd.DataFrame({"x": [1]}))
