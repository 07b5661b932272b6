"""What the fleet of ten thousand users looks like, by plain sums over its records and its truth."""

import numpy as np
import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb.sandbox import habits, owners, runs

AS_OF = pd.Timestamp(kd.sandbox.as_of())
DAY = pd.Timedelta("1D")


@pytest.fixture(scope="module", params=[0, 1], ids="seed {}".format)
def seed(request):
    return request.param


@pytest.fixture(scope="module")
def made(seed):
    return kd.sandbox.frames("medium", seed)


@pytest.fixture(scope="module")
def records(made):
    joined = made.records.join(made.truth.drop(columns="record_id"))
    truth = made.device_truth[["device_id", "system", "rhythm", "unbound"]]
    joined = joined.merge(truth, on="device_id", how="left")
    return joined[joined["create_time"] <= AS_OF]


@pytest.fixture(scope="module")
def attempts(seed):
    """Give all attempts that completed, what is purged by now included."""
    preset = habits.preset_of("medium")
    devices = owners.draw_devices(preset, seed, owners.draw_users(preset, seed))
    drawn = runs.draw_runs(preset, seed, devices)
    done = ~drawn.stuck & (drawn.end <= owners.NOW)
    start, bound_at = (
        pd.Series(pd.to_datetime(times, unit="ms", utc=True))
        for times in (drawn.start[done], devices.bound_at)
    )
    completed = pd.DataFrame({"device": drawn.device[done], "create_time": start})
    return completed, bound_at[~devices.unbound]


def about(value, rel=0.1):
    return pytest.approx(value, rel=rel)


def test_a_device_has_27_records(made):
    assert len(made.records) / len(made.device_truth) == about(27)


def test_the_states_are_90_8_and_2_percent(records):
    share = records["status"].value_counts(normalize=True)
    assert share["completed"] == about(0.90)
    assert share["to_be_deleted"] == about(0.08)
    # 8 073 of 420 000 in the figures that these come from.
    assert share["new"] == about(0.0192)


def test_98_percent_of_what_settled_completed(records):
    recent = records[records["create_time"] >= AS_OF - 28 * DAY]
    completed = (recent["status"] == "completed") | (
        (recent["status"] == "to_be_deleted") & recent["end_time"].notna()
    )
    settled = completed | recent["really_stuck"]
    assert completed.sum() / settled.sum() == pytest.approx(0.981, abs=0.005)
    # The naive rate takes deletions for failures.
    assert (records["status"] == "completed").mean() == pytest.approx(0.90, abs=0.015)


def test_a_third_of_the_devices_has_no_backup_of_the_last_two_weeks(made, records):
    copies = records[records["status"] == "completed"]
    last = copies.groupby("device_id")["create_time"].max()
    age = (AS_OF - made.devices["device_id"].map(last)) / DAY
    expected = {1: 0.38, 3: 0.48, 7: 0.61, 14: 0.66, 30: 0.70}
    assert {days: (age <= days).mean() for days in expected} == about(expected)
    assert age.isna().mean() == about(0.11)
    # Both of the oldest buckets of exposure have devices in them.
    assert ((age > 30) & (age <= 90)).sum() > 500
    assert (age > 90).sum() > 500


def test_most_new_devices_back_up_within_a_day(attempts):
    completed, bound_at = attempts
    new = bound_at[(bound_at >= AS_OF - 30 * DAY) & (bound_at < AS_OF - 8 * DAY)]
    wait = (completed.groupby("device")["create_time"].min().reindex(new.index) - new) / DAY
    assert (wait <= 1).mean() == about(0.80)
    assert (wait <= 7).mean() == about(0.83)


def test_at_most_some_65_backups_run_at_once(records):
    valid = records[(records["duration_s"] > 0)]
    at = pd.concat(
        [pd.Series(1, index=valid["create_time"]), pd.Series(-1, index=valid["end_time"])]
    ).sort_index(kind="stable")
    assert at.groupby(level=0).sum().cumsum().max() == about(65)


def test_five_percent_of_the_devices_have_65_percent_of_what_is_stuck(made, records):
    stuck = records[(records["status"] == "new") & records["really_stuck"]]
    counts = stuck.groupby("device_id").size().sort_values(ascending=False)
    worst = counts.iloc[: round(0.05 * len(made.devices))]
    assert worst.sum() / counts.sum() == about(0.65)


def test_the_release_of_ios_made_backups_of_ios_get_stuck(records):
    ago = (AS_OF - records["create_time"]) / DAY
    inside = records[(ago > 3) & (ago <= 12)].dropna(subset="system")
    stuck = inside.groupby("system")["really_stuck"].agg(["mean", "size"])
    assert stuck["mean"]["ios"] == about(0.079)
    # There are too few of macOS for a rate.
    others = stuck["mean"].drop("ios")[stuck["size"].drop("ios") > 2000]
    assert others.between(0.008, 0.02).all()
    assert set(inside.loc[inside["incident"] == "B", "system"]) == {"ios"}
    before = records[(ago > 21) & (ago <= 28) & (records["system"] == "ios")]
    assert before["really_stuck"].mean() < 0.025


def test_the_outage_made_a_fifth_of_its_backups_get_stuck(records):
    inside = records[records["incident"] == "A"]
    assert inside["really_stuck"].mean() == about(0.21)
    assert inside["create_time"].max() - inside["create_time"].min() <= pd.Timedelta("5h")
    assert (AS_OF - inside["create_time"]).median() / DAY == pytest.approx(20, abs=1)


def test_the_shares_of_the_systems_are_those_of_the_market(made):
    share = made.device_truth["system"].value_counts(normalize=True)
    expected = {"android": 0.54, "harmonyos": 0.20, "ios": 0.16, "windows": 0.085, "macos": 0.015}
    for system, value in expected.items():
        assert share[system] == pytest.approx(value, abs=0.01)


def test_gaps_are_a_day_and_at_the_end_a_week(records):
    clean = records[records["dirt"] == ""].dropna(subset="device_id")
    gap = clean.groupby(["device_id", "module"], observed=True)["create_time"].diff()
    assert gap.median() / pd.Timedelta("1h") == about(27)
    assert gap.quantile(0.9) / DAY == about(7.5)


def test_retention_makes_history_look_as_if_it_grew(records, attempts):
    copies = records.loc[records["status"] == "completed", "create_time"]
    visible, true = (
        ((AS_OF - times) // (7 * DAY)).value_counts().sort_index().loc[:12].to_numpy()
        for times in (copies, attempts[0]["create_time"])
    )
    expected = np.array([63, 58, 50, 37, 26, 10, 7])
    assert visible[:7] / 1000 == pytest.approx(expected, rel=0.12)
    assert 3_500 < visible[12] < 5_000
    assert true[:4] / 1000 == about(np.array([66, 64, 63, 62]))
    assert true[12] / 1000 == pytest.approx(37, rel=0.15)
    assert visible[6] / visible[0] < 0.15
    assert true[6] / true[0] > 0.7
