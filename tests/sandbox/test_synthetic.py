import json

import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb.sandbox import ids, synthetic


@pytest.fixture(scope="module")
def crowd():
    return synthetic.users()["crowd"]


def test_the_fleet_is_the_same_at_every_start():
    first, second = (synthetic.users()[kd.sandbox.DEFAULT_USER] for _ in range(2))
    assert first.devices() == second.devices()
    assert first.page("101", None, 0, 1000) == second.page("101", None, 0, 1000)


def test_the_default_user_shows_every_condition(records, devices):
    state = kd.analysis.classify(records)
    assert 8 <= len(devices) <= 12
    assert set(records["module"]) == {"folder", "album", "address_book"}
    assert set(state["state"]) == {"completed", "in_progress", "stuck", "to_be_deleted"}
    assert set(state["stuck_reason"].dropna()) == {"age", "superseded"}
    silent = devices[~devices["device_id"].isin(records["device_id"])]
    assert list(silent["device_name"]) == ["nova 12", "Magic-v5"]
    gaps = kd.analysis.timeline(state, devices=devices, since=None)
    closed = gaps[(gaps["kind"] == "gap") & gaps["end_time"].notna()]
    assert ((closed["end_time"] - closed["create_time"]) > pd.Timedelta("21D")).any()


def test_nothing_lies_after_the_fixed_instant(records):
    limit = pd.Timestamp(kd.sandbox.as_of())
    assert (records["create_time"] <= limit).all()
    assert (records["end_time"].dropna() <= limit).all()
    assert (records["duration_s"].dropna() > 0).all()


def test_no_device_backs_up_before_it_was_bound(records):
    known = records.dropna(subset=["device_id"])
    assert (known["create_time"] >= known["device_create_time"]).all()


@pytest.mark.parametrize("identity", ["1842862763295184641", "1775406005920779393"])
def test_ids_look_like_the_documented_ones(identity):
    moment = ids.minted_at(identity)
    low = int(identity) % 2**ids.LOW_BITS
    assert ids.mint(moment, low) == identity
    assert ids.text(moment) in {"2025-12-17T07:59:20.752Z", "2025-09-15T06:14:48.630Z"}


def test_the_crowd_has_a_million_records_on_ten_thousand_devices(crowd):
    totals = {module: crowd.page(module, None, 0, 0)[1] for module in ("100", "101", "102")}
    assert sum(totals.values()) == 1_000_000
    assert len({json.loads(row)["deviceId"] for row in crowd.devices()}) == 10_000


@pytest.mark.parametrize("module", ["100", "101", "102"])
def test_a_record_of_the_crowd_is_the_same_by_page_by_device_and_by_id(crowd, module):
    total = crowd.page(module, None, 0, 0)[1]
    rows, _ = crowd.page(module, None, total - 50, total + 50)
    assert len(rows) == 50
    for row in rows:
        record = json.loads(row)
        assert crowd.record(record["recordId"]) == row
        assert record["createTime"] < (record.get("endTime") or "9")
        assert record.get("endTime", "") < ids.text(ids.AS_OF)
    device = json.loads(rows[0])["deviceInfo"]["deviceId"]
    mine, count = crowd.page(module, device, 0, 1000)
    assert rows[0] in mine
    assert len(mine) == count
    assert {json.loads(row)["deviceInfo"]["deviceId"] for row in mine} == {device}


@pytest.mark.parametrize("identity", ["0", "8388607", "x", "1" * 30, "1842862763295184641"])
def test_ids_that_the_crowd_never_gave_are_unknown(crowd, identity):
    assert crowd.record(identity) is None
    assert crowd.page("101", identity, 0, 10) == ([], 0)
