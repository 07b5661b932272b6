"""Every table is the same on every engine, on a fleet with every kind of dirt."""

import pandas as pd
import pytest

import koodrive_nb as kd

TABLES = {
    "status_breakdown": [{}, {"by": ["os_family", "state"]}],
    "timeline": [{"max_lanes": 20}, {"form": "flow", "tz": "Asia/Shanghai"}],
    "activity": [{"by": "module", "tz": "Europe/Berlin"}],
    "durations": [{}, {"kind": "curve", "by": "os_family"}],
    "protection_status": [{}, {"per": "module", "as_of": "2025-12-10T00:00Z"}],
    "exposure": [{"by": "os_family"}, {"kind": "curve"}],
    "exposure_history": [{"tz": "Asia/Shanghai"}],
    "adherence": [{"tz": "Asia/Shanghai"}, {"per": "device"}],
    "data_quality": [{}],
    "headline": [{"window": "2025-W50", "tz": "Asia/Shanghai"}],
    "load": [{"by": "module", "tz": "Europe/Berlin"}, {"kind": "running", "tz": "Asia/Shanghai"}],
    "deletion_backlog": [{"tz": "Asia/Shanghai"}],
    "anomalies": [
        {"metric": "created", "by": "module", "tz": "Asia/Shanghai"},
        {"metric": "stuck_share"},
        {"metric": "duration_p50_s", "tz": "Europe/Berlin"},
    ],
    "explain_change": [{"window": "2025-W50", "tz": "Asia/Shanghai"}],
    "concentration": [{"by": "os_family"}],
}
OF_DEVICES = {
    *("protection_status", "exposure", "exposure_history", "adherence", "data_quality"),
    "headline",
    "deletion_backlog",
}


@pytest.fixture(scope="module")
def fleet():
    return kd.sandbox.frames("small", 3)


@pytest.fixture
def moved(fleet, any_engine):
    return any_engine(fleet.records)


def test_every_engine_gives_the_same_tables(fleet, moved):
    for name, each in TABLES.items():
        for options in each:
            ask = getattr(kd.analysis, name)
            more = {"devices": fleet.devices} if name in OF_DEVICES else {}
            expected = ask(fleet.records, **more, **options)
            assert len(expected) > 0
            found = ask(moved, **more, **options)
            if name == "data_quality":
                # Only a frame of the client has a ledger, and no rows of it are bent here.
                expected = expected[expected["rule"] != "coerced"]
                found = found[found["rule"] != "coerced"]
            pd.testing.assert_frame_equal(found, expected)


def test_every_engine_passes_and_fails_the_same_controls(fleet, moved):
    limits = {"protected": 0.7, "settled": 0.9, "outdated": 0.1, "adherence": 0.2, "stuck": 0.0}
    policy = {"controls": limits | {"data_quality": 0.0}, "scope": {"modules": ["album"]}}
    expected = kd.analysis.check_policy(fleet.records, fleet.devices, policy=policy).controls
    assert {"pass", "fail"} <= set(expected["result"])
    found = kd.analysis.check_policy(moved, fleet.devices, policy=policy).controls
    pd.testing.assert_frame_equal(found, expected)


def test_every_engine_selects_and_shows_the_same_records(fleet, moved):
    kept = {"module": "album", "state": ["stuck", "in_progress"], "since": "30D"}
    expected = kd.analysis.expand(kd.analysis.select(fleet.records, **kept))
    found = kd.analysis.expand(kd.analysis.select(moved, **kept))
    ids = expected["record_id"].sort_values()
    assert len(ids) > 3
    assert found["record_id"].sort_values().tolist() == ids.tolist()
    assert list(found.columns) == list(expected.columns)
    asked = {"protection": ["outdated", "never"], "cause": "attempts_stuck"}
    expected = kd.analysis.select(fleet.records, devices=fleet.devices, **asked)
    found = kd.analysis.select(moved, devices=fleet.devices, **asked)
    ids = expected["record_id"].sort_values().tolist()
    assert len(ids) > 3
    assert kd.analysis.expand(found)["record_id"].sort_values().tolist() == ids
    table = kd.analysis.protection_status(fleet.records, fleet.devices)
    position = table["n"].argmax()
    behind = kd.analysis.expand(kd.analysis.rows(moved, table, position))
    assert len(behind) == table["n"].iloc[position]


def test_the_tables_cover_the_whole_analysis():
    others = {"classify", "select", "expand", "rows", "check_policy", "PolicyCheck", "verdict"}
    others |= {"estimate"}  # Of pandas alone: a sample is small.
    assert set(TABLES) | others == set(kd.analysis.__all__)
