import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb.analysis import day_judgements

TZ = "Asia/Shanghai"
NAMES = {"unusually high for its weekday", "unusually low for its weekday"}


def subtitle(figure):
    return figure.layout.title.subtitle.text.replace("<br>", " ").replace("\u00a0", " ")


@pytest.fixture(scope="module")
def fleet():
    records = kd.analysis.classify(kd.sandbox.frames("small", 1).records)
    day = [pd.Timestamp(text, tz=TZ) for text in ("2025-12-09", "2025-12-10")]
    created = records["create_time"]
    return records[~((created >= day[0]) & (created < day[1]))].reset_index(drop=True)


@pytest.fixture(scope="module")
def table(fleet):
    return kd.analysis.anomalies(fleet, "created", tz=TZ)


def marks(figure):
    return [trace for trace in figure.data if str(trace.name).startswith("unusually")]


def test_a_day_on_which_nothing_arrived_is_marked_where_it_is_missing(fleet, table):
    (mark,) = marks(kd.charts.activity(fleet, tz=TZ, anomalies=table))
    assert (list(mark.x), list(mark.y)) == (["2025-12-09T12:00"], [0])
    assert mark.name == "unusually low for its weekday"
    assert mark.marker.symbol == "triangle-down"
    assert mark.customdata[0].startswith("Tue 9 Dec: 0 backups created, usually at least ")


def test_without_the_table_nothing_is_marked_and_with_it_the_subtitle_counts(fleet, table):
    plain = kd.charts.activity(fleet, tz=TZ)
    assert not marks(plain)
    assert "Marked" not in subtitle(plain)
    figure = kd.charts.activity(fleet, tz=TZ, anomalies=table)
    assert (
        "Marked: 1 day on which the number of backups created is unusual for the weekday, of "
        f"1 judged. Not judged: {day_judgements.reasons(table)}."
    ) in subtitle(figure)
    assert "records of that day may be purged" in subtitle(figure)


def test_days_that_are_not_drawn_are_not_counted_as_marked(fleet, table):
    bent = table.assign(verdict="unusually_low", reason=None)
    bent.attrs = table.attrs
    figure = kd.charts.activity(fleet, since="2025-12-01", bin="day", tz=TZ, anomalies=bent)
    (mark,) = marks(figure)
    assert len(mark.x) == 17
    assert "Marked: 17 days on which" in subtitle(figure)
    assert "of 17 judged." in subtitle(figure)
    assert f"Not drawn: {len(table) - 17} unusual days of the table." in subtitle(figure)


def test_where_no_day_can_be_judged_the_figure_says_why(fleet, table):
    none = table.assign(verdict="not_judged", reason="records of that day may be purged")
    none.attrs = table.attrs
    figure = kd.charts.activity(fleet, tz=TZ, anomalies=none)
    assert not marks(figure)
    assert (
        "No day is marked, since the number of backups created is judged on none of those drawn. "
        "Not judged: 59 days (records of that day may be purged)."
    ) in subtitle(figure)


def test_a_table_of_days_after_the_fetch_says_until_when_was_seen(fleet):
    late = kd.analysis.anomalies(fleet, since="4 weeks", until="2025-12-20", tz=TZ)
    figure = kd.charts.activity(fleet, since="4 weeks", bin="day", tz=TZ, anomalies=late)
    assert "The window ends after the fetch (17 Dec 2025 16:30)" in subtitle(figure)


def test_a_filter_that_hides_what_was_purged_is_told(fleet, table):
    part = fleet[fleet["state"] != "to_be_deleted"]
    words = "No record waits for deletion: were they filtered out, what is older looks wrong."
    for records, is_told in ((part, True), (fleet, False)):
        days = kd.analysis.anomalies(records, tz=TZ)
        text = subtitle(kd.charts.activity(records, tz=TZ, anomalies=days))
        assert (words in text) == is_told


@pytest.mark.parametrize(
    "cut",
    [
        lambda table: table.head(55),
        lambda table: table[table["verdict"] == "unusually_low"],
        lambda table: table.query("verdict != 'not_judged'").reset_index(drop=True),
        lambda table: table.sort_values("value", ascending=False),
    ],
    ids=["head", "filter", "query", "sort"],
)
def test_a_table_that_is_cut_is_welcome_and_its_missing_days_are_told(fleet, table, cut):
    mine = cut(table)
    figure = kd.charts.activity(fleet, tz=TZ, anomalies=mine)
    (mark,) = marks(figure)
    assert list(mark.x) == ["2025-12-09T12:00"]
    missing = len(table) - len(mine)
    assert ("not in the table" in subtitle(figure)) == bool(missing)
    if missing:
        assert f"{missing} days drawn, yet not in the table." in subtitle(figure)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (lambda fleet: (fleet.head(len(fleet) - 1), {}), "number of records"),
        (lambda fleet: (fleet[fleet["module"] == "album"], {}), "number of records"),
        (lambda fleet: (fleet.assign(source="live"), {}), "source"),
        (lambda fleet: (_again(fleet), {"as_of": "2025-12-15T00:00Z"}), "now"),
        (lambda fleet: (_again(fleet), {"stuck_after": "2h"}), "stuck limits"),
    ],
    ids=["newest", "selection", "source", "now", "stuck"],
)
def test_a_table_of_other_records_is_refused(fleet, other, says):
    records, options = other(fleet)
    table = kd.analysis.anomalies(records, tz=TZ, **options)
    with pytest.raises(kd.InvalidParameterError, match=f"other records.*{says}.*pass the same"):
        kd.charts.activity(fleet, tz=TZ, anomalies=table)


def _again(fleet):
    return fleet[list(kd.schema("records")["column"])]


def test_high_and_low_differ_by_their_symbol(fleet, table):
    bent = table.assign(verdict=["unusually_high", "unusually_low"] * 29 + ["not_judged"])
    bent.attrs = table.attrs
    found = marks(kd.charts.activity(fleet, tz=TZ, anomalies=bent))
    assert {trace.name for trace in found} == NAMES
    assert len({trace.marker.symbol for trace in found}) == 2


def test_groups_are_marked_in_their_own_panels_with_one_legend(fleet):
    table = kd.analysis.anomalies(fleet, "created", by="module", tz=TZ)
    table["verdict"] = ["unusually_low"] + ["usual"] * (len(table) - 1)
    first = table["module"].iloc[0]
    figure = kd.charts.activity(fleet, by="module", tz=TZ, anomalies=table)
    (mark,) = marks(figure)
    assert first == "folder"
    assert (mark.xaxis, mark.yaxis) == ("x", "y")
    table["verdict"] = "unusually_low"
    assert (
        sum(
            trace.showlegend
            for trace in marks(kd.charts.activity(fleet, by="module", tz=TZ, anomalies=table))
        )
        == 1
    )


def test_stuck_shares_are_marked_on_the_settled_share(fleet):
    table = kd.analysis.anomalies(fleet, "stuck_share", tz=TZ)
    table["verdict"] = ["usual"] * 45 + ["unusually_high"] + ["usual"] * (len(table) - 46)
    (mark,) = marks(kd.charts.activity(fleet, tz=TZ, anomalies=table))
    assert mark.yaxis == "y3"
    shares = kd.analysis.activity(fleet, tz=TZ)["settled_share"]
    assert mark.y[0] == pytest.approx(100 * shares.iloc[45], abs=1e-3)


def test_names_in_messages_are_text(fleet, table):
    bent = table.assign(message="<img src=x>$y$")
    bent.attrs = table.attrs
    text = kd.charts.activity(fleet, tz=TZ, anomalies=bent).to_json()
    assert "<img" not in text
    assert "$" not in text


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        (lambda table: [1], {}, "kd.analysis.anomalies"),
        (lambda table: table.drop(columns="verdict"), {}, "kd.analysis.anomalies"),
        (lambda table: pd.DataFrame(table.to_dict("list")), {}, "still says its metric"),
        (lambda table: table, {"bin": "week"}, "bin='day'"),
        (lambda table: table, {"by": "module"}, "with the by="),
        (lambda table: table, {"tz": "UTC"}, "tz='UTC'"),
    ],
    ids=["list", "columns", "attrs", "weeks", "groups", "zone"],
)
def test_a_table_that_does_not_fit_is_refused_with_what_does(fleet, table, change, options, says):
    with pytest.raises(kd.InvalidParameterError, match=says):
        kd.charts.activity(fleet, anomalies=change(table), **({"tz": TZ} | options))
