import numpy as np
import pandas as pd
import pytest
from scipy import stats

import koodrive_nb as kd
from koodrive_nb.analysis import concentrations


def fleet(make, stuck, n_each=4):
    """Make devices with as many backups each, and so many of them stuck."""
    rows = [
        {
            "device_id": f"{device:019}",
            "create_time": pd.Timestamp("2025-12-01T00:00Z") + pd.Timedelta(hours=number),
            "end_time": None if number < count else "2025-12-02T00:00Z",
            "status_code": 0 if number < count else 1,
        }
        for device, count in enumerate(stuck)
        for number in range(n_each)
    ]
    return make(*rows)


def test_the_worst_devices_hold_what_they_hold(make):
    table = kd.analysis.concentration(fleet(make, [4, 2, 1, 1, *[0] * 36]))
    row = table.iloc[0]
    assert (row["n"], row["n_stuck"], row["n_devices"], row["n_devices_stuck"]) == (160, 8, 40, 4)
    assert row["top_5_share"] == 6 / 8
    assert row["top_10_share"] == 1
    # One percent of 40 is no device.
    assert np.isnan(row["top_1_share"])
    assert row["message"].startswith(
        "the worst 5 % of 40 devices hold 75 % of 8 backups that did not complete ("
    )


def test_a_part_of_a_device_counts_by_part(make):
    table = kd.analysis.concentration(fleet(make, [4, 2, 1, 1, *[0] * 26]))
    assert table["top_5_share"].iloc[0] == (4 + 0.5 * 2) / 8


def test_what_even_chances_would_give_is_what_scipy_draws():
    sizes = np.repeat([3.0, 10.0, 40.0], [500, 300, 200])
    values, devices = concentrations._even(sizes, 0.05)
    found = concentrations._top(values, devices, 5)
    drawn = []
    for seed in range(40):
        hits = stats.binom(sizes.astype(int), 0.05).rvs(random_state=seed)
        drawn.append(np.sort(hits)[::-1][:50].sum() / hits.sum())
    assert devices.sum() == pytest.approx(1000)
    assert (values * devices).sum() == pytest.approx(0.05 * sizes.sum())
    assert found == pytest.approx(np.mean(drawn), rel=0.03)


@pytest.mark.parametrize("stuck", [[0] * 30, [4] * 30], ids=["none", "all"])
def test_none_and_all_have_a_line_too(make, stuck):
    row = kd.analysis.concentration(fleet(make, stuck)).iloc[0]
    if sum(stuck):
        assert row["top_10_share"] == pytest.approx(0.1)
        assert row["top_5_share_if_even"] == pytest.approx(0.05)
        assert row["message"].startswith("none of 120 backups on 30 devices completed, as if")
    else:
        assert np.isnan(row["top_10_share"])
        assert row["message"] == "none of 120 backups on 30 devices got stuck"


def test_few_devices_are_counted_and_not_shared_out(make):
    row = kd.analysis.concentration(fleet(make, [3, 0, 0])).iloc[0]
    assert row["message"] == "1 of 3 devices hold all 3 backups that did not complete"


@pytest.mark.parametrize("by", [None, ["module", "os_family"]], ids=str)
def test_as_many_records_are_behind_a_group_as_it_counts(dirty, by):
    records, _ = dirty(3)
    table = kd.analysis.concentration(records, by=by, tz="Europe/Berlin", until="2025-12-10")
    assert table["n"].sum() > 0
    for position in range(min(3, len(table))):
        behind = kd.analysis.rows(records, table, position)
        assert len(behind) == table["n"].iloc[position]
        assert behind["device_id"].nunique() == table["n_devices"].iloc[position]


def test_no_records_make_no_share(make):
    table = kd.analysis.concentration(make().head(0))
    assert table["n"].tolist() == [0]
    assert table["top_5_share"].isna().all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"by": "n"}, "by= takes"),
        ({"by": "colour"}, "no column of the records"),
        ({"since": 7}, "since="),
    ],
    ids=str,
)
def test_what_it_does_not_take_is_refused_with_what_it_does(records, options, says):
    with pytest.raises(kd.InvalidParameterError, match=says):
        kd.analysis.concentration(records, **options)


@pytest.mark.parametrize("by", [None, "module", ["module", "os_family"]])
def test_no_records_hold_nothing_and_keep_their_columns(make, by):
    records = make({})
    whole = kd.analysis.concentration(records, by=by)
    table = kd.analysis.concentration(records.head(0), by=by)
    assert list(table.columns) == list(whole.columns)
    assert table["n"].sum() == 0


@pytest.mark.parametrize(
    ("n", "share"), [([1200] * 40, 0.5), ([30] * 38 + [1200] * 2, 0.3), ([20_000], 0.05)]
)
def test_by_chance_there_are_as_many_devices_and_as_many_stuck_ones_as_there_are(n, share):
    values, devices = concentrations._even(np.array(n, dtype="float64"), share)
    assert devices.sum() == pytest.approx(len(n))
    assert (values * devices).sum() == pytest.approx(share * sum(n))
    assert (np.diff(values) < 0).all()


def test_only_what_came_to_an_end_by_now_is_counted(make):
    records = fleet(make, [4, 2, *[0] * 38])
    kinds = [
        {"status_code": 0, "create_time": "2025-12-17T08:20Z"},  # in progress
        {"status_code": 7},  # unknown
        {"status_code": 1, "create_time": "2025-12-18T00:00Z"},  # by a wrong clock
    ]
    others = make(*({"device_id": f"{0:019}", "module": "folder"} | kind for kind in kinds * 5))
    whole = kd.analysis.concentration(records, stuck_after="1h")
    more = kd.analysis.concentration(
        pd.concat([records, others], ignore_index=True), stuck_after="1h"
    )
    pd.testing.assert_frame_equal(more, whole)
