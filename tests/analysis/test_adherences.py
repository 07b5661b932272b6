import duckdb
import pandas as pd
import polars as pl
import pytest

import koodrive_nb as kd

A, B = "1000000000000000001", "1000000000000000002"
LONG_AGO = "2025-06-01T00:00Z"


def days(records, devices=None, **options):
    return kd.analysis.adherence(records, devices, **options)


def cells(records, devices=None, **options):
    return kd.analysis.adherence(records, devices, per="device", **options)


def test_a_day_with_a_completed_backup_is_adhered_and_one_without_is_missed(make, bind):
    records = make(
        {"create_time": "2025-12-14T01:00Z"},
        {"create_time": "2025-12-14T02:00Z", "module": "folder"},
        {"create_time": "2025-12-15T01:00Z", "status_code": 0},
        {"create_time": "2025-12-16T01:00Z", "status_code": 2, "end_time": "2025-12-16T02:00Z"},
    )
    table = cells(records, bind({A: LONG_AGO}), since="2025-12-13")
    # What waits for deletion says of the days before that others may be gone already.
    assert table["cell"].tolist() == ["unknown", "adhered", "missed", "adhered", "running"]
    assert table["n"].tolist() == [0, 2, 1, 1, 0]
    assert table["completed"].tolist() == [0, 2, 0, 1, 0]


def test_neither_the_day_of_binding_nor_the_running_day_is_expected(make, bind):
    records = make({"create_time": "2025-12-15T10:00Z"}, {"create_time": "2025-12-17T01:00Z"})
    devices = bind({A: "2025-12-15T09:00Z"})
    table = cells(records, devices, since="2025-12-14")
    assert table["cell"].tolist() == ["not_expected", "not_expected", "missed", "running"]
    per_day = days(records, devices, since="2025-12-14")
    assert per_day["expected"].tolist() == [0, 0, 1, 0]
    assert per_day["adherence_share"].fillna(-1).tolist() == [-1, -1, 0, -1]


@pytest.mark.parametrize(
    ("tz", "day"), [("UTC", "2025-12-14T00:00Z"), ("Asia/Shanghai", "2025-12-14T16:00Z")]
)
def test_days_are_local_days(make, bind, tz, day):
    table = cells(make({"create_time": "2025-12-14T18:00Z"}), bind({A: LONG_AGO}), tz=tz)
    adhered = table[table["cell"] == "adhered"]
    assert adhered["bin_start"].tolist() == [pd.Timestamp(day)]
    assert adhered["bin_end"].tolist() == [pd.Timestamp(day) + pd.Timedelta("1D")]


def test_days_of_a_clock_change_are_23_and_25_hours_long(make, bind):
    for day, hours in (("2025-03-30", 23), ("2025-10-26", 25)):
        now = pd.Timestamp(f"{day}T12:00Z") + pd.Timedelta("3D")
        records = make({"create_time": f"{day}T21:30Z"}, now=now)
        table = cells(records, bind({A: "2024-01-01T00:00Z"}, now=now), tz="Europe/Berlin")
        adhered = table[table["cell"] == "adhered"]
        length = adhered["bin_end"] - adhered["bin_start"]
        assert length.tolist() == [pd.Timedelta(hours=hours)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tz", ["UTC", "America/New_York"])
def test_days_are_the_sums_of_their_cells_and_cells_are_what_the_records_say(dirty, seed, tz):
    records, devices = dirty(seed)
    table = cells(records, devices, tz=tz, max_devices=1000)
    per_day = days(records, devices, tz=tz).set_index("bin_start")
    counts = table.groupby(["bin_start", "cell"], observed=False).size().unstack()  # noqa: PD010 -- of counts, not of a frame
    for name in ("adhered", "missed", "unknown"):
        assert counts[name].tolist() == per_day[name].tolist()
    assert (per_day["expected"] == counts[["adhered", "missed", "unknown"]].sum(axis=1)).all()
    classified = kd.analysis.classify(records)
    for row in table[table["n"] > 0].sample(25, random_state=seed).itertuples():
        mine = classified[
            (classified["user_id"] == row.user_id)
            & (classified["device_id"] == row.device_id)
            & (classified["create_time"] >= row.bin_start)
            & (classified["create_time"] < row.bin_end)
        ]
        late = mine["create_time"] > mine["as_of"]
        assert row.n == (~late).sum() or row.cell == "running"


def test_the_devices_longest_without_a_completed_backup_come_first(make, bind):
    records = make({"create_time": "2025-12-16T00:00Z"}, {"device_id": B, "status_code": 0})
    devices = bind({A: LONG_AGO, B: "2025-07-01T00:00Z", "3": "2025-08-01T00:00Z"})
    table = cells(records, devices)
    assert list(dict.fromkeys(table["device_id"])) == [B, "3", A]
    few = cells(records, devices, max_devices=2)
    assert few["device_id"].nunique() == 2
    assert few.attrs["koodrive"]["n_devices_not_shown"] == 1


def test_of_too_many_devices_those_without_records_in_the_window_are_left_out_first(make, bind):
    records = make(
        {"create_time": "2025-07-01T00:00Z"},
        {"device_id": B, "create_time": "2025-12-16T00:00Z"},
    )
    devices = bind({A: LONG_AGO, B: LONG_AGO})
    shown = [set(cells(records, devices, max_devices=most)["device_id"]) for most in (1, 2)]
    assert shown == [{B}, {A, B}]


def test_devices_without_a_known_binding_or_no_longer_bound_are_left_out_and_counted(make, bind):
    records = make({"device_id": "gone"}, {"device_id": A})
    table = days(records, bind({A: LONG_AGO}))
    assert set(table["expected"]) <= {0, 1}
    assert table.attrs["koodrive"]["n_devices_left_out"] == 1
    assert days(records).attrs["koodrive"]["n_devices_left_out"] == 2


def test_without_devices_what_needs_them_is_missing_and_not_zero(make):
    records = make({"device_create_time": LONG_AGO, "create_time": "2025-12-16T00:00Z"})
    table = days(records)
    assert table[["expected", "missed", "adherence_share"]].isna().all(axis=None)
    assert table["adhered"].sum() == 1


def test_every_engine_gives_the_same_adherence(dirty, engine):
    records, devices = dirty(1)
    moved = engine(records)
    for per in ("day", "device"):
        options = {"per": per, "tz": "Europe/Berlin"}
        pd.testing.assert_frame_equal(
            days(moved, devices, **options), days(records, devices, **options)
        )


def test_nothing_to_tell_is_no_error_and_keeps_its_types(make, bind):
    nothing = make({}).head(0)
    for per in ("day", "device"):
        whole = days(make({}), bind({A: LONG_AGO}), per=per)
        empty = days(nothing, per=per)
        assert list(empty.dtypes.items()) == list(whole.dtypes.items())
        assert len(empty) == 0
        assert len(days(make({}), bind({A: LONG_AGO}), per=per, since="2026-01-01")) == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"per": "week"}, "per= takes day, device"),
        ({"max_devices": 0}, "max_devices= takes a whole number from 1 to 1,000"),
        ({"max_devices": True}, "max_devices= takes a whole number"),
        ({"since": "never"}, "since= takes an instant"),
    ],
)
def test_a_bad_argument_is_refused_with_what_it_takes(make, options, says):
    with pytest.raises(kd.InvalidParameterError, match=says):
        days(make({}), **options)


@pytest.mark.parametrize("ask", [kd.analysis.adherence, kd.analysis.exposure_history])
def test_an_engine_whose_session_is_not_in_utc_is_refused_with_the_mend(make, bind, ask):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'Asia/Shanghai'")
    connection.register("records", pl.from_pandas(make({})).to_arrow())
    with pytest.raises(kd.ConfigurationError, match="SET TimeZone = 'UTC'"):
        ask(connection.table("records"), bind({A: LONG_AGO}))
