"""Snapshots of a version that knew other columns are read as this one has them."""

import narwhals as nw
import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb import columns
from koodrive_nb.columns import Column

MORE = (
    Column("tier", "string", "One that the other version lacks"),
    Column("plan", "category", "As above", values=("free", "paid")),
    Column("used_time", "time", "As above"),
    Column("size", "Int64", "As above"),
    Column("load", "float64", "As above"),
)
SPARK = pytest.param("spark", marks=pytest.mark.spark)


@pytest.fixture
def later(build, snapshots, monkeypatch):
    """Write a snapshot, and know further columns from then on, and one less; give their types."""
    snapshots.write(build({"42": {"1": 0, "2": 1}}))
    known = [each for each in columns.DATASETS["records"] if each.name != "properties"]
    known[5:5] = MORE
    monkeypatch.setattr(columns, "DATASETS", columns.DATASETS | {"records": tuple(known)})
    return {column.name: column.dtype for column in known}


def test_pandas_has_the_columns_of_this_version(later, snapshots, build):
    for _ in range(2):
        frame = snapshots.read()
        assert frame.dtypes.to_dict() == later
        assert frame[[each.name for each in MORE]].isna().all(axis=None)
        assert frame["status"].tolist() == ["new", "completed"]
    snapshots.write(build({"42": {"1": 1}}))
    assert snapshots.read(snapshot="all")["status_code"].tolist() == [0, 1, 1]
    assert snapshots.history()["snapshots"].tolist() == [2, 1]
    assert snapshots.changes("module")["completed"].sum() == 1


@pytest.mark.parametrize("engine", ["duckdb", "polars", SPARK])
def test_engines_have_the_columns_of_this_version(later, snapshots, build, engine, request):
    if engine == "spark":
        request.getfixturevalue("spark")
    scan = snapshots.scan(engine=engine)
    found = kd.analysis.status_breakdown(scan)
    pd.testing.assert_frame_equal(found, kd.analysis.status_breakdown(snapshots.read()))
    snapshots.write(build({"42": {"1": 1}}))
    both = [nw.from_native(one).lazy() for one in (scan, snapshots.scan(engine=engine))]
    schemas = [frame.collect_schema() for frame in both]
    assert schemas[0] == schemas[1]
    assert schemas[0].names() == [*later]
    life = nw.from_native(snapshots.history(engine=engine)).lazy()
    assert sorted(life.collect("pyarrow")["snapshots"].to_list()) == [1, 2]


def test_what_this_version_wrote_is_read_by_one_with_less(later, snapshots, build, monkeypatch):
    snapshots.write(build({"42": {"1": 1}}))
    monkeypatch.undo()
    assert snapshots.read()["properties"].isna().tolist() == [True]
    assert "tier" not in snapshots.read()
    assert "tier" not in snapshots.scan().columns


@pytest.mark.parametrize("change", ["another type", "no id"])
def test_columns_that_are_there_must_be_what_they_are_called(snapshots, build, monkeypatch, change):
    fleet = build({"42": {"1": 0}})
    was = columns.DATASETS["records"]
    name, kind = {"another type": ("version", "string"), "no id": ("record_id", "string")}[change]
    other = tuple(
        Column(f"x_{name}" if change == "no id" else name, kind, "x") if each.name == name else each
        for each in was
    )
    with monkeypatch.context() as patched:
        patched.setattr(columns, "DATASETS", columns.DATASETS | {"records": other})
        patched.setattr("koodrive_nb.snapshots.layouts.ORDERS", {"records": ("create_time",)})
        fleet = kd.fleet.Fleet(
            fleet.records.rename(columns={"record_id": other[1].name}),
            fleet.devices,
            fleet.users,
        )
        snapshots.write(fleet)
    with pytest.raises(kd.SnapshotError, match="has other columns or rows"):
        snapshots.read()
