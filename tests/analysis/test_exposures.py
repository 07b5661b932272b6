import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb.analysis.exposures import AGES, BUCKETS
from koodrive_nb.analysis.rules import CAUSES

A, B, C = "1000000000000000001", "1000000000000000002", "1000000000000000003"
LONG_AGO = "2025-06-01T00:00Z"


def buckets(records, devices=None, **options):
    return kd.analysis.exposure(records, devices, **options)


@pytest.mark.parametrize(
    ("when", "bucket"),
    [
        ("2025-12-16T08:30Z", "<=1 d"),
        ("2025-12-16T08:29Z", "1-3 d"),
        ("2025-12-10T08:30Z", "3-7 d"),
        ("2025-12-10T08:29Z", "7-14 d"),
        ("2025-09-18T08:30Z", "30-90 d"),
        ("2025-09-18T08:29Z", ">90 d"),
    ],
)
def test_a_device_is_in_the_bucket_of_its_newest_completed_backup(make, bind, when, bucket):
    records = make({"create_time": when}, {"create_time": "2025-07-01T00:00Z"})
    table = buckets(records, bind({A: LONG_AGO})).set_index("bucket")
    assert list(table.index[table["n"] == 1]) == [bucket]
    assert table.loc[bucket, "share"] == 1


def test_new_and_unbound_devices_are_told_but_in_no_share(make, bind):
    records = make({"device_id": "gone"}, {"device_id": B, "status_code": 0})
    devices = bind({A: "2025-12-16T00:00Z", B: LONG_AGO, C: LONG_AGO})
    table = buckets(records, devices).set_index("bucket")
    assert (table.loc["new", "n"], table.loc["unbound", "n"], table.loc["never", "n"]) == (1, 1, 2)
    assert set(table["of"]) == {2}
    assert table.loc["never", "share"] == 1
    assert table.loc[["new", "unbound"], "share"].isna().all()
    assert table.loc["never", ["attempts_stuck", "never_attempted"]].tolist() == [1, 1]
    about = table.attrs["koodrive"]
    assert (about["n_in_scope"], about["n_new"], about["n_unbound"]) == (2, 1, 1)


def test_without_devices_shares_and_never_are_missing_and_not_zero(make):
    records = make({"device_create_time": LONG_AGO})
    table = buckets(records).set_index("bucket")
    assert table.loc["<=1 d", "n"] == 1
    assert table[["of", "share", "cumulative_share"]].isna().all(axis=None)
    assert table.loc["never", ["n", *CAUSES]].isna().all()
    curve = buckets(records, kind="curve")
    assert curve[["of", "share"]].isna().all(axis=None)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("per", ["device", "module"])
def test_buckets_sum_to_the_devices_causes_to_the_exposed_and_shares_rise_to_one(dirty, seed, per):
    records, devices = dirty(seed)
    status = kd.analysis.protection_status(records, devices, per=per)
    table = buckets(records, devices, per=per)
    assert list(table["bucket"]) == list(BUCKETS)
    assert table["n"].sum() == len(status)
    assert table[table["share"].notna()]["n"].sum() == status["in_scope"].sum()
    assert table["share"].sum() == pytest.approx(1)
    assert table["cumulative_share"].dropna().is_monotonic_increasing
    exposed = table[table["age_from_h"].isna() | (table["age_from_h"] >= 168)]
    exposed = exposed[~exposed["bucket"].isin(["new", "unbound"])]
    assert exposed[list(CAUSES)].sum(axis=1).tolist() == exposed["n"].tolist()
    newest = buckets(records, devices, per=per, kind="curve")
    assert newest["share"].is_monotonic_increasing
    assert newest["share"].iloc[-1] == pytest.approx(table["cumulative_share"].dropna().iloc[-1])


def test_groups_are_those_of_the_devices(make, bind):
    records = make({"device_id": A}, {"device_id": B})
    devices = bind({A: LONG_AGO, B: LONG_AGO, C: LONG_AGO}).assign(region=["n", "s", "s"])
    table = buckets(records, devices, by="region")
    assert list(table.columns[:2]) == ["region", "bucket"]
    never = table[table["bucket"] == "never"].set_index("region")["share"]
    assert never.to_dict() == {"n": 0, "s": 0.5}
    both = buckets(records, devices, by=["region", "os_family"], kind="curve")
    assert list(both["region"]) == ["n", "s"]
    with pytest.raises(kd.InvalidParameterError, match="by= names planet"):
        buckets(records, devices, by="planet")


def test_the_curve_has_at_most_512_points_and_begins_and_ends_where_the_devices_do(make, bind):
    ages = {
        str(number): pd.Timestamp("2025-12-17T08:00Z") - pd.Timedelta(hours=number)
        for number in range(700)
    }
    records = make(*({"device_id": name, "create_time": at} for name, at in ages.items()))
    curve = buckets(records, bind(dict.fromkeys(ages, LONG_AGO)), kind="curve")
    assert len(curve) == 512
    assert (curve["age_h"].iloc[0], curve["age_h"].iloc[-1]) == (0.5, 699.5)
    assert (curve["share"].iloc[0], curve["share"].iloc[-1]) == (1 / 700, 1)
    for row in curve.sample(20, random_state=1).itertuples():
        assert row.n == row.age_h + 0.5


def test_every_engine_gives_the_same_exposure(dirty, engine):
    records, devices = dirty(3)
    moved = engine(records)
    for kind in ("buckets", "curve"):
        pd.testing.assert_frame_equal(
            buckets(moved, devices, kind=kind, by="os_family"),
            buckets(records, devices, kind=kind, by="os_family"),
        )


@pytest.mark.parametrize("hours", [6, 24])
def test_a_sweep_of_a_day_finds_the_same_share_as_one_instant(dirty, hours):
    records, devices = dirty(1, n=3000)
    now = records["fetched_at"].max()
    at_once = records.assign(fetched_at=now)
    users = {user: number for number, user in enumerate(sorted(set(records["user_id"])))}
    late = now - pd.to_timedelta(
        records["user_id"].map(users).astype("int64") * hours / 3, unit="h"
    )
    swept = records.assign(fetched_at=late.dt.as_unit("ms"))
    swept = swept[swept["create_time"] <= swept["fetched_at"]]
    begun = now - pd.Timedelta(hours=hours)
    shares = [
        buckets(frame, devices, as_of=begun)["cumulative_share"].tolist()
        for frame in (at_once[at_once["create_time"] <= now], swept)
    ]
    assert shares[0] == pytest.approx(shares[1], nan_ok=True)


def test_no_records_are_no_error_and_keep_their_types(make, bind):
    nothing = make({}).head(0)
    whole = buckets(make({}), bind({A: LONG_AGO}))
    empty = buckets(nothing, bind({A: LONG_AGO}))
    assert list(empty.dtypes.items()) == list(whole.dtypes.items())
    assert empty.set_index("bucket").loc["never", "share"] == 1
    assert buckets(nothing)["n"].fillna(0).sum() == 0
    for kind in ("buckets", "curve"):
        assert len(buckets(nothing, kind=kind, by="os_family")) == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kind": "pie"}, "kind= takes buckets, curve"),
        ({"per": "user"}, "per= takes device or module"),
        ({"by": "bucket"}, "by= takes one or more different columns"),
        ({"by": 5}, "by= takes one or more different columns"),
        ({"rpo": "-1D"}, "rpo= takes a positive duration"),
    ],
)
def test_a_bad_argument_is_refused_with_what_it_takes(make, options, says):
    with pytest.raises(kd.InvalidParameterError, match=says):
        buckets(make({}), **options)


def test_the_names_of_buckets_tell_their_edges():
    assert AGES == ("<=1 d", "1-3 d", "3-7 d", "7-14 d", "14-30 d", "30-90 d", ">90 d")
