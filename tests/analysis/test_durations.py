import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import CensoredData, ecdf

import koodrive_nb as kd
from koodrive_nb.analysis.duration_tables import records_behind
from koodrive_nb.analysis.rules import lazy

START = pd.Timestamp("2025-12-10T00:00Z")
NO_FIXTURE_CHECK = [HealthCheck.function_scoped_fixture]


def ended(after_s, **more):
    end = START + pd.Timedelta(milliseconds=round(1000 * after_s))
    return {"create_time": START, "end_time": end} | more


def lost(age_s, **more):
    """Give a record that is stuck, and was created so long before its "now"."""
    now = START + pd.Timedelta(milliseconds=round(1000 * age_s))
    return {"create_time": START, "fetched_at": now, "status_code": 0} | more


def test_percentiles_are_linear_between_the_durations(make):
    table = kd.analysis.durations(make(*(ended(second) for second in range(1, 102))))
    (row,) = table.to_dict("records")
    assert (row["module"], row["attempt"], row["n"]) == ("album", "later", 101)
    assert [row[f"p{place}_s"] for place in (50, 90, 95, 99)] == [51, 91, 96, 100]
    assert (row["min_s"], row["max_s"], row["excluded"]) == (1, 101, 0)


@pytest.mark.parametrize(
    ("n", "missing"),
    [(19, ["p95_s", "p99_s"]), (20, ["p99_s"]), (99, ["p99_s"]), (100, [])],
    ids=str,
)
def test_what_few_backups_cannot_tell_is_missing(make, n, missing):
    row = kd.analysis.durations(make(*(ended(second) for second in range(1, n + 1)))).iloc[0]
    assert [name for name in row.index if pd.isna(row[name])] == missing


def test_what_waits_for_deletion_counts_and_what_has_no_duration_is_told(make):
    rows = [
        ended(10),
        ended(30, status_code=2),
        ended(-5),
        ended(0),
        {"create_time": START, "end_time": None},
        ended(3600 * 24 * 30),
        {"create_time": START, "status_code": 0},
        {"create_time": START, "status_code": 2},
    ]
    row = kd.analysis.durations(make(*rows)).iloc[0]
    assert (row["n"], row["excluded"], row["min_s"], row["max_s"]) == (3, 3, 0, 30)


OLDER = START - pd.Timedelta("1D")
BOUND = {"device_create_time": START - pd.Timedelta("10D")}


@pytest.mark.parametrize(
    ("rows", "attempts"),
    [
        ([ended(9, **BOUND)], {"first": 1}),
        ([ended(9)], {"later": 1}),
        ([ended(9, device_create_time=START - pd.Timedelta("14D"))], {"first": 1}),
        ([ended(9, device_create_time=START - pd.Timedelta("14D1min"))], {"later": 1}),
        ([ended(9, device_create_time=START + pd.Timedelta("1min"))], {"later": 1}),
        ([ended(9, device_id=None, **BOUND)], {"later": 1}),
        # A first attempt that was lost makes the next one a later one.
        (
            [ended(9, **BOUND), BOUND | {"create_time": "2025-12-09", "status_code": 0}],
            {"later": 1},
        ),
        # Older ones than what waits for deletion may be gone.
        (
            [
                ended(9, **BOUND),
                BOUND | {"create_time": "2025-12-11", "end_time": "2025-12-12", "status_code": 2},
            ],
            {"later": 2},
        ),
        # Each module of a device begins anew.
        ([ended(9, **BOUND), ended(8, module="folder", **BOUND)], {"first": 2}),
        (
            [ended(9, **BOUND), BOUND | {"create_time": "2025-12-11", "end_time": "2025-12-12"}],
            {"first": 1, "later": 1},
        ),
    ],
)
def test_first_is_the_oldest_record_soon_after_the_binding(make, rows, attempts):
    table = kd.analysis.durations(make(*rows), by=None)
    assert dict(zip(table["attempt"], table["n"], strict=True)) == attempts


def test_a_window_hides_no_first_attempt(make):
    later = BOUND | {"create_time": "2025-12-12", "end_time": "2025-12-13"}
    table = kd.analysis.durations(make(ended(9, **BOUND), later), since="2025-12-11")
    assert list(table["attempt"]) == ["later"]
    assert list(table["n"]) == [1]


def test_a_past_now_knows_no_later_end(make):
    frame = make(ended(10), ended(7200))
    as_of = START + pd.Timedelta("1h")
    assert list(kd.analysis.durations(frame, as_of=as_of)["n"]) == [1]
    curve = kd.analysis.durations(frame, as_of=as_of, kind="curve")
    assert list(curve["completed_share"]) == [0, 0.5]
    assert list(curve["n"]) == [2, 2]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, 0.1),
        (0.001, 0.1),
        (0.1, 0.1),
        (0.101, 0.11),
        (0.995, 1),
        (1.01, 1.1),
        (9.9, 9.9),
        (9.901, 10),
        (101, 110),
        (86400, 87_000),
        (1_234_567, 1_300_000),
    ],
)
def test_times_are_rounded_up_to_two_digits(make, seconds, shown):
    frame = make(ended(seconds), now=pd.Timestamp("2026-12-31T00:00Z"))
    curve = kd.analysis.durations(frame, kind="curve")
    assert list(curve["t_s"]) == [0, shown]


def test_a_curve_begins_at_nothing_and_names_where_it_ends(make):
    rows = [ended(10), ended(20), lost(15), lost(3600)]
    curve = kd.analysis.durations(make(*rows), kind="curve")
    assert list(curve["t_s"]) == [0, 10, 20]
    # Of four, one completes; of the two who are left after the one who was lost, one more.
    assert list(curve["completed_share"]) == [0, 0.25, 0.625]
    assert list(curve["at_risk"]) == [4, 4, 2]
    facts = curve.attrs["koodrive"]["curves"]
    assert facts == [{"module": "album", "n": 4, "plateau": 0.625, "median_s": 20.0}]


def test_a_group_of_which_none_completes_has_its_curve_too(make):
    curve = kd.analysis.durations(make(lost(3600, module="folder"), ended(5)), kind="curve")
    folder = curve[curve["module"] == "folder"]
    assert folder[["t_s", "completed_share", "at_risk", "n"]].to_numpy().tolist() == [[0, 0, 1, 1]]
    assert curve.attrs["koodrive"]["curves"][0] == {
        "module": "folder",
        "n": 1,
        "plateau": 0.0,
        "median_s": None,
    }


def test_what_is_in_no_known_state_is_excluded_and_told(make):
    curve = kd.analysis.durations(make(ended(5), ended(-5), ended(9, status_code=7)), kind="curve")
    assert list(curve["n"].unique()) == [1]
    assert list(curve["excluded"].unique()) == [2]


durations_s = st.lists(st.integers(0, 10**8).map(lambda ms: ms / 1000), min_size=1, max_size=12)


@given(completed=durations_s)
@settings(max_examples=30, deadline=None, suppress_health_check=NO_FIXTURE_CHECK)
def test_where_nothing_is_lost_the_curve_is_the_plain_share(make, completed):
    curve = kd.analysis.durations(make(*map(ended, completed)), kind="curve")
    for t_s, share in zip(curve["t_s"].iloc[1:], curve["completed_share"].iloc[1:], strict=True):
        within = sum(seconds <= t_s for seconds in completed)
        assert math.isclose(share, within / len(completed), abs_tol=1e-12)


def rounded(seconds, direction):
    """Round to two digits, in another way than the package does."""
    if seconds < 0.1:
        return 0.1 if direction is math.ceil else 0.0
    unit = 10 ** (math.floor(math.log10(seconds) + 1e-12) - 1)
    # Floating point sees 0.29 / 0.01 as a little below 29.
    places = seconds / unit
    near = round(places)
    return unit * (near if math.isclose(places, near, rel_tol=1e-9) else direction(places))


@given(completed=durations_s, lost_after=durations_s)
@settings(max_examples=40, deadline=None, suppress_health_check=NO_FIXTURE_CHECK)
def test_the_curve_is_that_of_scipy(make, completed, lost_after):
    rows = [*map(ended, completed), *map(lost, lost_after)]
    # Each on a device of its own: none supersedes another.
    rows = [row | {"device_id": str(number)} for number, row in enumerate(rows)]
    curve = kd.analysis.durations(make(*rows), kind="curve").iloc[1:]
    theirs = ecdf(
        CensoredData(
            uncensored=[round(rounded(seconds, math.ceil), 6) for seconds in completed],
            right=[round(rounded(seconds, math.floor), 6) for seconds in lost_after],
        )
    ).cdf
    at = curve["t_s"].to_numpy()
    np.testing.assert_allclose(curve["completed_share"], theirs.evaluate(at), atol=1e-9)
    with warnings.catch_warnings():
        # It warns of what is missing here: an interval around a share of 1.
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = theirs.confidence_interval(method="log-log")
    known = curve["lo"].notna().to_numpy()
    for found, expected in ((curve["lo"], interval.low), (curve["hi"], interval.high)):
        np.testing.assert_allclose(found[known], expected.evaluate(at)[known], atol=1e-9)


def test_a_curve_rises_and_lies_in_its_interval(records):
    curve = kd.analysis.durations(records, kind="curve", by=None)
    assert curve["completed_share"].is_monotonic_increasing
    inside = curve.dropna()
    assert (inside["lo"] <= inside["completed_share"]).all()
    assert (inside["completed_share"] <= inside["hi"]).all()


def test_a_curve_has_at_most_512_steps_and_keeps_its_ends(make):
    times = [place * 10**power / 1000 for power in range(1, 8) for place in range(10, 100)]
    frame = make(*map(ended, times), now=START + pd.Timedelta("2000D"))
    curve = kd.analysis.durations(frame, kind="curve")
    assert len(curve) == 512
    assert curve["t_s"].iloc[[0, -1]].to_list() == [0, times[-1]]
    assert curve["completed_share"].iloc[-1] == pytest.approx(1)
    assert curve["t_s"].is_unique


OPTIONS = [
    {},
    {"by": ["module", "device_os"], "since": "30D"},
    {"by": None, "as_of": "2025-12-05", "stuck_after": "6h"},
    {"kind": "curve"},
    {"kind": "curve", "by": ["device_os", "module"], "until": "2025-12-05"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_engine_gives_the_same_durations(records, engine, options):
    expected = kd.analysis.durations(records, **options)
    pd.testing.assert_frame_equal(kd.analysis.durations(engine(records), **options), expected)
    assert len(expected)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_records_behind_a_row_are_as_many_as_it_counts(records, options):
    table = kd.analysis.durations(records, **options)
    decided = {name: options[name] for name in ("as_of", "stuck_after") if name in options}
    classified = lazy(kd.analysis.classify(records, **decided), ())
    made = table.attrs["koodrive"]["made"]
    keys = [*made["by"], *(["attempt"] if "attempt" in table else [])]
    rows = table.drop_duplicates(keys) if keys else table.head(1)
    for row in rows.to_dict("records"):
        behind = records_behind(classified, row, made).collect().to_native()
        assert len(behind) == row["n"]
        assert list(behind.columns) == classified.collect_schema().names()


def test_groups_of_modules_come_in_the_order_of_the_api(records):
    for kind in ("percentiles", "curve"):
        table = kd.analysis.durations(records, kind=kind)
        assert list(table["module"].unique()) == ["folder", "album", "address_book"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"kind": "mean"}, "percentiles or curve"),
        ({"by": "attempt"}, "by= takes"),
        ({"by": "record_id", "kind": "curve"}, "505 groups, and at most 100 curves"),
        ({"by": "colour"}, "lacks the column"),
        ({"since": "2025-12-10", "until": "2025-12-01"}, "since= must lie before until="),
    ],
    ids=str,
)
def test_what_it_does_not_take_is_refused_with_what_it_does(records, options, told):
    with pytest.raises(kd.InvalidParameterError, match=told):
        kd.analysis.durations(records, **options)


@pytest.mark.parametrize("kind", ["percentiles", "curve"])
def test_no_records_give_an_empty_table_of_the_same_types(records, kind):
    expected = kd.analysis.durations(records, kind=kind)
    empty = kd.analysis.durations(records.head(0), kind=kind)
    assert len(empty) == 0
    assert empty.dtypes.to_dict() == expected.dtypes.to_dict()
