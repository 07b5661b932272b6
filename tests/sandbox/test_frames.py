import hashlib
import re
import time

import numpy as np
import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb.columns import DATASETS
from koodrive_nb.sandbox import habits, names

AS_OF = pd.Timestamp(kd.sandbox.as_of())
ALLOWED_NAME = re.compile(r"[A-Za-z0-9\-_\s]{1,32}")


@pytest.fixture(scope="module")
def small():
    return kd.sandbox.frames()


@pytest.fixture(scope="module")
def medium():
    return kd.sandbox.frames("medium")


def known(made):
    """Give each record with what it hides: its truth, and that of its device."""
    records = made.records.join(made.truth.drop(columns="record_id"))
    return records.merge(made.device_truth.drop(columns="user_id"), on="device_id", how="left")


def test_a_fleet_is_the_same_for_the_same_seed_and_another_for_another(small):
    again, other = kd.sandbox.frames("small", 0), kd.sandbox.frames("small", 1)
    for name in ("records", "devices", "users", "truth", "device_truth"):
        pd.testing.assert_frame_equal(getattr(small, name), getattr(again, name))
    assert not set(small.records["record_id"]) & set(other.records["record_id"])
    assert not set(small.users["user_id"]) & set(other.users["user_id"])


def test_the_numbers_are_the_same_on_every_version_of_numpy(small):
    ids = hashlib.sha256(" ".join(small.records["record_id"]).encode()).hexdigest()
    assert (len(small.records), ids[:16]) == (8335, "7a1b12634cde37d3")


@pytest.mark.parametrize("dataset", ["records", "devices"])
def test_the_columns_are_those_that_the_client_returns(small, dataset):
    frame = getattr(small, dataset)
    assert list(frame.dtypes.items()) == [
        (column.name, column.dtype) for column in DATASETS[dataset]
    ]


def test_rows_are_in_the_order_of_the_client_and_each_is_there_once(small, medium):
    for made in (small, medium):
        by = ["create_time", "record_id"]
        assert made.records[by].equals(made.records[by].sort_values(by, ignore_index=True))
        by = ["device_create_time", "device_id"]
        assert made.devices[by].equals(made.devices[by].sort_values(by, ignore_index=True))
        assert made.records["record_id"].is_unique
        assert made.devices["device_id"].is_unique
        assert (made.truth["record_id"] == made.records["record_id"]).all()
        for ids in (made.records["record_id"], made.devices["device_id"], made.users["user_id"]):
            assert set(ids.str.len()) == {19}


def test_the_presets_have_the_sizes_that_they_promise(small, medium):
    assert (len(small.users), len(medium.users)) == (200, 10_000)
    assert len(small.device_truth) == pytest.approx(310, rel=0.05)
    assert len(medium.device_truth) == pytest.approx(15_500, rel=0.02)
    assert len(small.records) == pytest.approx(8_000, rel=0.1)
    assert len(medium.records) == pytest.approx(420_000, rel=0.03)


def test_a_million_records_take_less_than_ten_seconds():
    # Of this process alone: other work on the machine does not count.
    before = time.process_time()
    made = kd.sandbox.frames("large")
    assert time.process_time() - before < 10
    assert len(made.records) == pytest.approx(1_000_000, rel=0.1)


def test_the_list_of_users_is_that_of_the_fleet(small):
    users = kd.sandbox.users()
    pd.testing.assert_frame_equal(users, small.users)
    assert list(users) == ["user_id", "region", "plan"]
    assert set(small.records["user_id"]) <= set(users["user_id"])
    assert (
        small.device_truth.groupby("user_id").size().reindex(users["user_id"]).between(1, 5).all()
    )


@pytest.mark.parametrize("make", [kd.sandbox.frames, kd.sandbox.users, kd.sandbox.Sandbox])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"preset": "tiny"}, "choose one of small, medium, large"),
        ({"preset": None}, "choose one of"),
        ({"preset": kd.sandbox.Preset(0)}, "at least one user"),
        ({"preset": kd.sandbox.Preset(5, zone="Mars/Base")}, "no zone 'Mars/Base'"),
        ({"preset": kd.sandbox.Preset(5, device_info="some")}, "given or absent"),
        ({"seed": "1"}, "whole number"),
        ({"seed": 1.5}, "whole number"),
        ({"seed": True}, "whole number"),
    ],
)
def test_what_is_no_preset_or_seed_is_refused(make, wrong, message):
    with pytest.raises(kd.InvalidParameterError, match=message):
        make(**wrong)


@pytest.mark.parametrize("users", [1, 2, 3])
def test_a_fleet_may_have_hardly_any_users(users):
    made = kd.sandbox.frames(kd.sandbox.Preset(users), seed=-1)
    assert len(made.users) == users


@pytest.mark.parametrize("preset", ["small", "medium"])
def test_every_kind_of_dirt_comes_in_its_known_count(request, preset):
    made = request.getfixturevalue(preset)
    found = known(made)
    n = len(found)
    for kind, share in habits.DIRT.items():
        assert (found["dirt"] == kind).sum() == max(1, round(share * n))
    is_bound = found["device_id"].isin(made.devices["device_id"])
    nameless = found[found["dirt"] == "nameless"]
    assert len(nameless) == max(1, round(habits.NAMELESS_SHARE * is_bound.sum()))
    assert (nameless["device_source"] == "query").all()
    told = found["properties"].dropna()
    assert (~told.str.endswith("}")).sum() == max(1, round(habits.MALFORMED_PROPERTIES * n))


def test_dirt_shows_in_the_columns_that_it_is_about(medium):
    found = known(medium)
    is_completed = found["status_code"] == 1
    open_end = found["end_time"].isna()
    lasted = found["duration_s"]
    for kind, rows in {
        "ends_before_start": is_completed & (lasted < 0),
        "status_3": (found["status_code"] == 3) & (found["status"] == "unknown"),
        "status_null": found["status_code"].isna() & (found["status"] == "unknown"),
        "future": found["create_time"] > AS_OF,
        "no_end": is_completed & open_end,
    }.items():
        expected = found["record_id"][found["dirt"] == kind]
        assert list(found["record_id"][rows.fillna(value=False)]) == list(expected), kind
    early = found.loc[found["dirt"] == "ends_before_start", "duration_s"]
    assert early.between(-10_801, -1).all()
    assert found["version"].eq(1).all()
    assert found["extra"].isna().all()


def test_properties_say_nothing_in_35_percent_and_otherwise_how_much_was_sent(medium):
    told = medium.records["properties"]
    assert (told.isna() | (told == "{}")).mean() == pytest.approx(0.35, abs=0.005)
    form = r'\{"fileCount":\d+,"totalSize":\d+,"trigger":"(auto|manual)","net":"(wifi|mobile)"\}'
    assert told.str.fullmatch(form).mean() * told.notna().mean() == pytest.approx(0.647, abs=0.005)


def test_names_repeat_and_some_break_what_the_api_allows(small, medium):
    every = medium.devices["device_name"]
    assert every.value_counts().iloc[0] > 0.1 * len(every)
    allowed = every.map(lambda name: bool(ALLOWED_NAME.fullmatch(name)) and not name.isspace())
    assert (~allowed).mean() == pytest.approx(0.031, abs=0.002)
    assert set(names.HOSTILE) | set(names.UNICODE) <= set(every)
    assert set(small.devices["device_name"]) & set(names.HOSTILE)
    strict = kd.sandbox.frames(kd.sandbox.Preset(2000, strict_names=True)).devices
    for column, most in (("device_name", 32), ("device_os", 32), ("machine_code", 64)):
        assert strict[column].map(lambda text: not text or bool(ALLOWED_NAME.fullmatch(text))).all()
        assert strict[column].str.len().max() <= most


def test_systems_are_spelt_in_twelve_ways_without_a_dot(medium):
    spelt = medium.devices["device_os"]
    assert spelt.nunique() == 12
    assert {"", "unknown", "android", "Android", "iOS 18_2", "iPadOS 18"} <= set(spelt)
    assert not spelt.str.contains(".", regex=False).any()


def test_a_machine_that_was_reset_has_two_device_ids_and_the_older_is_silent(medium):
    devices = medium.devices.merge(medium.device_truth, on=["user_id", "device_id"])
    records = medium.records[medium.records["create_time"] <= AS_OF]
    last = records.groupby("device_id")["create_time"].max()
    devices["last"] = devices["device_id"].map(last)
    twice = devices[devices.duplicated("machine_code", keep=False)]
    pairs = twice.groupby("machine_code")
    assert (pairs.size() == 2).all()
    assert len(pairs) / devices["machine_code"].nunique() == pytest.approx(0.02, rel=0.15)
    for shared in ("user_id", "device_name", "device_os"):
        assert (pairs[shared].first() == pairs[shared].last()).all()
    older, newer = pairs.nth(0), pairs.nth(1)
    reset_at = newer.set_index("machine_code")["device_create_time"]
    silent = older.set_index("machine_code")
    assert (silent["last"].dropna() <= reset_at.reindex(silent["last"].dropna().index)).all()
    assert (silent["dropped_at"] <= reset_at.reindex(silent.index)).all()


def test_records_lie_in_the_life_of_their_device(medium):
    found = known(medium)
    found = found[(found["dirt"] != "future") & found["device_id"].notna()]
    # Some clients write no milliseconds.
    second = pd.Timedelta("1s")
    assert (found["create_time"] + second >= found["device_create_time"]).all()
    gone = found.dropna(subset="dropped_at")
    assert (gone["create_time"] < gone["dropped_at"]).all()
    assert not found["never"].any()
    assert found["create_time"].max() <= AS_OF
    assert found["end_time"].max() <= AS_OF


def test_a_device_that_was_unbound_is_not_listed_and_its_copies_wait_for_deletion(medium):
    truth = medium.device_truth
    unbound = truth[truth["unbound"]]
    assert len(unbound) == round(0.04 * len(truth))
    assert set(medium.devices["device_id"]) == set(truth["device_id"]) - set(unbound["device_id"])
    of_them = medium.records[medium.records["device_id"].isin(unbound["device_id"])]
    lost = medium.records[medium.records["device_source"] == "missing"]
    for records in (of_them, lost):
        assert len(records) > 1000
        assert set(records["status"]) == {"new", "to_be_deleted"}
        assert records.loc[records["status"] == "new", "end_time"].isna().all()
    assert lost.loc[:, "device_id":"device_create_time"].isna().all(axis=None)
    assert len(lost) / (len(lost) + len(of_them)) == pytest.approx(0.6, abs=0.08)


def test_the_service_keeps_the_newest_copies_and_purges_older_ones(medium):
    found = known(medium)
    lane = ["device_id", "module"]
    copies = found[found["status"] == "completed"].groupby(lane, observed=True).size()
    for module, most in (("address_book", 30), ("album", 20), ("folder", 10)):
        assert copies.xs(module, level="module").max() == most
    attempts = found.dropna(subset="device_id").groupby(lane, observed=True)["attempt_no"]
    assert attempts.transform("nunique").eq(attempts.transform("size")).all()
    in_order = found[found["dirt"] == ""].dropna(subset="device_id").groupby(lane, observed=True)
    assert (in_order["attempt_no"].diff().dropna() > 0).all()
    # Gaps in the numbers are what was purged.
    assert (in_order["attempt_no"].diff().dropna() > 1).sum() > 10_000


def test_backups_of_a_device_and_module_never_overlap(medium):
    found = medium.records[(medium.truth["dirt"] == "") & medium.records["device_id"].notna()]
    lane = found.groupby(["device_id", "module"], observed=True)
    following = lane["create_time"].shift(-1)
    ended = found["end_time"].notna() & following.notna()
    # Some clients write no milliseconds.
    assert (found["end_time"] <= following + pd.Timedelta("1s"))[ended].all()


def test_what_is_open_was_abandoned_or_is_running(medium):
    found = known(medium)
    running = found[(found["status"] == "new") & ~found["really_stuck"]]
    assert 1 <= len(running) < 60
    assert (AS_OF - running["create_time"] < pd.Timedelta("1D")).all()
    lane = found.groupby(["device_id", "module"], observed=True)["create_time"]
    newest = lane.transform("max").reindex(running.index)
    later = found.loc[found["dirt"] == "future", "device_id"]
    assert (running["create_time"] == newest)[~running["device_id"].isin(later)].all()
    stuck = found[found["really_stuck"]]
    assert stuck["end_time"].isna().all()
    assert set(stuck["status"]) == {"new", "to_be_deleted"}
    young = stuck["create_time"] > AS_OF - pd.Timedelta("30D")
    assert (stuck.loc[young, "status"] == "new").all()


def test_first_backups_take_longer_and_get_stuck_more_often(medium):
    found = known(medium)
    # Of older ones, many that completed are purged, and those that got stuck are not.
    recent = found[found["create_time"] > AS_OF - pd.Timedelta("18D")]
    album = recent[(recent["module"] == "album") & (recent["incident"] == "")]
    is_first = album["attempt_no"] == 0
    usual, first = (album[rows]["duration_s"].median() for rows in (~is_first, is_first))
    assert first / usual == pytest.approx(20, rel=0.2)
    assert album[is_first]["really_stuck"].mean() > 3 * album[~is_first]["really_stuck"].mean()


def test_the_planted_device_is_six_times_as_slow_in_its_five_newest_backups(small, medium):
    for made in (small, medium):
        found = known(made)
        slow = found[found["incident"] == "C"]
        assert len(slow) == 5
        assert slow["device_id"].nunique() == slow["module"].nunique() == 1
        same = found[
            (found["device_id"] == slow["device_id"].iloc[0]) & (found["module"] == "album")
        ]
        ratio = slow["duration_s"].median() / same[same["incident"] == ""]["duration_s"].median()
        assert 2 < ratio < 18
        assert set(same["attempt_no"].nlargest(6)) >= set(slow["attempt_no"])


def test_the_planted_week_is_two_fifths_slower_in_one_module_only(medium):
    found = known(medium)
    usual = found[(found["incident"] == "") & (found["attempt_no"] > 0)]
    in_it = found[(found["incident"] == "D") & (found["attempt_no"] > 0)]
    assert set(in_it["module"]) == {"album"}
    album = usual[usual["module"] == "album"]
    ratio = in_it["duration_s"].median() / album["duration_s"].median()
    assert ratio == pytest.approx(1.4, rel=0.1)
    days = (AS_OF - in_it["create_time"]) / pd.Timedelta("1D")
    assert days.between(12, 19).all()


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "Europe/Berlin"])
def test_backups_run_at_night_in_local_time_also_when_the_clocks_change(zone):
    made = kd.sandbox.frames(kd.sandbox.Preset(2000, zone=zone))
    found = known(made)
    local = found.loc[found["rhythm"] == "daily", "create_time"].dt.tz_convert(zone)
    for part in (local[local < "2025-10-26"], local[local >= "2025-10-27"]):
        share = part.dt.hour.value_counts(normalize=True)
        assert share.idxmax() in {0, 1}
        assert share[7] < 0.015
        assert share[1] == pytest.approx(0.128, abs=0.015)


def test_there_is_more_and_later_on_weekends(medium):
    local = medium.records["create_time"].dt.tz_convert("Asia/Shanghai")
    # Four whole weeks of the module of which thirty copies are kept.
    recent = local[(medium.records["module"] == "address_book") & (local >= "2025-11-17")]
    recent = recent[recent < "2025-12-15"]
    # Nights begin on the day before, so that the day turns at noon.
    weekend = (recent + pd.Timedelta("12h")).dt.day_of_week >= 5
    per_day = (weekend.sum() / 8) / ((~weekend).sum() / 20)
    assert per_day == pytest.approx(1.1, abs=0.04)
    night = (recent.dt.hour + recent.dt.minute / 60 + 12) % 24
    assert night[weekend].median() - night[~weekend].median() == pytest.approx(0.7, abs=0.25)


def test_charts_say_that_the_fleet_is_synthetic_and_complete(small):
    figure = kd.charts.status_breakdown(small.records)
    assert "sandbox (synthetic), complete" in figure.layout.title.subtitle.text
    with pytest.raises(kd.InvalidParameterError, match="does not say how it was fetched"):
        kd.ledger(small.records)


def test_without_device_info_every_device_is_asked_for():
    made = kd.sandbox.frames(kd.sandbox.Preset(100, device_info="absent"))
    counts = made.records["device_source"].value_counts()
    assert counts["record"] == 0
    assert counts["query"] > counts["missing"] > 0
    assert np.array_equal(
        made.records["device_id"].isna(), made.records["device_source"] == "missing"
    )
