import datetime as dt
import math

import narwhals as nw
import pandas as pd
import polars as pl
import pytest

import koodrive_nb as kd

HOUR_AGO = "2025-12-17T07:30Z"


def states(frame, **options):
    return list(kd.analysis.classify(frame, **options)["state"])


def test_the_state_follows_the_status_and_unknown_ones_stay_visible(make):
    frame = make(
        {"status_code": 1},
        {"status_code": 2},
        {"status_code": 3},
        {"status_code": None},
        {"status_code": 0, "create_time": HOUR_AGO},
    )
    assert states(frame) == ["completed", "to_be_deleted", "unknown", "unknown", "in_progress"]


def test_an_open_record_is_stuck_once_the_same_device_and_module_has_a_later_one(make):
    earlier = {"status_code": 0, "create_time": "2025-12-17T08:00Z"}
    later = {"status_code": 0, "create_time": "2025-12-17T08:10Z"}
    frame = kd.analysis.classify(make(earlier, later))
    assert list(frame["state"]) == ["stuck", "in_progress"]
    assert list(frame["stuck_reason"].astype("string").fillna("")) == ["superseded", ""]


@pytest.mark.parametrize(
    "other",
    [
        {"device_id": "2"},
        {"module": "folder"},
        {"user_id": "v"},
        {"create_time": "2025-12-17T07:00Z"},
        {"create_time": None},
    ],
    ids=["device", "module", "user", "earlier", "undated"],
)
def test_a_record_of_another_device_module_user_or_time_supersedes_nothing(make, other):
    mine = {"status_code": 0, "create_time": "2025-12-17T08:00Z"}
    assert states(make(mine, {"create_time": "2025-12-17T08:10Z"} | other))[0] == "in_progress"


def test_records_without_a_device_do_not_supersede_each_other(make):
    unknown = {"status_code": 0, "device_id": None, "device_name": None}
    frame = make(
        unknown | {"create_time": "2025-12-17T08:00Z"},
        unknown | {"create_time": "2025-12-17T08:10Z"},
    )
    assert states(frame) == ["in_progress", "in_progress"]


def test_what_ended_after_a_past_now_was_still_open_then(make):
    row = {"create_time": "2025-12-17T07:50Z", "end_time": "2025-12-17T08:10Z"}
    assert states(make(row)) == ["completed"]
    assert states(make(row), as_of="2025-12-17T08:00Z") == ["in_progress"]
    assert states(make(row), as_of="2025-12-17T08:10Z") == ["completed"]
    # A clock that is ahead is no reason to doubt that it completed.
    assert states(make(row | {"end_time": "2025-12-17T09:00Z"})) == ["completed"]


def test_a_record_after_as_of_supersedes_nothing_yet(make):
    frame = make(
        {"status_code": 0, "create_time": "2025-12-17T07:50Z"}, {"create_time": "2025-12-17T08:10Z"}
    )
    assert states(frame)[0] == "stuck"
    assert states(frame, as_of="2025-12-17T08:00Z")[0] == "in_progress"


@pytest.mark.parametrize(
    ("stuck_after", "state"),
    [
        ("2h", "in_progress"),
        ("30min", "stuck"),
        (dt.timedelta(minutes=59), "stuck"),
        (pd.Timedelta("61min"), "in_progress"),
        ({"album": "30min"}, "stuck"),
        ({"folder": "30min"}, "in_progress"),
        ("auto", "in_progress"),
    ],
    ids=str,
)
def test_an_open_record_is_stuck_when_it_is_older_than_the_limit_of_its_module(
    make, stuck_after, state
):
    frame = kd.analysis.classify(
        make({"status_code": 0, "create_time": HOUR_AGO}), stuck_after=stuck_after
    )
    assert list(frame["state"]) == [state]
    assert list(frame["stuck_reason"].astype("string").fillna("none")) == [
        "age" if state == "stuck" else "none"
    ]


@pytest.mark.parametrize(
    ("seconds", "n", "limit_s"),
    [(7200, 30, 21_600), (10, 30, 3600), (7200, 29, 86_400), (-5, 40, 86_400)],
    ids=["3 x p99", "at least 1 h", "few", "negative"],
)
def test_the_automatic_limit_is_three_times_p99_of_completed_durations(make, seconds, n, limit_s):
    rows = [
        {
            "device_id": str(number),
            "create_time": "2025-12-10T00:00Z",
            "end_time": pd.Timestamp("2025-12-10T00:00Z") + pd.Timedelta(seconds=seconds),
        }
        for number in range(n)
    ]
    frame = kd.analysis.classify(make(*rows))
    assert set(frame["stuck_after_s"]) == {limit_s}


def test_wrong_clocks_do_not_switch_the_automatic_limit_off(make):
    rows = [
        {
            "device_id": str(number),
            "create_time": "1970-01-01T00:00Z",
            "end_time": "2025-12-01T00:00Z",
        }
        for number in range(60)
    ]
    frame = kd.analysis.classify(make(*rows))
    assert set(frame["stuck_after_s"]) == {7 * 86_400}


def test_an_index_that_is_named_as_a_column_is_no_trouble(records):
    named = records.set_index(["record_id", "device_id"], drop=False)
    table = kd.analysis.status_breakdown(named)
    assert table["n"].tolist() == kd.analysis.status_breakdown(records)["n"].tolist()
    assert len(kd.analysis.timeline(named)) == len(kd.analysis.timeline(records))


def test_with_as_of_the_earlier_of_both_is_a_rows_now(make):
    frame = make({"fetched_at": "2025-12-10T00:00Z"}, {"fetched_at": "2025-12-12T00:00Z"})
    now = kd.analysis.classify(frame, as_of="2025-12-11T00:00Z")["as_of"]
    assert [str(stamp)[:10] for stamp in now] == ["2025-12-10", "2025-12-11"]


def test_a_classified_frame_is_never_classified_again(records):
    once = kd.analysis.classify(records)
    assert kd.analysis.classify(once) is once
    for options in ({"stuck_after": "1s"}, {"as_of": "2025-12-01"}):
        with pytest.raises(kd.InvalidParameterError, match="classified already"):
            kd.analysis.status_breakdown(once, **options)
    with pytest.raises(kd.InvalidParameterError, match=r"lacks the column.*stuck_after_s"):
        kd.analysis.classify(records.assign(state="fine"))
    album = once[once["module"] == "album"]
    again = kd.analysis.classify(album)
    assert list(again["state"]) == list(album["state"])


def test_rows_their_order_and_their_columns_stay(records):
    frame = kd.analysis.classify(records)
    pd.testing.assert_frame_equal(frame[records.columns], records)
    assert frame.attrs == records.attrs


@pytest.mark.parametrize(
    ("name", "identity", "label"),
    [
        ("Magic v3", "1775406005920779393", "Magic v3 ·9393"),
        ("  Magic v3 ", "1775406005920779393", "Magic v3 ·9393"),
        ("   ", "1775406005920779393", "(no name) ·9393"),
        (None, "1775406005920779393", "(no name) ·9393"),
        ("Magic v3", None, "(unknown device)"),
        ("手机 📱", "12", "手机 📱 ·12"),
        # Four characters of a pseudonym are not unique in a fleet.
        (None, "device-abcdefgh2345", "device-abcdefgh2345"),
        ("Magic v3", "device-abcdefgh2345", "Magic v3 ·2345"),
        (None, "device-backupserver1", "(no name) ·ver1"),
    ],
)
def test_the_device_label_is_name_and_last_four_digits(make, name, identity, label):
    frame = kd.analysis.classify(make({"device_name": name, "device_id": identity}))
    assert list(frame["device_label"]) == [label]


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("android", "android"),
        ("Android 14", "android"),
        ("HarmonyOS NEXT 5", "harmonyos"),
        ("iOS 18_2", "ios"),
        ("iPadOS 18", "ios"),
        ("Windows 11", "windows"),
        ("macOS 15", "macos"),
        ("Linux", "linux"),
        ("TempleOS", "other"),
        ("", "unknown"),
        ("Unknown", "unknown"),
        (None, "unknown"),
    ],
)
def test_free_text_systems_are_sorted_into_families(make, text, family):
    assert list(kd.analysis.classify(make({"device_os": text}))["os_family"]) == [family]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"as_of": "soon"}, "as_of= takes an instant"),
        ({"as_of": 20251217}, "as_of= takes an instant"),
        ({"as_of": pd.NaT}, "as_of= takes an instant"),
        ({"as_of": "now"}, "as_of= takes an instant"),
        ({"as_of": "9999-12-31"}, "as_of= takes an instant"),
        ({"as_of": pd.Timestamp.min}, "as_of= takes an instant"),
        ({"stuck_after": "long"}, "with its unit"),
        ({"stuck_after": "7"}, "with its unit"),
        ({"stuck_after": 7}, "with its unit"),
        ({"stuck_after": "-1h"}, "with its unit"),
        ({"stuck_after": {"photos": "1h"}}, "'photos', which is no module"),
        ({"stuck_after": {"album": "NaT"}}, r"stuck_after\['album'\]"),
    ],
    ids=str,
)
def test_unfit_options_are_refused_with_an_example(records, options, says):
    with pytest.raises(kd.InvalidParameterError, match=says):
        kd.analysis.classify(records, **options)


def test_what_is_no_frame_or_lacks_columns_is_refused_with_what_to_pass(records):
    with pytest.raises(kd.InvalidParameterError, match=r"client.records\(\) gives one"):
        kd.analysis.classify([1, 2])
    with pytest.raises(kd.InvalidParameterError, match=r"lacks the column.*status_code"):
        kd.analysis.classify(records.drop(columns="status_code"))
    with pytest.raises(kd.InvalidParameterError, match=r"lacks the column.*colour"):
        kd.analysis.status_breakdown(records, by="colour")
    for by in ([], 5, None, [["module"]], ["module", "module"], "n", "completed"):
        with pytest.raises(kd.InvalidParameterError, match="one or more different columns"):
            kd.analysis.status_breakdown(records, by=by)
    with pytest.raises(kd.InvalidParameterError, match="create_time have lost their type"):
        kd.analysis.classify(records.assign(create_time=records["create_time"].astype("string")))
    with pytest.raises(kd.InvalidParameterError, match="device_id have lost their type"):
        kd.analysis.classify(records.assign(device_id=1.8e18))


def test_states_add_up_and_settled_leaves_out_what_is_open_or_unknown(make):
    frame = make(
        {"status_code": 1},
        {"status_code": 2, "end_time": "2025-12-17T00:00Z"},
        {"status_code": 2},
        {"status_code": 0, "create_time": "2025-12-01T00:00Z"},
        {"status_code": 0, "create_time": "2025-12-17T08:29Z"},
        {"status_code": 9},
    )
    table = kd.analysis.status_breakdown(frame).set_index("module")
    row = table.loc["album"]
    assert row["n"] == 6
    assert list(row[["completed", "in_progress", "stuck", "to_be_deleted", "unknown"]]) == [
        1,
        1,
        1,
        2,
        1,
    ]
    assert list(row[["was_completed", "was_abandoned", "settled"]]) == [1, 1, 4]
    assert row["settled_share"] == 0.5
    assert list(table["n"]) == [0, 6, 0]
    assert math.isnan(table.loc["folder", "settled_share"])


def test_the_interval_is_wilsons(make):
    rows = [{"status_code": 1, "record_id": str(number)} for number in range(9)]
    rows.append({"status_code": 0, "create_time": "2025-12-01T00:00Z", "record_id": "9"})
    row = kd.analysis.status_breakdown(make(*rows)).set_index("module").loc["album"]
    # Newcombe 1998, method 3, for 9 of 10.
    assert row["settled_share"] == 0.9
    assert row["settled_share_lo"] == pytest.approx(0.5958, abs=5e-5)
    assert row["settled_share_hi"] == pytest.approx(0.9821, abs=5e-5)


def test_any_columns_make_groups_the_largest_first(records):
    table = kd.analysis.status_breakdown(records, by=["os_family", "module"])
    assert table["n"].is_monotonic_decreasing
    assert table["n"].sum() == len(records)
    assert list(table.columns[:3]) == ["os_family", "module", "n"]
    by_device = kd.analysis.status_breakdown(records, by="device_id")
    assert by_device["n"].sum() == len(records)
    assert by_device["device_id"].isna().sum() == 1


@pytest.mark.parametrize("by", ["module", "state", "status_code", ["user_id", "device_label"]])
def test_every_engine_gives_the_same_breakdown(records, engine, by):
    expected = kd.analysis.status_breakdown(records, by=by)
    pd.testing.assert_frame_equal(kd.analysis.status_breakdown(engine(records), by=by), expected)


def test_every_engine_gives_the_same_states_and_its_own_kind_of_frame(records, any_engine):
    moved = any_engine(records)
    native = kd.analysis.classify(moved, as_of="2025-12-16T00:00Z")
    assert type(native) is type(moved)
    found = nw.from_native(native).lazy().sort("record_id").collect("pyarrow").to_native()
    expected = kd.analysis.classify(records, as_of="2025-12-16T00:00Z").sort_values("record_id")
    for name in ("record_id", "state", "stuck_reason", "device_label", "os_family"):
        assert found[name].to_pylist() == [
            None if pd.isna(value) else value for value in expected[name]
        ]


def test_no_records_are_no_error(records):
    table = kd.analysis.status_breakdown(records.head(0))
    assert list(table["n"]) == [0, 0, 0]
    assert len(kd.analysis.status_breakdown(records.head(0), by="device_id")) == 0


def test_the_table_says_what_it_is_based_on(records):
    about = kd.analysis.status_breakdown(records, tz="Asia/Shanghai").attrs["koodrive"]
    assert about["n_records"] == len(records)
    assert (about["source"], about["complete"]) == ("sandbox", True)
    assert about["as_of"] == "2025-12-17T08:30:00+00:00"
    assert about["tz"] == "Asia/Shanghai"
    assert about["stuck_rule"].startswith("Stuck = open, with a later backup")
    assert "complete" not in kd.analysis.status_breakdown(pl.from_pandas(records)).attrs["koodrive"]


def test_what_a_past_now_could_not_know_is_left_out_of_the_counts(make):
    frame = make(
        {"create_time": "2025-10-01T00:00Z"},
        {"create_time": "2025-12-01T00:00Z"},
        {"create_time": "2099-01-01T00:00Z"},
    )
    table = kd.analysis.status_breakdown(frame, as_of="2025-11-01")
    assert table["n"].sum() == 2
    assert table.attrs["koodrive"]["n_later"] == 1
    assert kd.analysis.status_breakdown(frame)["n"].sum() == 3


def test_modules_unknown_here_do_not_supersede_each_other(make):
    rows = [
        {"module": "unknown", "module_code": code, "status_code": 0, "create_time": when}
        for code, when in (("103", "2025-12-17T08:00Z"), ("104", "2025-12-17T08:10Z"))
    ]
    assert states(make(*rows)) == ["in_progress", "in_progress"]


def test_a_missing_module_is_counted_as_unknown(make):
    table = kd.analysis.status_breakdown(make({"module": None}, {})).set_index("module")
    assert (table.loc["unknown", "n"], table.loc["album", "n"]) == (1, 1)


@pytest.mark.parametrize("by", [["module"], ["module", "os_family"]], ids=str)
def test_missing_and_unknown_modules_are_one_group_on_every_engine(make, engine, by):
    frame = make({"module": None, "status_code": 2}, {"module": "unknown"}, {"module": None}, {})
    expected = kd.analysis.status_breakdown(frame, by=by)
    unknown = expected[expected["module"] == "unknown"]
    assert unknown[["n", "completed", "was_abandoned"]].to_numpy().tolist() == [[3, 2, 1]]
    moved = engine(frame)
    pd.testing.assert_frame_equal(kd.analysis.status_breakdown(moved, by=by), expected)
    behind = kd.analysis.rows(frame, expected, int(unknown.index[0]))
    assert sorted(behind["record_id"]) == ["0", "1", "2"]


@pytest.mark.parametrize("key", ["state", "end_time"])
def test_what_is_counted_may_be_the_key_too(make, engine, key):
    ended = {"status_code": 2, "end_time": "2025-12-17T00:00Z"}
    table = kd.analysis.status_breakdown(engine(make(ended, ended, {"status_code": 2})), by=key)
    assert table["n"].sum() == 3
    assert (table["was_completed"].sum(), table["was_abandoned"].sum()) == (2, 1)


def test_the_source_is_read_from_the_rows_where_attrs_are_lost(records):
    about = kd.analysis.status_breakdown(pl.from_pandas(records)).attrs["koodrive"]
    assert about["source"] == "sandbox"


def test_classified_records_share_nothing_with_those_they_came_from(records):
    frame = kd.analysis.classify(records)
    frame.attrs["koodrive"]["complete"] = False
    assert records.attrs["koodrive"]["complete"] is True


def test_intervals_and_periods_make_groups_too(records):
    frame = records.assign(
        size=pd.cut(records["duration_s"], [0, 10, 100, 1e6]),
        month=records["create_time"].dt.tz_localize(None).dt.to_period("M"),
    )
    assert kd.analysis.status_breakdown(frame, by="size")["n"].sum() == len(records)
    months = kd.analysis.status_breakdown(frame, by="month")["month"]
    assert sorted(months) == ["2025-09", "2025-10", "2025-11", "2025-12"]
