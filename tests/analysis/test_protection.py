import pandas as pd
import polars as pl
import pytest

import koodrive_nb as kd

A, B = "1000000000000000001", "1000000000000000002"
LONG_AGO = "2025-06-01T00:00Z"


def status(records, devices=None, **options):
    return kd.analysis.protection_status(records, devices, **options)


def one(records, devices=None, **options):
    table = status(records, devices, **options)
    return table[table["device_id"] == A].iloc[0]


def done(when, **more):
    return {"create_time": when, "end_time": pd.Timestamp(when) + pd.Timedelta("1min")} | more


@pytest.mark.parametrize(
    ("rows", "state", "cause"),
    [
        ([done("2025-12-16T00:00Z")], "protected", None),
        ([done("2025-12-10T08:30Z")], "protected", None),
        ([done("2025-12-10T08:29Z")], "late", "no_attempt"),
        ([done("2025-12-06T20:30Z")], "late", "no_attempt"),
        ([done("2025-12-06T20:29Z")], "outdated", "no_attempt"),
        (
            [
                done("2025-12-14T00:00Z"),
                {"create_time": "2025-12-15T00:00Z", "status_code": 0},
            ],
            "warning",
            None,
        ),
        (
            [
                done("2025-12-01T00:00Z"),
                {"create_time": "2025-12-05T00:00Z", "status_code": 0},
            ],
            "outdated",
            "attempts_stuck",
        ),
        ([{"create_time": "2025-12-17T08:00Z", "status_code": 0}], "never", "attempts_stuck"),
        ([{"create_time": "2025-12-01T00:00Z", "status_code": 3}], "never", "attempts_stuck"),
        ([done("2025-12-16T00:00Z", status_code=2)], "deleting", "only_deleted_copies"),
        (
            [done("2025-12-01T00:00Z"), done("2025-12-16T00:00Z", status_code=2)],
            "outdated",
            "only_deleted_copies",
        ),
        (
            [
                done("2025-11-01T00:00Z", status_code=2),
                {"create_time": "2025-12-16T00:00Z", "status_code": 0},
            ],
            "deleting",
            "only_deleted_copies",
        ),
        ([], "never", "never_attempted"),
    ],
)
def test_state_and_cause_follow_from_the_newest_of_each_kind(make, bind, rows, state, cause):
    records = make(*rows) if rows else make({"device_id": B})
    row = one(records, bind({A: LONG_AGO, B: LONG_AGO}))
    assert row["state"] == state
    assert (None if pd.isna(row["cause"]) else row["cause"]) == cause
    assert row["in_scope"]


def test_who_was_bound_for_less_than_the_grace_is_not_judged(make, bind):
    records = make({"device_id": B})
    new = one(records, bind({A: "2025-12-11T00:00Z", B: LONG_AGO}))
    assert (new["state"], new["cause"], new["in_scope"]) == ("initial_pending", "new", False)
    old = one(records, bind({A: "2025-12-11T00:00Z", B: LONG_AGO}), grace="5D")
    assert (old["state"], old["in_scope"]) == ("never", True)
    young = one(make(done("2025-12-16T00:00Z")), bind({A: "2025-12-15T00:00Z"}))
    assert (young["state"], young["in_scope"]) == ("protected", False)


def test_a_device_that_is_no_longer_bound_is_named_and_out_of_scope(make, bind):
    row = one(make(done("2025-12-16T00:00Z")), bind({B: LONG_AGO}))
    assert (row["state"], row["in_scope"]) == ("unbound", False)


def test_without_devices_those_with_records_are_told_and_attrs_say_so(make):
    table = status(make(done("2025-12-16T00:00Z"), {"device_id": None}))
    assert list(table["state"]) == ["protected"]
    about = table.attrs["koodrive"]
    assert (about["devices_known"], about["n_unplaced"]) == (False, 1)


def test_age_is_from_creation_to_now(make, bind):
    devices = bind({A: LONG_AGO})
    assert one(make(done("2025-12-16T08:30Z")), devices)["rpo_age_h"] == 24
    # Completed without an end still counts, and one that ended before it began too.
    assert one(make({"create_time": "2025-12-16T08:30Z"}), devices)["rpo_age_h"] == 24
    # Clocks differ by a few minutes.
    assert one(make(done("2025-12-17T08:35Z")), devices)["rpo_age_h"] == 0


def test_a_wrong_clock_protects_nobody(make, bind):
    old, future = done("2025-12-01T08:30Z"), done("2199-01-01T00:00Z")
    table = status(make(old, future), bind({A: LONG_AGO}))
    row = table.iloc[0]
    assert (row["state"], row["rpo_age_h"], row["n"]) == ("outdated", 16 * 24, 1)
    assert table.attrs["koodrive"]["n_unplaced"] == 1
    late = one(make(old), bind({A: "2199-01-01T00:00Z"}))
    assert (late["state"], late["in_scope"]) == ("outdated", True)


def test_a_past_now_knows_nothing_of_what_came_later(make, bind):
    records = make(done("2025-12-01T00:00Z"), done("2025-12-16T00:00Z"))
    row = one(records, bind({A: LONG_AGO}), as_of="2025-12-03T00:00Z")
    assert (row["rpo_age_h"], row["n"]) == (48, 1)
    late = bind({A: "2025-12-10T00:00Z", B: LONG_AGO})
    table = status(make({"device_id": B}), late, as_of="2025-12-03T00:00Z")
    assert A not in set(table["device_id"])


def test_the_worst_module_is_the_expected_one_longest_without_a_completed_backup(make, bind):
    records = make(
        done("2025-12-16T00:00Z", module="album"),
        done("2025-12-01T08:30Z", module="folder"),
        done("2025-08-01T00:00Z", module="address_book"),
    )
    row = one(records, bind({A: LONG_AGO}))
    # Nothing was attempted of the address book for 90 days.
    assert (row["worst_module"], row["worst_module_age_h"]) == ("folder", 16 * 24)
    assert (row["newest_module"], row["expected_modules"]) == ("album", "folder, album")
    never = make(done("2025-12-16T00:00Z"), {"module": "folder", "status_code": 0})
    row = one(never, bind({A: LONG_AGO}))
    assert row["worst_module"] == "folder"
    assert pd.isna(row["worst_module_age_h"])


def test_settings_tell_what_is_expected_where_they_are_given(make, bind):
    configs = pd.DataFrame(
        {
            "user_id": "u",
            "device_id": A,
            "module": ["album", "folder", "address_book"],
            "config_name": ["auto_backup", "auto_backup", "wifi_only"],
            "config_value": ["on", "off", "on"],
        }
    )
    records = make(done("2025-12-16T00:00Z", module="folder"))
    row = one(records, bind({A: LONG_AGO}), configs=configs)
    assert (row["expected_modules"], row["worst_module"]) == ("album", "album")
    per_module = status(records, bind({A: LONG_AGO}), per="module", configs=configs)
    assert list(per_module["module"]) == ["album"]
    assert list(per_module["state"]) == ["never"]


def test_strikes_are_counted_since_the_newest_completed_one_of_the_worst_module(make, bind):
    stuck = [{"create_time": f"2025-12-{day}T00:00Z", "status_code": 0} for day in (10, 13, 14)]
    records = make(done("2025-12-12T00:00Z"), *stuck, {"module": "folder"} | stuck[0])
    row = one(records, bind({A: LONG_AGO}))
    assert row["stuck_in_a_row"] == 2


def test_a_user_is_as_well_off_as_the_worst_device_in_scope(make, bind):
    records = make(
        done("2025-12-16T00:00Z"), {"device_id": B, "status_code": 0}, {"device_id": "3"}
    )
    devices = bind({A: LONG_AGO, B: LONG_AGO, "4": "2025-12-16T00:00Z"})
    row = status(records, devices, per="user").iloc[0]
    assert (row["state"], row["device_id"]) == ("never", B)
    assert (row["n_devices"], row["n_exposed"], row["n"]) == (4, 1, 3)


def test_a_device_that_was_renamed_is_one_device_with_its_newest_name(make, bind):
    records = make(
        done("2025-12-01T00:00Z", device_name="old"), done("2025-12-02T00:00Z", device_name="new")
    )
    table = status(records)
    assert list(table["device_label"]) == ["new ·0001"]
    assert one(records, bind({A: LONG_AGO}))["device_label"] == "phone ·0001"
    assert list(table["n"]) == [2]


def test_further_columns_of_the_devices_are_carried_along(make, bind):
    table = status(make({}), bind({A: LONG_AGO}, region="north"))
    assert list(table["region"]) == ["north"]
    with pytest.raises(kd.InvalidParameterError, match="named state"):
        status(make({}), bind({A: LONG_AGO}, state="x"))


def test_the_worst_come_first(dirty):
    records, devices = dirty()
    table = status(records, devices)
    codes = table["state"].cat.codes
    assert codes.is_monotonic_increasing
    for _, part in table.groupby("state", observed=True):
        assert part["rpo_age_h"].dropna().is_monotonic_decreasing


@pytest.mark.parametrize("per", ["device", "module"])
def test_every_engine_gives_the_same_protection(dirty, engine, per):
    records, devices = dirty()
    expected = status(records, devices, per=per)
    pd.testing.assert_frame_equal(status(engine(records), devices, per=per), expected)


def test_devices_may_come_from_another_engine_too(dirty):
    records, devices = dirty()
    expected = status(records, devices)
    pd.testing.assert_frame_equal(status(records, pl.from_pandas(devices)), expected)


@pytest.mark.parametrize("seed", range(6))
def test_states_sum_to_the_devices_and_each_is_what_its_records_say(dirty, seed):
    records, devices = dirty(seed)
    table = status(records, devices).set_index(["user_id", "device_id"])
    in_time = records["create_time"] <= records["fetched_at"]
    known = records[in_time].dropna(subset=["device_id", "create_time"])
    ids = set(zip(known["user_id"], known["device_id"], strict=True))
    ids |= set(zip(devices["user_id"], devices["device_id"], strict=True))
    assert set(table.index) == ids
    classified = kd.analysis.classify(records)
    for key, row in table.iterrows():
        mine = classified[(classified["user_id"] == key[0]) & (classified["device_id"] == key[1])]
        mine = mine[mine["create_time"] <= mine["fetched_at"]]
        assert row["n"] == len(mine)
        copies = mine.loc[mine["state"] == "completed", "create_time"].dropna()
        assert row["n_completed"] == len(copies)
        if len(copies):
            age = row["as_of"] - copies.max()
            assert row["rpo_age_h"] == pytest.approx(age.total_seconds() / 3600)
        else:
            assert pd.isna(row["rpo_age_h"])


def test_no_records_and_no_devices_are_no_error(make, bind):
    nothing = make({}).head(0)
    assert len(status(nothing)) == 0
    assert list(status(nothing, bind({A: LONG_AGO}))["state"]) == ["never"]
    for per in ("device", "module", "user"):
        whole, empty = status(make({}), per=per), status(nothing, per=per)
        assert list(empty.dtypes.items()) == list(whole.dtypes.items())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"per": "house"}, "per= takes device, module, user"),
        ({"rpo": "7"}, "rpo= takes a positive duration"),
        ({"grace": 7}, "grace= takes a positive duration"),
        ({"slack": 0.5}, "slack= takes a number from 1"),
        ({"slack": float("inf")}, "slack= takes a number from 1 to 100"),
        ({"slack": "1.5"}, "slack= takes a number from 1"),
        ({"devices": [1]}, "Pass devices as a pandas"),
        ({"configs": pd.DataFrame({"x": [1]})}, "lacks the column"),
    ],
)
def test_a_bad_argument_is_refused_with_what_it_takes(make, options, says):
    with pytest.raises(kd.InvalidParameterError, match=says):
        status(make({}), **options)
