"""What a notebook calls for its report shows in the notebook, too."""

import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb.report import switch, tables

ROW = {
    "kpi": "protected",
    "value": 0.6,
    "lo": 0.5,
    "hi": 0.7,
    "numerator": 60.0,
    "denominator": 100.0,
    "excluded": 3,
    "previous": 0.55,
    "change_pp": 5.0,
    "comparable": True,
    "why_not": None,
    "definition": "RPO 7 d",
    "window_start": pd.Timestamp("2025-12-08", tz="UTC"),
    "window_end": pd.Timestamp("2025-12-15", tz="UTC"),
}


def tiles(**changed):
    return kd.report.tiles(pd.DataFrame([ROW | changed]))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "▲ up 5.0 points, better"),
        ({"kpi": "stuck"}, "▲ up 5.0 points, worse"),
        ({"change_pp": -5.0}, "▼ down 5.0 points, worse"),
        ({"change_pp": 0.0}, "→ as before"),
        ({"comparable": False, "why_not": "RPO 7 d -> 5 d"}, "not comparable: RPO 7 d -> 5 d"),
        ({"denominator": float("nan")}, "cannot be computed"),
    ],
)
def test_a_tile_says_the_change_in_words(changed, said):
    assert said in repr(tiles(**changed))


def test_a_tile_has_value_counts_and_interval_and_is_escaped():
    assert repr(tiles()).startswith("Protected at the end: 60.0 %; 60 of 100 (50.0 to 70.0 %); ")
    html = tiles(comparable=False, why_not="<script>x</script>")._repr_html_()
    assert "<script>" not in html
    assert "60 of 100" in html


def test_what_was_published_of_a_window_stands_beside_what_is_computed_today(monkeypatch):
    once = {"published": 0.58, "published_at": pd.Timestamp("2025-12-15T09:00Z")}
    assert "; published: 58.0 % on 2025-12-15" in repr(tiles(**once))
    assert "published: 58.0 % on 2025-12-15</div>" in tiles(**once)._repr_html_()
    assert "published" not in repr(tiles(published=None, published_at=pd.NaT))
    monkeypatch.setenv("KOODRIVE_PRIVACY", "counts")
    assert "published" not in repr(tiles(**once))


def test_small_counts_are_not_on_a_tile_of_counts(monkeypatch):
    monkeypatch.setenv("KOODRIVE_PRIVACY", "counts")
    shown = repr(tiles(numerator=3.0, value=0.03))
    assert shown == "Protected at the end: under 5; fewer than 5 of 100"


def test_what_few_lack_is_as_little_on_a_tile_as_what_few_are(monkeypatch):
    monkeypatch.setenv("KOODRIVE_PRIVACY", "counts")
    assert repr(tiles(numerator=98.0, value=0.98)) == (
        "Protected at the end: all but fewer than 5; all but fewer than 5 of 100"
    )
    assert repr(tiles(numerator=0.0, value=0.0)).startswith("Protected at the end: 0.0 %; 0 of 100")


def test_shares_in_the_numbers_do_not_tell_small_counts(monkeypatch):
    monkeypatch.setenv("KOODRIVE_PRIVACY", "counts")
    rows = [("share", 0.0104, 288), ("share", 0.99, 200), ("share", 0.5, 200), ("h", 3.0, None)]
    told = kd.report.numbers(
        controls=pd.DataFrame(rows, columns=["unit", "observed", "n"]),
        headline=pd.DataFrame([ROW | {"numerator": 98.0}]),
        rules=pd.DataFrame({"rule": ["odd"], "n": [2], "of": [100], "share": [0.02]}),
        examples=pd.DataFrame({"rule": ["odd"], "ids": ["such as device-abcdefgh2345"]}),
        indexed=pd.DataFrame(
            {"n": [12]}, index=pd.Index(["1842862763295184641"], name="device_id")
        ),
    )._repr_mimebundle_()[tables.MIME]
    assert [row["observed"] for row in told["tables"]["controls"]] == [None, None, 0.5, 3.0]
    assert (told["tables"]["headline"][0]["numerator"], told["tables"]["headline"][0]["value"]) == (
        None,
        None,
    )
    assert told["tables"]["rules"] == [{"rule": "odd", "n": "<5", "of": 100, "share": None}]
    assert told["left_out"] == ["examples", "indexed"]


def test_the_course_is_of_the_same_definition(tmp_path, monkeypatch):
    earlier = [
        ROW | {"value": 0.2, "window_end": ROW["window_end"] - pd.Timedelta("14D")},
        ROW | {"value": 0.9, "window_end": ROW["window_end"] - pd.Timedelta("7D")},
        ROW | {"value": 0.0, "definition": "RPO 5 d"},
    ]
    pd.DataFrame(earlier).to_parquet(tmp_path / "kpis.parquet")
    monkeypatch.setenv("KOODRIVE_REPORT_HISTORY", str(tmp_path / "kpis.parquet"))
    assert repr(tiles()).endswith("; ▁█▅")
    pd.DataFrame(earlier).drop(columns="kpi").to_parquet(tmp_path / "kpis.parquet")
    with pytest.raises(kd.InvalidParameterError, match="no history of reports"):
        kd.report.history()
    (tmp_path / "kpis.parquet").write_text("no")
    with pytest.raises(kd.InvalidParameterError, match="no history of reports"):
        kd.report.history()


def test_numbers_are_one_line_and_keep_types():
    frame = pd.DataFrame(
        {
            "id": ["1842862763295184641"],
            "big": [2**60],
            "n": [3],
            "at": [pd.Timestamp("2025-12-17T08:30", tz="Asia/Shanghai")],
            "gone": [None],
            "inf": [float("inf")],
            "list": [[1]],
            "span": [pd.Timedelta("1min")],
        }
    )
    made = kd.report.numbers(things=frame)
    assert repr(made) == "Numbers for the report: things (1)"
    assert made._repr_mimebundle_()[tables.MIME]["tables"]["things"] == [
        {
            "id": "1842862763295184641",
            "big": str(2**60),
            "n": 3,
            "at": "2025-12-17T00:30:00.000Z",
            "gone": None,
            "inf": "inf",
            "list": "[1]",
            "span": 60.0,
        }
    ]


def test_in_a_report_the_figure_of_each_module_comes_along(records, monkeypatch):
    outside = kd.report.by_module(kd.charts.status_breakdown, records)._repr_mimebundle_()
    assert set(outside) == {switch.PLOTLY, "text/plain"}
    monkeypatch.setenv(switch.VARIABLE, "1")
    inside = kd.report.by_module(kd.charts.status_breakdown, records)._repr_mimebundle_()
    assert inside[switch.PLOTLY] == outside[switch.PLOTLY]
    album = inside[switch.MIME]["album"]
    assert sum(sum(trace["x"]) for trace in album["data"]) == (records["module"] == "album").sum()


@pytest.mark.parametrize(
    "call",
    [
        lambda: kd.report.tiles(pd.DataFrame({"kpi": ["stuck"]})),
        lambda: kd.report.tiles("stuck"),
        lambda: kd.report.numbers(headline=3),
        lambda: kd.report.by_module("timeline", None),
    ],
    ids=["columns", "no frame", "number", "no chart"],
)
def test_unfit_arguments_are_refused(call):
    with pytest.raises(kd.InvalidParameterError):
        call()
