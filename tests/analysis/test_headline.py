import math

import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb.analysis.windows import Window

KPIS = ["protected", "protected_time", "settled", "never", "stuck", "last_copy_at_risk"]
OF_DEVICES = [kpi for kpi in KPIS if kpi != "settled"]
LONG_AGO = "2025-06-01T00:00Z"
WEEK = ("2025-12-10T08:30Z", "2025-12-17T08:30Z")
DAY = pd.Timedelta("1D")


def headline(records, devices=None, **options):
    table = kd.analysis.headline(records, devices, **{"window": WEEK} | options)
    assert list(table["kpi"]) == KPIS
    return table.set_index("kpi")


def done(when, device, **more):
    return {
        "create_time": when,
        "end_time": pd.Timestamp(when) + pd.Timedelta("1min"),
        "device_id": device,
    } | more


@pytest.fixture
def fleet(make, bind):
    """Make 40 devices: 20 are protected now and 10 a week ago, the others have never been."""
    ids = [f"10000000000000000{number}" for number in range(10, 50)]
    rows = [done("2025-12-12T00:00Z", device) for device in ids[:20]]
    rows += [done("2025-12-05T00:00Z", device) for device in ids[:10]]
    return make(*rows), bind(dict.fromkeys(ids, LONG_AGO))


def walked(records, devices, start, end, now):
    """Count plainly, half hour by half hour, what a headline counts of one window."""
    classified = kd.analysis.classify(records)
    at = min(end, now)
    in_scope = protected = never = known = 0
    minutes = [0, 0]
    step = pd.Timedelta("30min")
    for device in devices.itertuples():
        mine = classified[
            (classified["user_id"] == device.user_id)
            & (classified["device_id"] == device.device_id)
            & (classified["create_time"] <= now)
        ]
        gone = (mine["state"] == "to_be_deleted") & mine["end_time"].notna()
        points = sorted(mine.loc[(mine["state"] == "completed") | gone, "create_time"])
        known += device.device_create_time <= at
        enters = device.device_create_time + 7 * DAY
        instant = start + step / 2
        while instant < at:
            if enters <= instant:
                minutes[1] += 1
                minutes[0] += any(instant - 7 * DAY <= point <= instant for point in points)
            instant += step
        if enters <= at:
            in_scope += 1
            protected += any(at - 7 * DAY <= point <= at for point in points)
            never += not any(point <= at for point in points)
    created = classified[
        (classified["create_time"] >= start)
        & (classified["create_time"] < end)
        & (classified["create_time"] <= now)
    ]
    has_end = created["end_time"].notna()
    is_gone = created["state"] == "to_be_deleted"
    well = int(((created["state"] == "completed") | (is_gone & has_end)).sum())
    ill = int(((created["state"] == "stuck") | (is_gone & ~has_end)).sum())
    return {
        "protected": (protected, in_scope),
        "never": (never, in_scope),
        "settled": (well, well + ill),
        "protected_time": minutes[0] / minutes[1],
        "excluded": known - in_scope,
        "open": len(created) - well - ill,
    }


@pytest.mark.parametrize("seed", range(2))
def test_every_number_is_that_of_a_plain_walk_over_every_device(dirty, seed):
    records, devices = dirty(seed, n=200)
    now = records["fetched_at"].max()
    records["fetched_at"] = devices["fetched_at"] = now
    records = records[~(records["create_time"] > now)]
    is_bound = records["device_id"].isin(devices["device_id"]) | records["device_id"].isna()
    records = records[is_bound].reset_index(drop=True)
    week = Window.read("2025-W51", "window", "UTC")
    table = headline(records, devices, window="2025-W51")
    plain = walked(records, devices, week.start, week.end, now)
    before = walked(records, devices, week.start - 7 * DAY, week.start, now)
    for kpi in ("protected", "never", "settled"):
        row = table.loc[kpi]
        assert (row["numerator"], row["denominator"]) == plain[kpi], kpi
        assert row["value"] == pytest.approx(plain[kpi][0] / plain[kpi][1])
        assert row["previous"] == pytest.approx(before[kpi][0] / before[kpi][1])
    assert table.loc["protected_time", "value"] == pytest.approx(plain["protected_time"], abs=0.02)
    assert table.loc["protected_time", "previous"] == pytest.approx(
        before["protected_time"], abs=0.02
    )
    assert table.loc["protected", "excluded"] == plain["excluded"]
    assert table.loc["settled", "excluded"] == plain["open"]
    status = kd.analysis.protection_status(records, devices)
    judged = status[status["in_scope"]]
    assert table.loc["stuck", "numerator"] == (judged["stuck_in_a_row"] > 0).sum()
    assert table.loc["last_copy_at_risk", "numerator"] == (judged["state"] == "deleting").sum()
    assert (table.loc[["stuck", "last_copy_at_risk"], "denominator"] == len(judged)).all()


def test_a_change_is_in_percentage_points_and_the_interval_is_wilsons(fleet):
    table = headline(*fleet)
    row = table.loc["protected"]
    assert (row["value"], row["previous"], row["change_pp"]) == (0.5, 0.25, 25)
    assert row["comparable"]
    # Of 20 in 40, by the formula of Wilson worked out by hand.
    assert (row["lo"], row["hi"]) == pytest.approx((0.35200, 0.64800), abs=1e-4)
    assert table.loc["protected_time", ["lo", "hi"]].isna().all()
    assert table.loc["never", ["value", "previous"]].tolist() == [0.5, 0.75]


def test_without_devices_shares_of_them_are_missing_and_not_0(fleet):
    table = headline(fleet[0])
    assert table.loc[OF_DEVICES, ["value", "previous", "denominator"]].isna().all(axis=None)
    assert set(table.loc[OF_DEVICES, "why_not"]) == {"no list of devices was given"}
    assert table.loc["settled", "value"] == 1


def test_nothing_to_judge_is_no_error_and_no_zero(make, bind):
    nothing = make({}).head(0)
    table = headline(nothing, bind({}))
    assert table[["value", "previous", "change_pp"]].isna().all(axis=None)
    assert table["why_not"].str.contains("to judge").all()
    silent = headline(nothing, bind(dict.fromkeys(map(str, range(20)), LONG_AGO)))
    assert silent.loc["never", ["value", "comparable"]].tolist() == [1, True]


def test_a_few_are_not_compared(make, bind):
    ids = list(map(str, range(19)))
    table = headline(make({"device_id": "1"}), bind(dict.fromkeys(ids, LONG_AGO)))
    assert not table["comparable"].any()
    assert table.loc["protected", "why_not"] == "fewer than 20 devices"
    assert table["change_pp"].isna().all()


def test_what_may_be_purged_is_not_compared(fleet):
    records, devices = fleet
    records["status_code"] = records["status_code"].mask(
        records["create_time"] == pd.Timestamp("2025-12-05T00:00Z"), 2
    )
    records.loc[0, "status_code"] = 2
    table = headline(records, devices)
    assert table.loc["protected", "comparable"]
    for kpi in ("protected_time", "settled"):
        assert "complete only from 2025-12-05 00:00 UTC" in table.loc[kpi, "why_not"], kpi
        assert math.isnan(table.loc[kpi, "change_pp"])


def test_what_may_be_purged_by_now_is_taken_from_what_was_published(fleet):
    records, devices = fleet
    before = publish(headline(records, devices, window=("2025-12-03T08:30Z", "2025-12-10T08:30Z")))
    records.loc[records["create_time"] < pd.Timestamp("2025-12-10T00:00Z"), "status_code"] = 2
    records["create_time"] = records["create_time"].mask(
        records["status_code"] == 2, pd.Timestamp("2025-12-06T00:00Z")
    )
    assert not headline(records, devices).loc["protected_time", "comparable"]
    row = headline(records, devices, published=before.assign(value=0.25)).loc["protected_time"]
    assert (row["comparable"], row["previous"]) == (True, 0.25)


def test_who_was_bound_after_the_window_is_not_left_out_of_it(fleet, bind):
    records, devices = fleet
    young = {"2": "2025-12-09T08:30Z", "3": "2025-12-16T08:30Z"}
    more = pd.concat([devices, bind(young)], ignore_index=True)
    assert headline(records, more).loc["never", "excluded"] == 1
    window = ("2025-12-08T08:30Z", "2025-12-15T08:30Z")
    assert headline(records, more, window=window).loc["never", "excluded"] == 1
    assert headline(records, devices, window=window).loc["never", "excluded"] == 0


def test_statuses_of_now_say_nothing_of_a_window_that_is_long_gone(fleet):
    now, gone = ["stuck", "last_copy_at_risk"], ("2025-11-20T00:00Z", "2025-11-27T00:00Z")
    assert headline(*fleet).loc[now, "value"].notna().all()
    table = headline(*fleet, window=gone)
    assert table.loc[now, "value"].isna().all()
    assert set(table.loc[now, "why_not"]) == {"only the status as of the fetch is known"}


def publish(table):
    return table.reset_index().assign(published_at=pd.Timestamp("2025-12-10T12:00Z"))


def test_what_was_published_of_this_window_stands_beside_what_is_known_today(fleet):
    records, devices = fleet
    old = publish(headline(records, devices)).assign(value=0.25)
    newer = old.assign(value=0.75, published_at=pd.Timestamp("2025-12-11T12:00Z"))
    row = headline(records, devices, published=pd.concat([newer, old])).loc["protected"]
    assert (row["value"], row["published"]) == (0.5, 0.75)
    assert row["published_at"] == pd.Timestamp("2025-12-11T12:00Z")


def test_a_window_that_was_published_by_another_definition_is_not_compared(fleet):
    before = publish(headline(*fleet, window=("2025-12-03T08:30Z", "2025-12-10T08:30Z")))
    table = headline(*fleet, published=before, rpo="5D")
    row = table.loc["protected"]
    assert (row["comparable"], row["why_not"]) == (False, "RPO 7 d -> 5 d")
    assert (row["previous"], math.isnan(row["change_pp"])) == (0.25, True)
    assert pd.isna(row["published"])
    assert table.loc["never", "comparable"]


def test_what_is_known_no_longer_is_taken_from_what_was_published(fleet):
    before = publish(headline(*fleet, window=("2025-12-03T08:30Z", "2025-12-10T08:30Z")))
    before["value"] = before["value"].fillna(0.125)
    # As text, as it is after JSON.
    before = before.astype(dict.fromkeys(("window_start", "window_end", "published_at"), str))
    table = headline(*fleet, published=before)
    stuck = table.loc["stuck"]
    assert (stuck["comparable"], stuck["previous"]) == (True, before["value"].iloc[4])
    assert table.loc["protected", "previous"] == 0.25


def test_a_definition_names_all_that_decides_its_number(fleet):
    plain = headline(*fleet)["definition"]
    decides = {
        "rpo": ("5D", {"protected", "protected_time"}),
        "grace": ("3D", set(OF_DEVICES)),
        "tz": ("Asia/Shanghai", {"protected", "protected_time", "settled", "never"}),
        "stuck_after": ("6h", {"settled", "stuck"}),
        "window": (("2025-12-11T08:30Z", WEEK[1]), {"protected_time", "settled"}),
    }
    for name, (value, kpis) in decides.items():
        other = headline(*fleet, **{name: value})["definition"]
        assert set(plain.index[plain != other]) == kpis, name
    limits = {"stuck_after": {"album": "6h"}}
    assert "stuck = album 6 h, others auto" in headline(*fleet, **limits)["definition"]["stuck"]
    classified = kd.analysis.classify(fleet[0], stuck_after="6h")
    assert "stuck = as classified" in headline(classified, fleet[1])["definition"]["stuck"]


def test_a_week_is_a_local_one_whatever_the_clocks_do(fleet):
    week = Window.read("2025-W44", "window", "Europe/Berlin")
    assert week.start == pd.Timestamp("2025-10-26T23:00Z")
    before = week.before("Europe/Berlin")
    assert before.start == pd.Timestamp("2025-10-19T22:00Z")
    assert before.end == week.start
    pair = Window.read(("2025-10-27", "2025-11-03"), "window", "Europe/Berlin")
    assert pair == week
    repeated = ("2025-10-26T00:30Z", "2025-10-26T01:15Z")
    assert Window.read(repeated, "window", "Europe/Berlin").length == pd.Timedelta("45min")
    table = headline(*fleet, window="2025-W50", previous="2025-W40", tz="Asia/Shanghai")
    assert table["window_start"].iloc[0] == pd.Timestamp("2025-12-07T16:00Z")
    assert table.attrs["koodrive"]["previous_end"] == "2025-10-05T16:00:00+00:00"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"window": "2025-W54"}, "a week that there is not"),
        ({"window": "last week"}, "window= takes an ISO week"),
        ({"window": ("2025-12-10",)}, "window= takes an ISO week"),
        ({"window": (1, 2)}, "window= takes an instant"),
        ({"window": ("2025-12-15", "2025-12-08")}, "window= must begin before it ends"),
        ({"window": "2026-W10"}, "window= begins after the fetch"),
        ({"previous": "x"}, "previous= takes an ISO week"),
        ({"previous": "2025-W51"}, "previous= must be over when window= begins"),
        ({"rpo": "7"}, "rpo= takes a positive duration"),
        ({"users": pd.DataFrame({"x": [1]})}, "users= takes the users"),
        ({"published": [1]}, "published= takes a DataFrame"),
        ({"published": pd.DataFrame({"kpi": ["x"]})}, "published= lacks the column"),
    ],
)
def test_a_bad_argument_is_refused_with_what_it_takes(fleet, options, says):
    with pytest.raises(kd.InvalidParameterError, match=says):
        headline(*fleet, **options)


def test_published_rows_that_have_lost_their_types_are_refused(fleet):
    broken = publish(headline(*fleet)).assign(window_start="soon")
    with pytest.raises(kd.InvalidParameterError, match="no times, numbers or text"):
        headline(*fleet, published=broken)
