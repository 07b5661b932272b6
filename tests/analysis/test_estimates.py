"""What a sample of users says about all: true as often as it claims, and never more."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

import koodrive_nb as kd
from koodrive_nb.analysis import estimates

N_USERS = 1_000


@pytest.fixture(scope="module")
def everybody():
    """Give users with none to many devices each, of which some users have nearly all that hit."""
    draw = np.random.default_rng(1)
    sizes = draw.poisson(draw.gamma(2, 1, N_USERS))
    prone = draw.beta(0.4, 1.6, N_USERS)
    users = pd.DataFrame(
        {
            "user_id": [f"u{number:05}" for number in range(N_USERS)],
            "outcome": "complete",
            "region": draw.choice(["north", "south"], N_USERS, p=[0.8, 0.2]),
        }
    )
    owner = np.repeat(np.arange(N_USERS), sizes)
    rows = pd.DataFrame(
        {
            "user_id": users["user_id"].to_numpy()[owner],
            "exposed": draw.random(len(owner)) < prone[owner],
            "os_family": draw.choice(["android", "ios"], len(owner)),
        }
    )
    return rows, users


def sampled(everybody, n, seed):
    rows, users = everybody
    chosen = users.sample(n, random_state=seed).reset_index(drop=True)
    chosen.attrs["koodrive"] = {"source": "sandbox", "complete": True, "sampled_of": len(users)}
    return rows[rows["user_id"].isin(chosen["user_id"])].reset_index(drop=True), chosen


def covered(table, name, truth):
    return table[f"{name}_lo"].iloc[0] <= truth <= table[f"{name}_hi"].iloc[0]


@pytest.mark.parametrize("n", [60, 500])
def test_about_95_of_100_intervals_hold_what_all_users_have(everybody, n):
    rows, _ = everybody
    truths = {
        "share": rows["exposed"].mean(),
        "total": len(rows),
        "per_user": len(rows) / N_USERS,
    }
    runs = 120
    hits = dict.fromkeys(truths, 0)
    for seed in range(runs):
        table = kd.analysis.estimate(*sampled(everybody, n, seed), share="exposed")
        for name, truth in truths.items():
            hits[name] += covered(table, name, truth)
    # So many are, with a chance of 99 in 100, if each is right in 95 of 100.
    lowest, highest = scipy.stats.binom.ppf([0.002, 0.9995], runs, 0.95)
    assert all(lowest <= count <= highest for count in hits.values()), hits


def test_an_interval_over_rows_would_hold_it_far_less_often(everybody):
    rows, _ = everybody
    hits = 0
    for seed in range(200):
        mine, _ = sampled(everybody, 200, seed)
        interval = scipy.stats.binomtest(int(mine["exposed"].sum()), len(mine)).proportion_ci(
            method="wilson"
        )
        hits += interval.low <= rows["exposed"].mean() <= interval.high
    assert hits < 180


def test_of_all_users_nothing_is_left_to_estimate(everybody):
    rows, users = everybody
    table = kd.analysis.estimate(rows, users, share="exposed", population=N_USERS)
    row = table.iloc[0]
    assert row["share_lo"] == row["share"] == row["share_hi"] == rows["exposed"].mean()
    assert row["total_lo"] == row["total"] == row["total_hi"] == len(rows)


def test_numbers_are_those_of_the_sample_by_columns_of_rows_and_of_users(everybody):
    rows, users = sampled(everybody, 500, 3)
    table = kd.analysis.estimate(rows, users, share="exposed", by=["region", "os_family"])
    assert len(table) == 4
    joined = rows.merge(users)
    for row in table.to_dict("records"):
        is_mine = (joined["region"] == row["region"]) & (joined["os_family"] == row["os_family"])
        mine = joined[is_mine]
        assert (row["rows"], row["numerator"]) == (len(mine), mine["exposed"].sum())
        assert row["users"] == (users["region"] == row["region"]).sum()
        assert row["share"] == pytest.approx(mine["exposed"].mean())
        assert row["share_lo"] < row["share"] < row["share_hi"]
        assert row["total"] == pytest.approx(len(mine) * N_USERS / 500)
    assert table["total"].sum() == pytest.approx(kd.analysis.estimate(rows, users)["total"].iloc[0])


def test_failed_users_and_their_rows_are_as_if_they_had_not_been_drawn(everybody):
    rows, users = sampled(everybody, 300, 4)
    failed = users["user_id"].head(20)
    marked = users.assign(outcome=users["outcome"].where(~users["user_id"].isin(failed), "failed"))
    table = kd.analysis.estimate(rows, marked)
    without = users[~users["user_id"].isin(failed)]
    left = rows[rows["user_id"].isin(without["user_id"])]
    pd.testing.assert_frame_equal(table, kd.analysis.estimate(left, without))
    assert table.attrs["koodrive"]["n_users_left_out"] == 20
    assert table.attrs["koodrive"]["n_rows_left_out"] == len(rows) - len(left)


def test_what_is_missing_is_in_neither_part(everybody):
    rows, users = sampled(everybody, 300, 5)
    share = rows["exposed"].astype("boolean").mask(pd.Series(range(len(rows))) < 30)
    row = kd.analysis.estimate(rows, users, share=share).iloc[0]
    assert (row["excluded"], row["denominator"]) == (30, len(rows) - 30)
    assert row["share"] == share.mean()


def test_without_the_number_of_all_users_their_total_is_missing(everybody):
    rows, users = sampled(everybody, 300, 6)
    known = kd.analysis.estimate(rows, users).iloc[0]
    users.attrs = {}
    table = kd.analysis.estimate(rows, users)
    assert table[["total", "total_lo", "total_hi"]].isna().all(axis=None)
    assert table["per_user_lo"].iloc[0] < known["per_user_lo"]
    assert kd.analysis.estimate(rows, users, population=N_USERS).iloc[0].equals(known)


@pytest.mark.parametrize("value", [False, True])
def test_where_none_hit_or_all_did_the_interval_is_still_one(everybody, value):
    rows, users = sampled(everybody, 100, 7)
    row = kd.analysis.estimate(rows.assign(exposed=value), users, share="exposed").iloc[0]
    assert row["share"] == value
    assert 0.01 < row["share_hi"] - row["share_lo"] < 0.1


def test_no_rows_and_few_users_tell_nothing(everybody):
    rows, users = sampled(everybody, 2, 8)
    few = kd.analysis.estimate(rows, users, share="exposed").iloc[0]
    assert few[["per_user_lo", "total_hi", "share_lo"]].isna().all()
    none = kd.analysis.estimate(rows.head(0), users, share="exposed").iloc[0]
    assert (none["rows"], none["total"]) == (0, 0)
    assert none[["share", "total_hi"]].isna().all()


@pytest.mark.parametrize("freedom", [2, 3, 5, 10, 30, 1_000])
def test_the_quantile_of_students_t_is_right(freedom):
    assert estimates._t(freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), rel=0.01)
    assert math.isfinite(estimates._t(freedom))


def test_a_sample_of_a_sweep_says_of_what_it_is_one(tmp_path):
    snapshots = kd.snapshots.Snapshots(tmp_path)
    with kd.connect("sandbox") as client:
        kd.fleet.sweep(client, kd.sandbox.users(), snapshots, sample=40)
    users = snapshots.read("users")
    table = kd.analysis.estimate(snapshots.read("devices"), users)
    truth = len(kd.sandbox.frames().devices)
    assert table.attrs["koodrive"]["population"] == 200
    assert covered(table, "total", truth)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": None}, "takes pandas frames"),
        ({"users": pd.DataFrame({"user_id": ["u00001"]})}, "no column outcome"),
        ({"share": "nonsense"}, "a column of true and false"),
        ({"share": "os_family"}, "a column of true and false"),
        ({"by": "nonsense"}, "neither the rows nor users have"),
        ({"by": "share"}, "by= takes"),
        ({"population": 10}, "were drawn from"),
        ({"population": 1.5}, "whole number"),
    ],
)
def test_what_does_not_fit_is_refused(everybody, change, message):
    rows, users = sampled(everybody, 100, 9)
    given = {"rows": rows, "users": users} | change
    with pytest.raises(kd.InvalidParameterError, match=message):
        kd.analysis.estimate(given.pop("rows"), given.pop("users"), **given)


def test_rows_of_a_user_who_is_not_listed_are_refused(everybody):
    rows, users = sampled(everybody, 100, 10)
    with pytest.raises(kd.InvalidParameterError, match="not in users"):
        kd.analysis.estimate(rows, users.head(50))
