"""What the analysis says of a fleet of ten thousand users, held against what is known of it."""

import pandas as pd
import pytest

import koodrive_nb as kd

NOW = pd.Timestamp(kd.sandbox.as_of())


@pytest.fixture(scope="module", params=[0, 11], ids="seed {}".format)
def fleet(request):
    return kd.sandbox.frames("medium", request.param)


@pytest.fixture(scope="module")
def classified(fleet):
    return kd.analysis.classify(fleet.records)


def test_stuck_is_found_with_recall_and_precision_of_at_least_99_percent(fleet, classified):
    truth = fleet.truth.set_index("record_id")["really_stuck"]
    really = truth.reindex(classified["record_id"]).to_numpy(dtype=bool)
    # Abandoned ones that wait for deletion are open no longer.
    is_open = (classified["status_code"] == 0).fillna(value=False).to_numpy(dtype=bool)
    called = (classified["state"] == "stuck").to_numpy()
    hits = (called & really).sum()
    assert hits / called.sum() >= 0.99
    assert hits / (really & is_open).sum() >= 0.99


@pytest.mark.parametrize(
    "part",
    [
        {"module": "album"},
        {"state": ["stuck", "in_progress"]},
        {"since": "14D"},
        {"os_family": "ios", "text": "iPhone"},
    ],
    ids=str,
)
def test_a_filter_changes_no_state(fleet, classified, part):
    selected = kd.analysis.select(fleet.records, **part)
    assert 0 < len(selected) < len(fleet.records)
    before = classified.set_index("record_id")["state"]
    assert selected["state"].tolist() == before.reindex(selected["record_id"]).tolist()


def test_the_newest_backups_are_as_old_as_the_fleet_was_drawn_to_be(fleet, classified):
    table = kd.analysis.exposure(classified, fleet.devices).set_index("bucket")
    within = table["cumulative_share"]
    edges = {"<=1 d": 0.38, "1-3 d": 0.48, "3-7 d": 0.61, "7-14 d": 0.66, "14-30 d": 0.70}
    for bucket, share in edges.items():
        assert within[bucket] == pytest.approx(share, rel=0.1), bucket
    assert table.loc["never", "share"] == pytest.approx(0.11, rel=0.1)


def test_backups_complete_and_devices_are_exposed_all_the_same(fleet, classified):
    recent = kd.analysis.select(classified, since="28D")
    table = kd.analysis.status_breakdown(recent, by="source")
    assert table["settled_share"].iloc[0] == pytest.approx(0.981, abs=0.005)
    exposed = kd.analysis.exposure(classified, fleet.devices).set_index("bucket")
    assert 1 - exposed.loc["3-7 d", "cumulative_share"] == pytest.approx(0.39, abs=0.03)


def test_time_weighted_compliance_is_60_percent_where_history_is_complete(fleet, classified):
    whole = kd.analysis.exposure_history(classified, fleet.devices, since="56D")
    begin = whole.attrs["koodrive"]["history_complete_from"]
    table = kd.analysis.exposure_history(classified, fleet.devices, since=begin)
    about = table.attrs["koodrive"]
    assert about["compliance_time_share"] == pytest.approx(0.60, rel=0.1)
    # Before that it is far too low: what was kept by number is gone by age.
    assert about["compliance_time_share"] - whole["compliance_time_share"].iloc[0] > 0.2


def test_protection_finds_who_never_backed_up_and_who_is_unbound(fleet, classified):
    status = kd.analysis.protection_status(classified, fleet.devices)
    truth = fleet.device_truth.set_index("device_id")
    known = truth.reindex(status["device_id"])
    unbound = status["state"] == "unbound"
    assert known.loc[unbound.to_numpy(), "unbound"].all()
    never = (status["cause"] == "never_attempted").to_numpy()
    # Others are bound, and dropped out or were not switched on before they made a record.
    assert known.loc[never, "never"].mean() > 0.5
    silent = (known["never"] & ~known["unbound"]).to_numpy()
    assert status.loc[silent, "cause"].isin(["never_attempted", "new"]).all()


def swept(records, users, hours):
    """Give the records as a sweep finds them that begins with the first user, hours before."""
    late = pd.Series(pd.timedelta_range(f"-{hours}h", "0h", len(users)), index=users)
    at = (NOW + records["user_id"].map(late)).dt.as_unit("ms")
    frame = records.assign(fetched_at=at)
    frame = frame[~(frame["create_time"] > frame["fetched_at"])].copy()
    running = (frame["status_code"] == 1) & (frame["end_time"] > frame["fetched_at"])
    frame.loc[running, ["status_code", "end_time", "duration_s"]] = [0, pd.NaT, float("nan")]
    return frame, late


def test_a_fleet_fetched_over_a_day_gives_the_same_shares_within_one_point(fleet):
    at_once = kd.analysis.exposure(fleet.records, fleet.devices)["cumulative_share"]
    frame, late = swept(fleet.records, fleet.users["user_id"], 24)
    fetched = (NOW + fleet.devices["user_id"].map(late)).dt.as_unit("ms")
    devices = fleet.devices.assign(fetched_at=fetched)
    devices = devices[devices["device_create_time"] <= devices["fetched_at"]]
    over_a_day = kd.analysis.exposure(frame, devices)["cumulative_share"]
    assert (at_once - over_a_day).abs().max() <= 0.01
    settled = [
        kd.analysis.status_breakdown(one, by="source")["settled_share"].iloc[0]
        for one in (fleet.records, frame)
    ]
    assert abs(settled[0] - settled[1]) <= 0.01
    states = [
        kd.analysis.status_breakdown(one)["in_progress"].sum() for one in (fleet.records, frame)
    ]
    assert states[1] < 3 * states[0] + 30


def test_every_planted_kind_of_dirt_is_counted(fleet):
    table = kd.analysis.data_quality(fleet.records, fleet.devices).set_index("rule")["n"]
    dirt = fleet.truth["dirt"].value_counts()
    assert table["end_before_start"] == dirt["ends_before_start"]
    assert table["unknown_status"] == dirt["status_3"] + dirt["status_null"]
    assert table["future_start"] == dirt["future"]
    assert table["missing_end"] == dirt["no_end"]
    assert table["bad_properties"] > 0
    assert table["rebound_device"] > 0
    assert table["duplicate_name"] > 0
