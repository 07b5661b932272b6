"""What was planted into fleets of ten thousand users is found, and nothing where nothing was."""

import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb.sandbox import habits

TZ = "Asia/Shanghai"
NOW = pd.Timestamp(kd.sandbox.as_of())
SEEDS = [pytest.param(seed, marks=[] if seed < 3 else pytest.mark.slow) for seed in range(20)]
RELEASE = {"window": ("2025-12-06", "2025-12-14"), "previous": ("2025-11-29", "2025-12-05")}
TABLES = (
    ("created", None),
    ("created", "module"),
    ("stuck_share", None),
    ("stuck_share", "module"),
    ("stuck_share", "os_family"),
    ("duration_p50_s", None),
)

each_seed = pytest.mark.parametrize("seed", SEEDS)


def unusual(records, metric="created", **options):
    table = kd.analysis.anomalies(records, metric, tz=TZ, **options)
    return table[table["verdict"].isin(["unusually_high", "unusually_low"])]


def touching(table, days_ago):
    """Keep the days that reach into an incident."""
    begin, end = (NOW - pd.Timedelta(days=days) for days in days_ago)
    return table[(table["day_end"] > begin) & (table["day_start"] < end)]


@each_seed
def test_each_planted_incident_is_found(seed):
    records = kd.analysis.classify(kd.sandbox.frames("medium", seed).records)
    outage = habits.A_DAYS_AGO + 1, habits.A_DAYS_AGO - 1
    assert len(touching(unusual(records, "stuck_share"), outage)) >= 1
    found = unusual(records, "stuck_share", by="os_family")
    is_system = found["os_family"] == habits.B_SYSTEM
    assert len(touching(found[is_system], habits.B_DAYS_AGO)) >= 3
    # Nothing but the outage befell the others.
    assert len(touching(found[~is_system], outage)) == len(found[~is_system])
    slow = unusual(records, "duration_p50_s")
    assert set(slow["module"]) == {"album"}
    assert len(touching(slow, habits.D_DAYS_AGO)) == len(slow) >= 3
    table = kd.analysis.explain_change(records, tz=TZ, **RELEASE)
    drivers = table[table["is_driver"]]
    assert drivers.loc[drivers["total_pp"].idxmin(), "segment"] == habits.B_SYSTEM
    spread = kd.analysis.explain_change(records, window="2025-W50", by="user_id", tz=TZ)
    assert not spread["is_driver"].any()


@each_seed
def test_a_day_on_which_nothing_arrived_is_found(seed):
    records = kd.analysis.classify(kd.sandbox.frames("medium", seed).records)
    edges = [pd.Timestamp(day, tz=TZ) for day in ("2025-12-09", "2025-12-10")]
    created = records["create_time"]
    records = records[(created < edges[0]) | (created >= edges[1])]
    for by in (None, "module"):
        found = unusual(records, by=by)
        assert len(found) == (3 if by else 1)
        assert set(found["verdict"]) == {"unusually_low"}
        assert set(found["day_start"]) == {edges[0]}


@each_seed
def test_where_nothing_happened_there_is_no_alarm_and_no_driver(seed, monkeypatch):
    monkeypatch.setattr(habits, "A_HOURS", 0.0)
    for name in ("B_STUCK_X", "C_SLOWER_X", "D_SLOWER_X"):
        monkeypatch.setattr(habits, name, 1.0)
    records = kd.analysis.classify(kd.sandbox.frames("medium", seed).records)
    for metric, by in TABLES:
        assert unusual(records, metric, by=by)["message"].tolist() == []
    for window in (RELEASE, {"window": "2025-W50"}):
        table = kd.analysis.explain_change(records, tz=TZ, **window)
        assert table.loc[table["is_driver"], "segment"].tolist() == []
