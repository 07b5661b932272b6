import datetime as dt
import itertools
import warnings

import narwhals as nw
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import koodrive_nb as kd
from koodrive_nb.analysis import rules

SOME_FILTERS = [
    {},
    {"module": "album"},
    {"module": ["100", "album"], "state": ("completed", "stuck")},
    {"os_family": ["android", "ios"], "since": "2025-12-01"},
    {"since": "14D"},
    {"until": "2025-11-01", "since": "30D", "text": "MAGIC"},
    {"text": "手机"},
    {"device_id": []},
]


def ids(frame):
    plain = nw.from_native(frame).lazy().select("record_id").collect("pyarrow").to_native()
    return plain["record_id"].to_pylist()


@pytest.fixture
def few(make):
    """Four records that differ in all that can be asked for; the last says nothing of a device."""
    return make(
        {"record_id": "a", "device_id": "11", "device_name": "Mate 60", "device_os": "android"},
        {"record_id": "b", "device_id": "22", "module": "folder", "user_id": "v"},
        {
            "record_id": "c",
            "device_id": "33",
            "status_code": 2,
            "create_time": "2025-12-01T00:00Z",
            "device_os": "iOS 18_2",
            "machine_code": "Xy_7",
            "properties": '{"trigger":"auto"}',
        },
        {
            "record_id": "d",
            "status_code": None,
            "create_time": None,
            "device_id": None,
            "device_name": None,
            "module": None,
        },
    )


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, "abcd"),
        ({"module": "album"}, "ac"),
        ({"module": "100"}, "b"),
        ({"module": ["101", "folder"]}, "abc"),
        ({"module": "unknown"}, ""),
        ({"state": "completed"}, "ab"),
        pytest.param({"state": {"unknown", "to_be_deleted"}}, "cd", id="a set of states"),
        ({"device_id": "22"}, "b"),
        ({"device_id": pd.Series(["33", "11"])}, "ac"),
        ({"device_id": "nobody's"}, ""),
        ({"device_id": []}, ""),
        ({"user_id": "v"}, "b"),
        ({"os_family": ["ios"]}, "c"),
        ({"since": "2025-12-01T00:00Z"}, "abc"),
        ({"since": "2025-12-01T00:00:00.001Z"}, "ab"),
        ({"until": "2025-12-01T00:00Z"}, ""),
        ({"until": dt.datetime(2025, 12, 2, tzinfo=dt.UTC)}, "c"),
        ({"since": "2D"}, "ab"),
        ({"since": dt.timedelta(days=1), "until": "2025-12-01T12:00"}, "c"),
        ({"since": "2025-12-01T08:00", "tz": "Asia/Shanghai"}, "abc"),
        ({"since": "2025-12-01T08:00", "tz": "UTC"}, "ab"),
        ({"text": "MATE"}, "a"),
        ({"text": "18_"}, "c"),
        ({"text": "xY_7"}, "c"),
        ({"text": '"Trigger"'}, "c"),
        ({"text": "phone"}, "bc"),
        ({"text": "3"}, "c"),
        ({"text": "."}, ""),
        ({"text": "U"}, "acd"),
        ({"module": "album", "state": "completed", "text": "mate", "since": "7D"}, "a"),
        ({"module": "album", "user_id": "v"}, ""),
    ],
    ids=str,
)
def test_records_that_fit_all_that_is_asked_come_in_their_order(few, asked, found):
    assert ids(kd.analysis.select(few, **asked)) == list(found)


def test_a_filter_changes_no_state(make):
    open_album = {"status_code": 0, "create_time": "2025-12-17T08:00Z"}
    frame = make(open_album, open_album | {"create_time": "2025-12-17T08:10Z"})
    kept = kd.analysis.select(frame, until="2025-12-17T08:05Z")
    assert list(kept["state"]) == ["stuck"]
    # Cut first, nobody could know that a later backup superseded it.
    assert list(kd.analysis.classify(frame.head(1))["state"]) == ["in_progress"]
    table = kd.analysis.status_breakdown(kept).set_index("module")
    assert table.loc["album", "stuck"] == 1


@pytest.mark.parametrize("asked", SOME_FILTERS, ids=str)
def test_every_state_is_that_of_the_whole_frame(records, asked):
    whole = kd.analysis.classify(records)
    kept = kd.analysis.select(records, **asked)
    pd.testing.assert_frame_equal(kept, whole.loc[kept.index])
    assert kept.attrs == records.attrs


@given(data=st.data())
@settings(deadline=None, max_examples=30)
def test_the_order_of_filters_does_not_matter(records, data):
    asked = {
        "module": st.sampled_from(["album", "folder", ["101", "102"]]),
        "state": st.sampled_from(["completed", ["stuck", "to_be_deleted"]]),
        "os_family": st.sampled_from(["android", ["ios", "harmonyos"]]),
        "device_id": st.lists(st.sampled_from(sorted(records["device_id"].dropna().unique()))),
        "since": st.sampled_from(["2025-10-01", "2025-12-01"]),
        "until": st.sampled_from(["2025-12-02", "2025-12-17T08:00Z"]),
        "text": st.sampled_from(["magic", "1", "手", "none such"]),
    }
    names = data.draw(st.lists(st.sampled_from(sorted(asked)), unique=True, max_size=4))
    given_ = {name: data.draw(asked[name]) for name in names}
    at_once = kd.analysis.select(records, **given_)
    for order in itertools.islice(itertools.permutations(given_), 3):
        kept = kd.analysis.classify(records)
        for name in order:
            kept = kd.analysis.select(kept, **{name: given_[name]})
        pd.testing.assert_frame_equal(kept, at_once)


@pytest.mark.parametrize("asked", [SOME_FILTERS[2], SOME_FILTERS[5], SOME_FILTERS[7]], ids=str)
def test_every_engine_keeps_the_same_records_in_its_own_kind_of_frame(records, engine, asked):
    moved = engine(records)
    kept = kd.analysis.select(moved, as_of="2025-12-16T00:00Z", **asked)
    assert type(kept) is type(moved)
    expected = kd.analysis.select(records, as_of="2025-12-16T00:00Z", **asked)
    if nw.from_native(moved).implementation.is_polars():
        assert ids(kept) == ids(expected)
    assert sorted(ids(kept)) == sorted(ids(expected))


@pytest.fixture
def judged(make, bind):
    """Two users with a device of the same id, one whose id is unlike, and what nobody judges."""
    old = "2025-11-01T00:00Z"
    records = make(
        {"record_id": "a", "device_id": "1"},
        {"record_id": "b", "device_id": "1", "create_time": None},
        {"record_id": "c", "device_id": "1", "user_id": "v", "create_time": old},
        {"record_id": "d", "device_id": "1", "user_id": "w", "create_time": None},
        {"record_id": "e", "device_id": "2", "status_code": 0, "create_time": old},
        {"record_id": "f", "device_id": "3"},
        {"record_id": "g", "device_id": None, "device_name": None},
        {"record_id": "h", "device_id": "4", "status_code": 0},
        {"record_id": "i", "device_id": "5", "create_time": "2025-12-18T00:00Z"},
    )
    long_ago = dict.fromkeys(["1", "2", "5", "silent"], "2025-01-01T00:00Z")
    of_v = bind({"1": "2025-01-01T00:00Z"}, user_id="v")
    return records, pd.concat([bind(long_ago | {"4": "2025-12-15T00:00Z"}), of_v])


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"protection": "protected"}, "ab"),
        ({"protection": "outdated"}, "c"),
        ({"protection": ["outdated", "never"]}, "cei"),
        ({"protection": "unbound"}, "f"),
        ({"protection": "initial_pending"}, "h"),
        ({"protection": rules.PROTECTION}, "abcefhi"),
        ({"protection": []}, ""),
        ({"cause": "no_attempt"}, "c"),
        pytest.param({"cause": {"attempts_stuck", "new"}}, "eh", id="a set of causes"),
        ({"cause": "never_attempted"}, "i"),
        ({"cause": rules.CAUSES}, "cehi"),
        ({"cause": []}, ""),
        ({"protection": "never", "cause": "no_attempt"}, ""),
        ({"protection": ["never", "protected"], "state": "completed", "until": "2025-12-17"}, "a"),
        ({"protection": "outdated", "since": "7D"}, ""),
    ],
    ids=str,
)
def test_records_are_kept_by_how_their_device_is_protected(judged, engine, asked, found):
    records, devices = judged
    assert ids(kd.analysis.select(records, devices=devices, **asked)) == list(found)
    kept = kd.analysis.select(engine(records), devices=devices, **asked)
    assert sorted(ids(kept)) == list(found)


def test_without_devices_none_is_unbound_and_none_was_bound_lately(judged):
    records, _ = judged
    assert ids(kd.analysis.select(records, protection="unbound")) == []
    assert ids(kd.analysis.select(records, protection="protected")) == list("abf")
    # What has no place in time is of no device that anybody knows then.
    assert ids(kd.analysis.select(records, protection=rules.PROTECTION)) == list("abcefh")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_each_record_of_a_device_with_a_place_in_time_is_in_one_state_of_protection(dirty, seed):
    records, devices = dirty(seed)
    whole = kd.analysis.classify(records)
    table = kd.analysis.protection_status(whole, devices).set_index(["user_id", "device_id"])
    expected = {name: [] for name in rules.PROTECTION}
    for user, device, record in zip(
        whole["user_id"], whole["device_id"], whole["record_id"], strict=True
    ):
        if (user, device) in table.index:
            expected[table.loc[(user, device), "state"]].append(record)
    found = {
        name: ids(kd.analysis.select(whole, protection=name, devices=devices))
        for name in rules.PROTECTION
    }
    assert found == expected
    known = whole["create_time"] <= whole["as_of"] + pd.Timedelta("5min")
    placed = whole["record_id"][known & whole["device_id"].notna()]
    kept = sorted(itertools.chain.from_iterable(found.values()))
    assert len(set(kept)) == len(kept)
    assert set(placed) <= set(kept)
    assert len(kept) < len(whole)


def test_at_a_past_now_devices_are_judged_as_of_then(dirty):
    records, devices = dirty()
    then = "2025-12-10T00:00Z"
    table = kd.analysis.protection_status(records, devices, as_of=then)
    for name in ("protected", "unbound", "late"):
        kept = kd.analysis.select(records, protection=name, devices=devices, as_of=then)
        mine = table[table["state"] == name]
        assert set(kept["device_id"]) == set(mine.loc[mine["n"] > 0, "device_id"])


@pytest.mark.parametrize("sign", ["", "-", "\x1f", "\x1f !"])
def test_no_other_two_ids_are_taken_for_a_device(make, sign):
    old = "2025-11-01T00:00Z"
    frame = make(
        {"user_id": f"a{sign}b", "device_id": "c", "record_id": "mine"},
        {"user_id": "a", "device_id": f"b{sign}c", "record_id": "other", "create_time": old},
    )
    assert ids(kd.analysis.select(frame, protection="protected")) == ["mine"]
    assert ids(kd.analysis.select(frame, protection="outdated")) == ["other"]


def test_devices_may_come_from_another_engine(judged, engine):
    records, devices = judged
    expected = kd.analysis.select(records, protection="unbound", devices=devices)
    found = kd.analysis.select(records, protection="unbound", devices=engine(devices))
    pd.testing.assert_frame_equal(found, expected)


def test_nothing_found_is_an_empty_frame_with_all_columns(records):
    whole = kd.analysis.classify(records)
    for nothing in (kd.analysis.select(records, text="none such"), records.head(0)):
        found = kd.analysis.select(nothing, module="album", since="7D", text="手")
        assert len(found) == 0
        pd.testing.assert_series_equal(found.dtypes, whole.dtypes)


def test_text_that_a_record_holds_finds_it_in_any_script(make, engine):
    names = ["İPhone", "ΟΔΟΣ", "Straße", "手机 📱", "a.*(b", "100%_", "кот"]
    frame = make(*({"device_name": name, "record_id": name} for name in names))
    moved = engine(frame)
    for name in names:
        assert name in ids(kd.analysis.select(moved, text=name))
    assert ids(kd.analysis.select(moved, text="КОТ")) == ["кот"]


def test_a_selection_can_be_changed_without_touching_the_records(records):
    whole = kd.analysis.classify(records)
    for asked in ({}, {"module": "album"}):
        kept = kd.analysis.select(whole, **asked)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            kept["note"] = "mine"
        kept.attrs["koodrive"]["complete"] = False
    assert "note" not in whole
    assert whole.attrs["koodrive"]["complete"] is True


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"module": "photos"}, "folder, album, address_book, unknown, 100, 101, 102.*'photos'"),
        ({"module": 101}, "not 101"),
        ({"module": ["album", None]}, "not None"),
        ({"state": "failed"}, "completed, in_progress, stuck, to_be_deleted, unknown"),
        ({"os_family": "Android"}, "android, harmonyos"),
        ({"protection": "stuck"}, "never, deleting, outdated, late, warning.*'stuck'"),
        ({"protection": ["late", 7]}, "protection= takes.*not 7"),
        ({"cause": "purged"}, "attempts_stuck, no_attempt, never_attempted.*'purged'"),
        ({"devices": [1]}, "Pass devices as a pandas.*list"),
        ({"devices": pd.DataFrame({"device_id": ["1"]})}, r"lacks.*user_id.*client.devices\(\)"),
        ({"device_id": 1842812272691451648}, "device_id= takes ids as text"),
        ({"device_id": ["1", pd.NA]}, "not <NA>"),
        ({"device_id": b"1"}, "device_id= takes ids as text"),
        ({"device_id": {"1": 2}}, "device_id= takes ids as text"),
        ({"device_id": "\ud800"}, "device_id= takes ids as text"),
        ({"user_id": 1.5}, "user_id= takes ids as text"),
        ({"text": ""}, "nothing to keep all records"),
        ({"text": 5}, "text= takes the text"),
        ({"text": "\udc00"}, "text= takes the text"),
        ({"since": "lately"}, "since= takes an instant"),
        ({"since": "-2D"}, "since= takes an instant"),
        ({"until": "7D"}, "until= takes an instant"),
        ({"since": "2025-12-02", "until": "2025-12-01"}, "before until="),
        ({"tz": "Mars"}, "Mars"),
        ({"as_of": "soon"}, "as_of= takes an instant"),
        ({"stuck_after": 7}, "with its unit"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_refused_with_what_can(records, asked, says):
    with pytest.raises(kd.InvalidParameterError, match=says):
        kd.analysis.select(records, **asked)


def test_records_that_lack_what_is_searched_are_refused(records):
    with pytest.raises(kd.InvalidParameterError, match=r"lacks the column.*properties"):
        kd.analysis.select(records.drop(columns="properties"), text="auto")
    assert len(kd.analysis.select(records.drop(columns="properties"))) == len(records)
    with pytest.raises(kd.InvalidParameterError, match=r"lacks the column.*device_create_time"):
        kd.analysis.select(records.drop(columns="device_create_time"), cause="new")
    with pytest.raises(kd.InvalidParameterError, match="classified already"):
        kd.analysis.select(kd.analysis.classify(records), stuck_after="1h")
