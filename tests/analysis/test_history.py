import pandas as pd
import pytest

import koodrive_nb as kd

A, B = "1000000000000000001", "1000000000000000002"
LONG_AGO = "2025-06-01T00:00Z"
DAY = pd.Timedelta("1D")
RPO, SLACK, GRACE = pd.Timedelta("7D"), 1.5, pd.Timedelta("7D")


def history(records, devices=None, **options):
    return kd.analysis.exposure_history(records, devices, **options)


def lives(records, devices, as_of=None):
    """Give, plainly, each bound device with its span in scope and its recovery points."""
    classified = kd.analysis.classify(records, as_of=as_of)
    found = []
    for device in devices.itertuples():
        mine = classified[
            (classified["user_id"] == device.user_id)
            & (classified["device_id"] == device.device_id)
        ]
        mine = mine[mine["create_time"].notna()]
        had = (mine["state"] == "completed") | (
            (mine["state"] == "to_be_deleted") & mine["end_time"].notna()
        )
        now = mine["as_of"].max() if len(mine) else device.fetched_at
        points = sorted(at for at in mine.loc[had, "create_time"] if at <= now)
        found.append((device.device_create_time + GRACE, now, points))
    return found


def state_at(points, instant):
    newest = max((at for at in points if at <= instant), default=None)
    if newest is None:
        return "never"
    if instant <= newest + RPO:
        return "protected"
    return "late" if instant <= newest + RPO * SLACK else "outdated"


@pytest.mark.parametrize("tz", ["UTC", "Asia/Shanghai"])
@pytest.mark.parametrize("seed", range(3))
def test_counts_and_hours_are_those_of_a_plain_walk_over_every_device(dirty, seed, tz):
    records, devices = dirty(seed, n=150)
    records["fetched_at"] = devices["fetched_at"] = records["fetched_at"].max()
    table = history(records, devices, since="20D", tz=tz)
    walked = lives(records, devices)
    step = pd.Timedelta("5min")
    for day in table.itertuples():
        states = [
            state_at(points, day.at)
            for enters, leaves, points in walked
            if enters <= day.at <= leaves
        ]
        assert day.in_scope == len(states)
        for name in ("protected", "late", "outdated", "never"):
            assert getattr(day, name) == states.count(name), (day.bin_start, name)
        if day.Index % 5 == 0:
            moments = pd.date_range(day.bin_start + step / 2, day.at, freq=step)
            exposed = sum(
                state_at(points, moment) != "protected"
                for enters, leaves, points in walked
                for moment in moments
                if enters <= moment <= leaves
            )
            assert day.exposed_h == pytest.approx(exposed / 12, abs=1.5)


def test_the_time_weighted_share_is_the_share_of_device_time(make, bind):
    records = make({"create_time": "2025-12-01T00:00Z"}, {"create_time": "2025-12-10T00:00Z"})
    table = history(records, bind({A: LONG_AGO}), since="2025-12-01", until="2025-12-11")
    # Exposed from the 8th to the 10th, two days of ten.
    assert table["exposed_h"].tolist() == [0] * 7 + [24, 24, 0]
    assert table.attrs["koodrive"]["compliance_time_share"] == pytest.approx(0.8)
    assert table["compliance_share"].tolist() == [1] * 7 + [0, 1, 1]


def test_a_device_comes_into_scope_when_its_grace_is_over(make, bind):
    records = make({"device_id": B, "create_time": "2025-12-16T00:00Z"})
    devices = bind({A: "2025-12-05T12:00Z", B: LONG_AGO})
    table = history(records, devices, since="2025-12-11", until="2025-12-14")
    assert table["in_scope"].tolist() == [1, 2, 2]
    assert table["in_scope_h"].tolist() == [24, 36, 48]


def test_days_are_local_days_and_the_clock_change_makes_them_23_or_25_hours(make, bind):
    now = pd.Timestamp("2025-11-01T00:00Z")
    records = make({"create_time": "2025-10-20T00:00Z"}, now=now)
    devices = bind({A: LONG_AGO}, now=now)
    table = history(records, devices, since="2025-10-25", until="2025-10-28", tz="Europe/Berlin")
    assert table["in_scope_h"].tolist() == [24, 25, 24]
    assert table["bin_start"].iloc[0] == pd.Timestamp("2025-10-24T22:00Z")


def test_the_running_day_is_counted_until_now_and_marked(make, bind):
    table = history(make({}), bind({A: LONG_AGO}), since="2D")
    assert table["is_partial"].tolist() == [False, False, True]
    assert table["at"].iloc[-1] == pd.Timestamp("2025-12-17T08:30Z")
    assert table["in_scope_h"].iloc[-1] == 8.5


def test_it_ends_with_the_earliest_now_since_later_ones_are_not_known_of_all(make, bind):
    records = make({"user_id": "u"}, {"user_id": "v", "fetched_at": "2025-12-16T12:00Z"})
    devices = pd.concat([bind({A: LONG_AGO}), bind({A: LONG_AGO}, user_id="v")])
    table = history(records, devices.reset_index(drop=True), since="5D")
    assert table["at"].iloc[-1] == pd.Timestamp("2025-12-16T12:00Z")
    assert set(table["in_scope"]) == {2}


def test_days_of_which_records_may_be_purged_are_marked(make, bind):
    kept = [{"create_time": f"2025-12-{day:02}T00:00Z"} for day in range(5, 17)]
    gone = {"create_time": "2025-12-04T00:00Z", "status_code": 2, "end_time": "2025-12-04T01:00Z"}
    devices = bind({A: LONG_AGO})
    table = history(make(*kept, gone), devices, since="2025-12-01")
    assert table.attrs["koodrive"]["history_complete_from"] == "2025-12-04T00:00:00+00:00"
    assert table["is_complete"].tolist() == [False] * 3 + [True] * 14
    # What was abandoned is not purged with the copies of its time, and tells nothing of them.
    abandoned = {"create_time": "2025-12-02T00:00Z", "status_code": 2}
    table = history(make(*kept, gone, abandoned), devices, since="2025-12-01")
    assert table["is_complete"].tolist() == [False] * 3 + [True] * 14
    whole = history(make(*kept), devices, since="2025-12-01")
    assert whole["is_complete"].all()
    assert whole.attrs["koodrive"]["history_complete_from"] is None


def test_without_devices_what_needs_them_is_missing_and_not_zero(make):
    table = history(make({"device_create_time": LONG_AGO}), since="2D")
    missing = ["in_scope", "never", "compliance_share", "compliance_time_share", "in_scope_h"]
    assert table[missing].isna().all(axis=None)
    assert table["protected"].iloc[-1] == 1


def test_every_engine_gives_the_same_history(dirty, engine):
    records, devices = dirty(2)
    expected = history(records, devices, tz="Europe/Berlin")
    pd.testing.assert_frame_equal(history(engine(records), devices, tz="Europe/Berlin"), expected)


def test_nothing_to_tell_is_no_error_and_keeps_its_types(make, bind):
    nothing = make({}).head(0)
    whole, empty = history(make({}), bind({A: LONG_AGO})), history(nothing)
    assert list(empty.dtypes.items()) == list(whole.dtypes.items())
    assert len(empty) == 0
    assert history(nothing, bind({A: LONG_AGO}))["never"].iloc[-1] == 1
    assert len(history(make({}), bind({A: LONG_AGO}), since="2026-01-01")) == 0
    records = make({}, {"create_time": "2025-11-01T00:00Z"})
    assert len(history(records, bind({A: LONG_AGO}), since="2026-01-01")) == 0


def test_a_wrong_clock_does_not_stretch_it(make, bind):
    records = make({"create_time": "1970-01-01T00:00Z"}, {})
    assert len(history(records, bind({A: LONG_AGO}), since=None)) <= 1827


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rpo": "soon"}, "rpo= takes a positive duration"),
        ({"since": "soon"}, "since= takes an instant"),
        ({"since": "2025-12-02", "until": "2025-12-01"}, "since= must lie before until="),
    ],
)
def test_a_bad_argument_is_refused_with_what_it_takes(make, options, says):
    with pytest.raises(kd.InvalidParameterError, match=says):
        history(make({}), **options)
