"""The synthetic fleet at earlier instants: it only ever goes forward."""

import itertools
from datetime import UTC, datetime

import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb.sandbox.ids import minted_at

AS_OF = pd.Timestamp(kd.sandbox.as_of())
PRESET = kd.sandbox.Preset(300)
WEEK_AGO = "2025-12-10T08:30Z"
INSTANTS = ["2025-10-18T08:30Z", "2025-11-27T15:00Z", WEEK_AGO, "2025-12-17T08:20Z", None]
PARTS = ("records", "devices", "users", "truth", "device_truth")
STAGES = {"new": 0, "completed": 1, "unknown": 1, "to_be_deleted": 2}
FIXED = ["user_id", "module", "module_code", "create_time", "version", "properties", "extra"]
DEVICE = ["device_id", "device_name", "device_os", "machine_code", "device_create_time"]


@pytest.fixture(scope="module")
def views():
    return [kd.sandbox.frames(PRESET, as_of=instant) for instant in INSTANTS]


@pytest.fixture(
    params=[*itertools.pairwise(range(len(INSTANTS))), (0, len(INSTANTS) - 1)], scope="module"
)
def pair(request, views):
    return [views[place] for place in request.param]


def both(earlier, later, by="record_id"):
    """Give the rows that are in both frames, side by side."""
    first, second = (frame.set_index(by) for frame in (earlier, later))
    shared = first.index.intersection(second.index)
    assert len(shared) > 100
    return first.loc[shared], second.loc[shared]


def assert_same(first, second):
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.parametrize(
    "same",
    [
        "2025-12-17T08:30Z",
        "2025-12-17T16:30:00.000123+08:00",
        datetime(2025, 12, 17, 8, 30, tzinfo=UTC),
        AS_OF,
    ],
)
def test_an_instant_may_be_spelt_in_any_zone(same):
    assert kd.sandbox.Sandbox(as_of=same).as_of == kd.sandbox.as_of()


def test_at_the_fixed_instant_the_fleet_is_what_it_has_always_been(views):
    again = kd.sandbox.frames(PRESET, as_of=AS_OF)
    for part in PARTS:
        assert_same(getattr(again, part), getattr(views[-1], part))


def test_nothing_is_known_of_what_comes_later(views):
    for instant, view in zip(INSTANTS[:-1], views, strict=False):
        now = pd.Timestamp(instant)
        is_ahead = view.truth["dirt"] == "future"
        assert is_ahead.sum() <= 3
        assert view.records.loc[~is_ahead, "create_time"].max() <= now
        assert view.records.loc[~is_ahead, "end_time"].max() <= now
        assert view.devices["device_create_time"].max() <= now
        assert view.device_truth["dropped_at"].max() <= now
        assert set(view.records["fetched_at"]) == set(view.devices["fetched_at"]) == {now}
        assert view.records.dtypes.equals(views[-1].records.dtypes)
        assert (view.truth["record_id"] == view.records["record_id"]).all()


def test_a_record_keeps_whatever_cannot_change(pair):
    first, second = both(*(view.records for view in pair))
    assert_same(first[FIXED], second[FIXED])
    is_lost = (second["device_source"] == "missing") & (first["device_source"] != "missing")
    assert_same(
        first.loc[~is_lost, [*DEVICE, "device_source"]],
        second.loc[~is_lost, [*DEVICE, "device_source"]],
    )
    unbound = pair[1].device_truth.loc[pair[1].device_truth["unbound"], "device_id"]
    assert set(first.loc[is_lost, "device_id"]) <= set(unbound)
    assert second.loc[is_lost, DEVICE].isna().all(axis=None)


def test_a_record_names_its_device_until_that_is_unbound(views):
    first, second = both(views[0].records, views[-1].records)
    is_lost = (second["device_source"] == "missing") & (first["device_source"] == "record")
    assert is_lost.sum() > 5


def test_a_record_goes_on_to_its_next_stage_or_stays_as_it_was(pair):
    first, second = both(*(view.records for view in pair))
    before, after = (frame["status"].astype(str).map(STAGES) for frame in (first, second))
    assert (after >= before).all()
    assert (after > before).any()
    has_ended = before > 0
    same = ["end_time", "duration_s"]
    assert_same(first.loc[has_ended, same], second.loc[has_ended, same])
    assert first.loc[~has_ended, same].isna().all(axis=None)
    is_same = after == before
    assert_same(first.loc[is_same, ["status_code"]], second.loc[is_same, ["status_code"]])
    truth = ["really_stuck", "attempt_no", "incident"]
    first, second = both(*(view.truth for view in pair))
    assert_same(first[truth], second[truth])


def test_what_came_is_new_and_what_went_was_purged(pair):
    earlier, later = (view.records.join(view.truth["really_stuck"]) for view in pair)
    came = later[~later["record_id"].isin(earlier["record_id"])]
    now = earlier["fetched_at"].iloc[0]
    assert (came["record_id"].map(minted_at) > now).all()
    went = earlier[~earlier["record_id"].isin(later["record_id"])]
    assert not went["really_stuck"].any()
    if later["fetched_at"].iloc[0] - now >= pd.Timedelta("7D"):
        assert min(len(came), len(went)) > 100
        assert {"to_be_deleted", "completed"} <= set(went["status"])
        assert went["properties"].nunique() > 0.4 * len(went)
        # Two of a hundred clients write no milliseconds.
        assert 0.005 < (went["create_time"].dt.microsecond == 0).mean() < 0.04


@pytest.mark.parametrize("dirt", ["ends_before_start", "no_end"])
def test_what_is_wrong_with_the_end_is_not_there_while_the_backup_runs(views, dirt):
    records = views[-1].records[views[-1].truth["dirt"] == dirt]
    record = records[records["create_time"] > AS_OF - pd.Timedelta("59D")].iloc[-1]
    running = record["create_time"] + pd.Timedelta("1s")
    view = kd.sandbox.frames(PRESET, as_of=running)
    then = view.records.join(view.truth["dirt"]).set_index("record_id").loc[record["record_id"]]
    assert (then["status"], then["dirt"]) == ("new", "")
    assert then["end_time"] is pd.NaT


def test_devices_come_when_they_are_bound_and_go_when_they_are_unbound(pair):
    earlier, later = pair
    first, second = both(earlier.devices, later.devices, "device_id")
    assert_same(first.drop(columns="fetched_at"), second.drop(columns="fetched_at"))
    came = later.devices[~later.devices["device_id"].isin(first.index)]
    assert (came["device_create_time"] > earlier.devices["fetched_at"].iloc[0]).all()
    went = earlier.devices[~earlier.devices["device_id"].isin(second.index)]
    unbound = later.device_truth.loc[later.device_truth["unbound"], "device_id"]
    assert set(went["device_id"]) <= set(unbound)
    assert_same(earlier.users, later.users)


def test_a_fleet_of_a_few_weeks_ago_looks_like_the_one_of_today(views):
    shares = [view.records["status"].value_counts(normalize=True) for view in views]
    for share in shares[1:]:
        assert share["completed"] == pytest.approx(shares[-1]["completed"], abs=0.03)
    bound = [len(view.devices) for view in views]
    assert bound == sorted(bound)


def test_the_service_shows_the_fleet_as_it_was_drawn_for_that_instant(views):
    drawn = views[INSTANTS.index(WEEK_AGO)]
    records = drawn.records.join(drawn.truth["dirt"])
    sorts = [records["dirt"], records["device_source"].astype(str), records["status"].astype(str)]
    users = {user for sort in sorts for user in records.groupby(sort)["user_id"].first()}
    with (
        kd.sandbox.Sandbox(preset=PRESET, as_of=WEEK_AGO) as sandbox,
        kd.connect(sandbox) as client,
    ):
        fleet = kd.fleet.fetch(client, sorted(users))
    for got, part in ((fleet.records, drawn.records), (fleet.devices, drawn.devices)):
        mine = part[part["user_id"].isin(users)].reset_index(drop=True)
        identity = "record_id" if "record_id" in mine else "device_id"
        assert_same(*(frame.sort_values(identity, ignore_index=True) for frame in (got, mine)))


def test_where_no_record_names_its_device_none_did_earlier():
    preset = kd.sandbox.Preset(100, device_info="absent")
    made = kd.sandbox.frames(preset, as_of=INSTANTS[0])
    assert set(made.records["device_source"]) <= {"query", "missing"}


@pytest.mark.parametrize("make", [kd.sandbox.frames, kd.sandbox.Sandbox])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("2025-12-10 08:30", "with its zone"),
        (datetime(2025, 12, 10, 8, 30), "with its zone"),  # noqa: DTZ001 -- that is the point
        ("now", "with its zone"),
        ("soon", "with its zone"),
        (1_765_355_400, "with its zone"),
        (pd.NaT, "with its zone"),
        ("2025-12-17T08:30:00.001Z", r"lies from 2025-10-18T08:30Z to 2025-12-17T08:30Z"),
        ("2025-10-18T08:29Z", "lies from"),
    ],
)
def test_what_is_no_earlier_instant_is_refused(make, wrong, message):
    with pytest.raises(kd.InvalidParameterError, match=message):
        make(as_of=wrong)
