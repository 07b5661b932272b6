import math

import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb.analysis.holdings import complete_from

NOW = pd.Timestamp("2025-12-17T08:30Z")
WEEK = pd.Timedelta("7D")
ENDED = "2025-12-10T11:00Z"


def backlog(*frames, **options):
    return kd.analysis.deletion_backlog(*frames, **options)


def of(table, module):
    return table[table["module"] == module].iloc[0]


def all_bound(frame):
    """Give the devices of records as if each were bound."""
    known = frame.drop_duplicates(["user_id", "device_id"]).dropna(subset="device_id")
    return known[["user_id", "device_id", "device_name", "device_create_time", "fetched_at"]]


def earlier(frame):
    """Give a frame as if it had been fetched a week before."""
    return frame.assign(fetched_at=(frame["fetched_at"] - WEEK).astype(frame["fetched_at"].dtype))


def test_what_waits_is_split_by_whether_it_had_completed(make):
    frame = make(
        {"create_time": "2025-12-10T10:00Z", "end_time": ENDED, "status_code": 2},
        {"create_time": "2025-12-10T10:00Z", "end_time": ENDED, "status_code": 2},
        {"create_time": "2025-12-09T10:00Z", "status_code": 2},
        {"create_time": "2025-12-11T10:00Z", "end_time": "2025-12-11T11:00Z"},
        {"status_code": 0},
    )
    table = backlog(frame, all_bound(frame))
    assert list(table["module"]) == ["folder", "album", "address_book"]
    row = of(table, "album")
    counted = ["n", "copies", "to_be_deleted", "was_completed", "was_abandoned"]
    assert list(row[counted]) == [5, 1, 3, 2, 1]
    assert row["waiting_share"] == 3 / 5
    assert (row["n_devices"], row["n_last_copy_at_risk"]) == (1, 0)
    assert math.isnan(of(table, "folder")["waiting_share"])


def test_a_last_copy_is_at_risk_where_all_completed_ones_of_the_module_wait(make):
    gone = {"create_time": "2025-12-10T10:00Z", "end_time": ENDED, "status_code": 2}
    kept = {"create_time": "2025-12-11T10:00Z", "end_time": "2025-12-11T11:00Z"}
    frame = make(
        gone | {"device_id": "1"},
        gone | {"device_id": "1", "status_code": 0},
        gone | {"device_id": "2"},
        kept | {"device_id": "2"},
        kept | {"device_id": "1", "module": "folder"},
        # Never had a copy: none is at risk.
        {"create_time": "2025-12-10T10:00Z", "status_code": 2, "device_id": "3"},
        gone | {"device_id": None},
    )
    devices = all_bound(frame)
    album = of(backlog(frame, devices), "album")
    assert (album["n_devices"], album["n_last_copy_at_risk"]) == (3, 1)
    assert of(backlog(frame, devices), "folder")["n_last_copy_at_risk"] == 0
    # As one device it has a folder left.
    assert backlog(frame, devices, by="source")["n_last_copy_at_risk"].sum() == 0


def test_a_device_that_was_renamed_keeps_its_copies_in_both_groups(make):
    gone = {"create_time": "2025-12-10T10:00Z", "end_time": ENDED, "status_code": 2}
    kept = {"create_time": "2025-12-11T10:00Z", "end_time": "2025-12-11T11:00Z"}
    frame = make(gone | {"device_os": "iOS 18_1"}, kept | {"device_os": "iOS 18_2"})
    table = backlog(frame, all_bound(frame), by="device_os")
    assert list(table["n_devices"]) == [1, 1]
    assert list(table["n_last_copy_at_risk"]) == [0, 0]


def test_devices_that_are_not_bound_any_more_have_no_last_copy_to_lose(make, bind):
    gone = {"create_time": "2025-12-10T10:00Z", "end_time": ENDED, "status_code": 2}
    frame = make(gone | {"device_id": "1"}, gone | {"device_id": "2"})
    devices = bind({"1": "2025-01-01T00:00Z"})
    table = backlog(frame, devices)
    assert tuple(of(table, "album")[["n", "n_devices", "n_last_copy_at_risk"]]) == (2, 1, 1)
    assert table.attrs["koodrive"]["n_unbound"] == 1


def test_without_the_list_of_devices_what_hangs_on_it_is_missing_and_not_0(make, bind):
    frame = make({"end_time": "2025-12-17T00:00Z", "status_code": 2})
    without, known = backlog(frame), backlog(frame, bind({"1": "2025-01-01T00:00Z"}))
    of_devices = ["n_devices", "n_last_copy_at_risk"]
    assert without[of_devices].isna().all(axis=None)
    assert (known[of_devices] == 0).all(axis=None)
    assert list(without.dtypes) == list(known.dtypes)
    assert without.attrs["koodrive"]["n_unbound"] is None
    assert known.attrs["koodrive"]["n_unbound"] == 1
    others = without.columns.difference(of_devices)
    pd.testing.assert_frame_equal(without[others], known[others])


def test_it_agrees_with_how_the_modules_of_devices_are_protected(dirty):
    records, devices = dirty(6, n=30)
    status = kd.analysis.protection_status(records, devices, per="module")
    # Whatever the grace: what is too new to be judged may lose its copy as well.
    at_risk = status[(status["n_completed"] == 0) & (status["n_deleting"] > 0)]
    at_risk = at_risk[at_risk["state"] != "unbound"].groupby("module").size()
    table = backlog(records, devices).set_index("module")
    assert at_risk.sum() > 0
    for module in table.index:
        assert table["n_last_copy_at_risk"][module] == at_risk.get(module, 0)


def test_history_is_complete_from_where_that_of_its_devices_is(dirty):
    records, _ = dirty(3)
    table = backlog(records).set_index("module")
    classified = kd.analysis.classify(records)
    for module, found in table["history_complete_from"].items():
        part = classified[(classified["module"] == module) & classified["device_id"].notna()]
        part = part[part["create_time"] <= part["as_of"]]
        is_gone = (part["state"] == "to_be_deleted") & part["end_time"].notna()
        is_copy = is_gone | (part["state"] == "completed")
        part = part.assign(n_deleting=is_gone, _copy=part["create_time"].where(is_copy))
        held = part.groupby(["user_id", "device_id", "module_code"])
        held = held.agg(oldest_copy=("_copy", "min"), n_deleting=("n_deleting", "sum"))
        assert found == complete_from(held.reset_index())
    assert table["history_complete_from"].notna().any()


def test_without_an_earlier_look_what_changed_is_missing_and_not_0(make):
    table = backlog(make({"status_code": 2}))
    assert table[["new_since", "purged_since"]].isna().all(axis=None)
    assert str(table["new_since"].dtype) == "Int64"


def test_what_was_marked_since_is_new_and_what_was_marked_then_and_is_gone_is_purged(make):
    def look(*codes):
        rows = [
            {"record_id": name, "status_code": code, "create_time": f"2025-12-{day}T00:00Z"}
            for name, code, day in codes
        ]
        return make(*rows)

    stays = [("kept", 1, "01"), ("waits", 2, "01")]
    then = earlier(look(*stays, ("purged", 2, "01"), ("marked", 1, "01"), ("unseen", 1, "01")))
    now = look(*stays, ("marked", 2, "01"), ("came", 2, "12"))
    row = of(backlog(now, previous=then), "album")
    assert (row["new_since"], row["purged_since"]) == (2, 1)
    assert of(backlog(now, previous=then), "folder")["new_since"] == 0
    told = backlog(now, previous=then).attrs["koodrive"]
    assert (told["n_users_compared"], told["n_users_incomplete"]) == (1, 0)
    same = of(backlog(now, previous=earlier(now)), "album")
    assert (same["new_since"], same["purged_since"]) == (0, 0)


def test_users_that_are_not_in_both_looks_are_left_out_and_counted(make):
    marked = {"status_code": 2, "create_time": "2025-12-12T00:00Z"}
    now = make(marked | {"user_id": "both"}, marked | {"user_id": "new"})
    then = earlier(
        make(marked | {"user_id": "both", "record_id": "x"}, marked | {"user_id": "old"})
    )
    table = backlog(now, previous=then)
    assert (table["new_since"].sum(), table["purged_since"].sum()) == (1, 1)
    told = table.attrs["koodrive"]
    assert (told["n_users_compared"], told["n_users_left_out"]) == (1, 2)


def test_users_who_were_not_fetched_before_are_left_out_and_counted(make):
    marked = {"status_code": 2, "create_time": "2025-12-12T00:00Z"}
    now = make(marked | {"user_id": "a"}, marked | {"user_id": "b"})
    then = make({"user_id": "a"}, {"user_id": "b", "record_id": "x"})
    then = pd.concat([earlier(then.head(1)), then.tail(1)], ignore_index=True)
    table = backlog(now, previous=then)
    assert table["new_since"].sum() == 1
    told = table.attrs["koodrive"]
    assert (told["n_users_compared"], told["n_users_left_out"]) == (1, 1)
    assert told["previous_as_of"] == "2025-12-10T08:30:00+00:00"


def test_users_of_whom_the_earlier_look_lacks_records_are_compared_neither(make):
    marked = {"status_code": 2, "create_time": "2025-12-01T00:00Z"}
    later = {"status_code": 2, "create_time": "2025-12-12T00:00Z"}
    then = make(
        *(marked | {"user_id": user, "record_id": name} for user in "ab" for name in "xyz"),
    )
    now = make(
        *(marked | {"user_id": user, "record_id": name} for user in "ab" for name in "xy"),
        *(later | {"user_id": user, "record_id": "came"} for user in "ab"),
        # When a record began is not known: it proves nothing.
        {"user_id": "a", "record_id": "undated", "create_time": None},
        # Nor does one that began as the user was fetched, by a clock that differs.
        {"user_id": "a", "record_id": "close", "create_time": "2025-12-10T08:26Z"},
    )
    whole = backlog(now, previous=earlier(then))
    assert (whole["new_since"].sum(), whole["purged_since"].sum()) == (2, 2)
    cut = earlier(then[(then["user_id"] == "a") | (then["record_id"] != "y")])
    table = backlog(now, previous=cut)
    assert (table["new_since"].sum(), table["purged_since"].sum()) == (1, 1)
    told = table.attrs["koodrive"]
    assert (told["n_users_compared"], told["n_users_incomplete"]) == (1, 1)
    assert told["n_users_left_out"] == 0


@pytest.mark.parametrize(
    "condition",
    ["status_code == 2", "module == 'album'", "create_time > @recently"],
)
def test_an_earlier_look_that_was_filtered_is_refused(condition, dirty):
    now, _ = dirty(5)
    then = earlier(now[~(now["create_time"] > now["fetched_at"] - WEEK)])
    assert (backlog(now, previous=then)["purged_since"] == 0).all()
    with pytest.raises(kd.InvalidParameterError, match="pass the earlier snapshot whole"):
        backlog(now, previous=then.query(condition, local_dict={"recently": NOW - 2 * WEEK}))


def test_a_group_of_which_everything_is_purged_has_its_row(make):
    rows = [{"device_name": "old", "status_code": 2}, {"device_name": "new"}]
    then = earlier(make(*(row | {"create_time": "2025-12-01T00:00Z"} for row in rows)))
    now = make({"device_name": "new", "record_id": "1"})
    table = backlog(now, previous=then, by="device_name").set_index("device_name")
    assert tuple(table.loc["old", ["n", "purged_since"]]) == (0, 1)
    assert tuple(table.loc["new", ["n", "purged_since"]]) == (1, 0)


def test_an_earlier_look_is_compared_as_sets_of_records_are(dirty):
    now, _ = dirty(4)
    since = now["create_time"] > now["fetched_at"] - WEEK
    then = earlier(now[~since])
    purged = now.index % 3 == 0
    now = now[since | ~purged].reset_index(drop=True)
    then.loc[then.index % 5 == 0, "status_code"] = 2
    then = then[then["user_id"] != "a"].reset_index(drop=True)
    table = backlog(now, previous=then, by=["module", "device_os"])
    marked_now, marked_then, all_now = (
        {
            (row.user_id, row.record_id): (row.module, row.device_os)
            for row in frame.fillna({"device_os": "-"}).itertuples()
            if row.user_id != "a"
        }
        for frame in (now[now["status_code"].eq(2)], then[then["status_code"].eq(2)], now)
    )
    new = [group for key, group in marked_now.items() if key not in marked_then]
    purged = [group for key, group in marked_then.items() if key not in all_now]
    assert min(len(new), len(purged)) > 0
    for row in table.fillna({"device_os": "-"}).itertuples():
        group = (row.module, row.device_os)
        assert (row.new_since, row.purged_since) == (new.count(group), purged.count(group))
    assert (table["new_since"].sum(), table["purged_since"].sum()) == (len(new), len(purged))


@pytest.mark.parametrize("by", ["module", "os_family", ["module", "device_os"]])
def test_every_engine_finds_the_same_backlog(dirty, engine, by):
    records, devices = dirty(7, n=30)
    expected = backlog(records, devices, by=by)
    pd.testing.assert_frame_equal(backlog(engine(records), devices, by=by), expected)
    assert expected["n_last_copy_at_risk"].sum() > 0


@pytest.fixture
def two_looks(dirty):
    """Give records and those of a week before, which lack some of one user."""
    now, _ = dirty(6)
    then = earlier(now[~(now["create_time"] > now["fetched_at"] - WEEK)]).reset_index(drop=True)
    then.loc[then.index % 3 == 0, "status_code"] = 1
    then = then[(then["user_id"] != "c") | (then.index % 9 > 0)].reset_index(drop=True)
    return now[now.index % 4 > 0].reset_index(drop=True), then


def _polars(*looks):
    pl = pytest.importorskip("polars")
    return [pl.from_pandas(look).lazy() for look in looks]


def _one_duckdb(*looks):
    connection = pytest.importorskip("duckdb").connect()
    connection.execute("SET TimeZone = 'UTC'")
    for number, look in enumerate(_polars(*looks)):
        connection.register(f"look{number}", look.collect().to_arrow())
    return [connection.table(f"look{number}") for number in range(len(looks))]


@pytest.mark.parametrize(
    "kind", ["polars", "duckdb", pytest.param("spark", marks=pytest.mark.spark)]
)
def test_looks_of_one_engine_are_compared_there(two_looks, kind, request):
    expected = backlog(two_looks[0], previous=two_looks[1])
    assert expected.attrs["koodrive"]["n_users_incomplete"] == 1
    assert min(expected["new_since"].sum(), expected["purged_since"].sum()) > 0
    if kind == "spark":
        now, then = map(request.getfixturevalue("to_spark"), two_looks)
    else:
        now, then = {"polars": _polars, "duckdb": _one_duckdb}[kind](*two_looks)
    found = backlog(now, previous=then)
    pd.testing.assert_frame_equal(found, expected)
    assert found.attrs == expected.attrs


def test_as_many_records_are_behind_a_row_as_it_counts(dirty):
    records, _ = dirty(7)
    for options in ({}, {"by": ["state", "device_os"]}, {"as_of": "2025-12-01T00:00Z"}):
        table = backlog(records, **options)
        for position in range(0, len(table), len(table) // 4 + 1):
            behind = kd.analysis.rows(records, table, position)
            assert len(behind) == table["n"].iloc[position]


def test_no_records_are_no_backlog(records):
    table = backlog(records.head(0))
    assert list(table["n"]) == [0, 0, 0]
    assert list(table.dtypes) == list(backlog(records).dtypes)


def test_what_is_no_earlier_look_is_refused_with_what_is(make):
    pl = pytest.importorskip("polars")
    frame = make({})
    with pytest.raises(kd.InvalidParameterError, match="the same kind of frame as the records"):
        backlog(frame, previous=pl.from_pandas(frame))
    for look, previous in ((earlier(frame), frame), (frame, frame)):
        with pytest.raises(kd.InvalidParameterError, match="pass the earlier records"):
            backlog(look, previous=previous)
    with pytest.raises(kd.InvalidParameterError, match="no records to compare with"):
        backlog(frame, previous=frame.head(0))
    others = earlier(make({"user_id": "v"}, {"user_id": "w"}))
    for look, n in ((frame, 1), (frame.head(0), 0)):
        with pytest.raises(
            kd.InvalidParameterError, match=f"2 other users, and of none of the {n} users"
        ):
            backlog(look, previous=others)
    with pytest.raises(kd.InvalidParameterError, match="this frame has records"):
        backlog(frame, frame)
    with pytest.raises(kd.InvalidParameterError, match="lacks the column"):
        backlog(frame, previous=frame[["user_id"]])
    with pytest.raises(kd.InvalidParameterError, match="by= takes"):
        backlog(frame, by="copies")
