"""What became of each record, on every engine alike, and what changed from snapshot to snapshot."""

import narwhals as nw
import pandas as pd
import pytest

import koodrive_nb as kd

NOW = pd.Timestamp("2025-12-17T08:30Z")
NEW, COMPLETED, DELETING, UNKNOWN = 0, 1, 2, 3
# By snapshot: of each user the records with their status.
STEPS = [
    {"42": {"1": NEW, "2": COMPLETED, "3": DELETING, "5": NEW}, "43": {"1": COMPLETED}},
    {"42": {"1": COMPLETED, "2": COMPLETED, "5": UNKNOWN}, "43": "failed"},
    {"42": {"1": DELETING, "2": DELETING, "4": NEW, "5": NEW}},
    {"42": {"4": COMPLETED, "5": COMPLETED, ":partial": True}, "43": {}},
    {"42": {"3": COMPLETED, "4": NEW, "5": COMPLETED}, "43": {}},
]
# Days after the first snapshot: first_seen, last_seen, snapshots, then the bounds of each change.
LIVES = {
    ("42", "1"): (0, 2, 3, 0, 1, 1, 2, 2, 4),
    ("42", "2"): (0, 2, 3, None, 0, 1, 2, 2, 4),
    ("42", "3"): (0, 4, 2, None, 4, None, 0, None, None),
    ("42", "4"): (2, 4, 3, 2, 3, None, None, None, None),
    ("42", "5"): (0, 4, 5, 2, 3, None, None, None, None),
    ("43", "1"): (0, 0, 1, None, 0, None, None, 0, 3),
}


@pytest.fixture(scope="module")
def snapshots(build, tmp_path_factory):
    store = kd.snapshots.Snapshots(tmp_path_factory.mktemp("lives"))
    for day, step in enumerate(STEPS):
        store.write(build(step, NOW + pd.Timedelta(days=day)))
    return store


def in_days(lives):
    told = {}
    times = [name for name in lives.columns if name.endswith(("_seen", "_until", "_by", "_after"))]
    for row in lives.to_dict("records"):
        days = [None if pd.isna(row[name]) else (row[name] - NOW).days for name in times]
        told[row["user_id"], row["record_id"]] = (*days[:2], row["snapshots"], *days[2:])
    return told


def test_each_record_has_its_life_and_nothing_is_gone_of_whom_nobody_looked_at(snapshots):
    lives = snapshots.history()
    assert in_days(lives) == LIVES
    assert [*lives["record_id"]] == ["1", "2", "3", "4", "5", "1"]
    kinds = kd.schema("records").set_index("column")["dtype"]
    for name in ("user_id", "record_id", "module", "device_id", "create_time", "end_time"):
        assert str(lives[name].dtype) == kinds[name]


@pytest.mark.parametrize(
    "engine", ["duckdb", "polars", pytest.param("spark", marks=pytest.mark.spark)]
)
def test_lives_are_the_same_on_every_engine(snapshots, engine, request):
    if engine == "spark":
        request.getfixturevalue("spark")
    found = nw.from_native(snapshots.history(engine=engine)).lazy().collect("pyarrow").to_native()
    lives = found.to_pandas().sort_values(["user_id", "create_time", "record_id"])
    wanted = snapshots.history()
    assert [*lives.columns] == [*wanted.columns]
    # Spark has the types of its own for whole numbers and times, and means the same.
    pd.testing.assert_frame_equal(
        lives.reset_index(drop=True).astype(wanted.dtypes), wanted, check_dtype=False
    )


def test_changes_are_counted_among_users_seen_whole_in_both(snapshots):
    changes = snapshots.changes()
    names = [*snapshots.list()["snapshot"]]
    assert [*changes["previous"]] == names[:2]
    assert [*changes["snapshot"]] == names[1:3]
    counts = ["n_users", "created", "completed", "to_be_deleted", "disappeared", "open"]
    assert changes[counts].to_numpy().tolist() == [[1, 0, 1, 0, 1, 0], [1, 1, 0, 2, 0, 2]]


def test_the_wait_for_deletion_is_known_up_to_an_interval(build, tmp_path):
    store = kd.snapshots.Snapshots(tmp_path)
    steps = [{"1": COMPLETED}, {"1": DELETING, "2": DELETING}, {"1": DELETING}, {}]
    for day, records in enumerate(steps):
        store.write(build({"42": records}, NOW + pd.Timedelta(days=day)))
    changes = store.changes("device_id").set_index("snapshot")
    assert [*changes["device_id"]] == ["942"] * 3
    assert changes["disappeared"].tolist() == [0, 1, 1]
    # The second had its mark when it was first seen; the first lost it in three days at most.
    assert changes["waited_at_least_h"].tolist()[1:] == [0, 24]
    assert changes["waited_at_most_h"].isna().tolist() == [True, True, False]
    assert changes["waited_at_most_h"].iloc[2] == 72


def test_what_was_never_seen_with_its_mark_waited_for_less_than_from_look_to_look(build, tmp_path):
    store = kd.snapshots.Snapshots(tmp_path)
    for day, records in enumerate([{"1": COMPLETED}, {}]):
        store.write(build({"42": records}, NOW + pd.Timedelta(days=day)))
    (change,) = store.changes().to_dict("records")
    assert (change["disappeared"], change["to_be_deleted"]) == (1, 0)
    assert (change["waited_at_least_h"], change["waited_at_most_h"]) == (0, 24)


def test_tables_of_several_snapshots_say_whether_these_are_complete(snapshots, build, tmp_path):
    for table in (snapshots.changes(), snapshots.history()):
        assert table.attrs == {"koodrive": {"source": "sandbox", "complete": False}}
    store = kd.snapshots.Snapshots(tmp_path)
    store.write(build({"42": {"1": NEW}}))
    assert store.history().attrs["koodrive"]["complete"]


def test_one_snapshot_has_changed_in_nothing(build, tmp_path):
    store = kd.snapshots.Snapshots(tmp_path)
    store.write(build({"42": {"1": NEW}}))
    assert len(store.changes()) == 0
    assert "disappeared" in store.changes()


def test_snapshots_of_other_users_are_not_compared(build, tmp_path):
    store = kd.snapshots.Snapshots(tmp_path)
    for user_id in ("42", "43"):
        store.write(build({user_id: {"1": NEW}}))
    with pytest.raises(kd.SnapshotError, match=r"Z-2 have no users in common.* one folder for"):
        store.changes()


@pytest.mark.parametrize(
    "by", ["record_id", "create_time", "duration_s", "outcome", "plan", None, ["module"]]
)
def test_changes_are_counted_by_what_records_or_users_share(snapshots, by):
    said = r"by= takes a column that records share \(module, .* list of users \(of .*: none\), not"
    with pytest.raises(kd.InvalidParameterError, match=said):
        snapshots.changes(by)


def test_changes_are_counted_by_a_column_of_the_list_of_users(build, tmp_path):
    store = kd.snapshots.Snapshots(tmp_path)
    steps = [
        {"42": {"1": NEW}, "43": {"2": NEW, "3": NEW}, "44": {}},
        {"42": {"1": COMPLETED}, "43": {"2": COMPLETED, "4": NEW}, "44": {}},
    ]
    for day, step in enumerate(steps):
        regions = ["east", "west", "west"] if day else ["north", "west", None]
        store.write(build(step, NOW + pd.Timedelta(days=day), regions=regions))
    changes = store.changes("region").set_index("region")
    counts = ["n_users", "created", "completed", "disappeared"]
    assert changes[counts].T.to_dict("list") == {"east": [3, 0, 1, 0], "west": [3, 1, 1, 1]}
    store.write(build(steps[1], NOW + pd.Timedelta(days=2)))
    with pytest.raises(kd.InvalidParameterError, match=r"list of users .*: none"):
        store.changes("region")


def test_who_was_written_by_name_and_then_by_pseudonym_is_one(build, tmp_path, monkeypatch):
    store = kd.snapshots.Snapshots(tmp_path)
    store.write(build({"4242424242": {"1": NEW, "2": COMPLETED}}))
    monkeypatch.setenv("KOODRIVE_PRIVACY", "pseudonyms")
    monkeypatch.setenv("KOODRIVE_PRIVACY_KEY", "5a" * 32)
    store.write(build({"4242424242": {"1": COMPLETED}}, NOW + pd.Timedelta("1D")))
    lives = store.history().set_index("record_id")
    assert lives["snapshots"].to_dict() == {"1": 2, "2": 1}
    assert lives["disappeared_by"].notna().to_dict() == {"1": False, "2": True}
    counts = store.changes().iloc[0]
    assert counts[["n_users", "created", "completed", "disappeared"]].tolist() == [1, 0, 1, 1]


def test_what_was_asked_last_comes_last_though_its_sweep_began_first(build, tmp_path):
    store = kd.snapshots.Snapshots(tmp_path)
    store.write(build({"42": {"1": COMPLETED}}, NOW + pd.Timedelta("2D")), name="20251217T083000Z")
    store.write(build({"42": {"1": NEW, "2": NEW}}, NOW + pd.Timedelta("1D")))
    wanted = {("42", "1"): (1, 2, 2, 1, 2, None, None, None, None)}
    wanted["42", "2"] = (1, 1, 1, 1, None, None, None, 1, 2)
    assert in_days(store.history()) == wanted
    on_engine = nw.from_native(store.history(engine="polars")).lazy().collect().to_pandas()
    assert in_days(on_engine) == wanted
    (step,) = store.changes().to_dict("records")
    assert (step["previous"], step["snapshot"]) == ("20251218T083000Z", "20251217T083000Z")
    assert (step["completed"], step["disappeared"], step["created"]) == (1, 1, 0)
