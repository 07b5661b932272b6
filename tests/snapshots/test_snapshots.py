"""A folder of snapshots: what goes in comes out, in pandas and on every engine."""

import re
import stat
import subprocess
import sys
from pathlib import Path

import duckdb
import hypothesis
import narwhals as nw
import pandas as pd
import polars as pl
import pytest
from hypothesis import strategies

import koodrive_nb as kd

NOW = pd.Timestamp("2025-12-17T08:30Z")
KEY = "5a" * 32
FIRST, SECOND = "20251217T083000Z", "20251217T083000Z-2"
SPARK = pytest.param("spark", marks=pytest.mark.spark)


def plain(native):
    """Bring what an engine gives into pandas."""
    return nw.from_native(native).lazy().collect("pyarrow").to_native().to_pandas()


@pytest.fixture(scope="module")
def drawn():
    fleet = kd.sandbox.frames("small")
    counts = {"outcome": "complete", "n_devices": 1, "n_records": 1, "error": None}
    users = fleet.users.assign(**counts, fetched_at=NOW)
    return kd.fleet.Fleet(fleet.records, fleet.devices, users)


@pytest.fixture(scope="module")
def stored(drawn, tmp_path_factory):
    # Whatever patterns mean something to an engine, and what looks like a partition.
    store = kd.snapshots.Snapshots(tmp_path_factory.mktemp("a") / "region=eu" / "b[1]*?{c}")
    store.write(drawn)
    return store


def test_pandas_reads_what_the_client_gave_type_by_type(drawn, stored):
    pd.testing.assert_frame_equal(stored.read(), drawn.records)
    pd.testing.assert_frame_equal(stored.read("devices"), drawn.devices)
    assert [*stored.read("users")] == [
        *("user_id", "outcome", "n_devices", "n_records", "fetched_at", "error", "region", "plan")
    ]
    assert stored.read().attrs == {"koodrive": {"source": "sandbox", "complete": True}}


@pytest.mark.parametrize("engine", ["duckdb", "polars", SPARK])
def test_a_scan_goes_into_the_analysis_and_gives_the_numbers_of_pandas(
    drawn, stored, engine, request
):
    if engine == "spark":
        request.getfixturevalue("spark")
    scan = stored.scan(engine=engine)
    found, wanted = (kd.analysis.status_breakdown(each) for each in (scan, drawn.records))
    pd.testing.assert_frame_equal(found, wanted)


def test_any_reader_of_parquet_sees_plain_tables(drawn, snapshots, tmp_path):
    snapshots.write(drawn)
    pattern = f"{tmp_path}/fleet/snapshot=*/records/*.parquet"
    query = f"SELECT * FROM read_parquet('{pattern}', hive_partitioning=true)"
    found = dict(duckdb.sql(f"SELECT column_name, column_type FROM (DESCRIBE {query})").fetchall())
    assert found["module"] == found["user_id"] == found["snapshot"] == "VARCHAR"
    assert found["create_time"] == "TIMESTAMP WITH TIME ZONE"
    assert (found["version"], found["duration_s"]) == ("BIGINT", "DOUBLE")
    assert pl.scan_parquet(pattern).collect_schema()["status"] == pl.String
    one = pd.read_parquet(tmp_path / f"fleet/snapshot={FIRST}" / "records")
    assert [*one["record_id"]] == [*one.sort_values(["user_id", "create_time"])["record_id"]]
    assert len(one) == len(drawn.records)


def test_snapshots_are_listed_chosen_and_told_apart(build, snapshots):
    first = snapshots.write(build({"42": {"1": 0}, "43": "failed"}))
    assert str(first) == f"Snapshot({FIRST}, 2 users, 1 record, incomplete: 1 failed)"
    partial = {"42": {"1": 1, "2": 0, ":partial": True}}
    assert snapshots.write(build(partial)).name == SECOND
    snapshots.write(build({"42": {"7": 1}}), name="20250101T000000Z")
    listed = snapshots.list()
    assert [*listed["snapshot"]] == ["20250101T000000Z", FIRST, SECOND]
    assert [*listed["complete"]] == [True, False, False]
    assert [*listed["failed"]] == [0, 1, 0]
    assert [*listed["partial"]] == [0, 0, 1]
    assert [*listed["records"]] == [1, 1, 2]
    assert str(listed["began_at"].dtype) == "datetime64[ms, UTC]"
    assert listed["bytes"].gt(0).all()
    assert [*snapshots.read()["record_id"]] == ["1", "2"]
    assert snapshots.read(snapshot=FIRST)["status"].tolist() == ["new"]
    together = snapshots.read(snapshot="all")
    assert [*together["snapshot"]] == ["20250101T000000Z", FIRST, SECOND, SECOND]
    assert together.attrs["koodrive"]["complete"] is False
    assert repr(snapshots) == f"Snapshots(3, newest {SECOND})"


@pytest.mark.spark
def test_a_scan_on_spark_starts_no_job_and_has_the_columns_of_the_files(
    drawn, snapshots, tmp_path, spark
):
    snapshots.write(drawn)
    spark.sparkContext.setJobGroup("scans", "")
    scans = {name: snapshots.scan(name, engine="spark") for name in ("records", "devices", "users")}
    assert [*spark.sparkContext.statusTracker().getJobIdsForGroup("scans")] == []
    for name, scan in scans.items():
        seen = spark.read.parquet(f"{tmp_path}/fleet/snapshot={FIRST}/{name}")
        assert scan.schema == seen.schema


def test_what_duckdb_cannot_hold_goes_where_only_the_owner_looks(build, snapshots):
    snapshots.write(build({"42": {"1": 0}}))
    frame = snapshots.scan()
    ((folder,),) = frame.query("t", "SELECT current_setting('temp_directory')").fetchall()
    assert Path(folder).stat().st_mode & 0o777 == 0o700


@pytest.mark.spark
@pytest.mark.usefixtures("_java")
def test_a_spark_of_ours_listens_to_this_machine_alone_and_keeps_its_files_private(tmp_path):
    script = f"""
import os
import pandas as pd
import koodrive_nb as kd
snapshots = kd.snapshots.Snapshots({str(tmp_path)!r})
users = kd.sandbox.users(kd.sandbox.Preset(2))
with kd.sandbox.Sandbox(preset=kd.sandbox.Preset(2)) as sandbox:
    auth = kd.AppAuth(sandbox.app_id, sandbox.app_secret)
    with kd.connect(endpoint=sandbox.endpoint, auth=auth, user_id="x") as client:
        kd.fleet.sweep(client, users, snapshots)
context = snapshots.scan(engine="spark").sparkSession.sparkContext
print(context.uiWebUrl)
print(context.getConf().get("spark.driver.host"))
print(oct(os.stat(context.getConf().get("spark.local.dir")).st_mode & 0o777))
"""
    told = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=300
    ).stdout
    assert told.splitlines()[-3:] == ["None", "127.0.0.1", "0o700"]


@pytest.mark.parametrize("engine", ["duckdb", "polars", SPARK])
def test_lists_of_users_may_differ_from_one_snapshot_to_the_next(build, snapshots, engine, request):
    if engine == "spark":
        request.getfixturevalue("spark")
    snapshots.write(build({"42": {}}, regions=["north"]))
    snapshots.write(build({"42": {}}))
    found = plain(snapshots.scan("users", "all", engine=engine)).set_index("snapshot")
    assert found["region"].fillna("").to_dict() == {FIRST: "north", SECOND: ""}
    assert snapshots.read("users", "all")["region"].fillna("").tolist() == ["north", ""]


def test_a_frame_of_several_snapshots_is_no_frame_of_records(build, snapshots):
    snapshots.write(build({"42": {"1": 0}}))
    for frame in (snapshots.read(snapshot="all"), snapshots.scan(snapshot="all")):
        with pytest.raises(kd.InvalidParameterError, match="choose one snapshot"):
            kd.analysis.classify(frame)


def test_the_manifest_tells_how_it_was_fetched_and_names_nobody(client, snapshots, tmp_path):
    users = kd.sandbox.users().head(2)
    fleet = kd.fleet.fetch(client, users)
    manifest = snapshots.write(fleet).manifest
    assert {line["dataset"] for line in manifest["ledger"]} == {"records", "devices"}
    assert sum(line["rows"] for line in manifest["ledger"]) == len(fleet.records) + len(
        fleet.devices
    )
    text = (tmp_path / "fleet" / f"snapshot={FIRST}" / "manifest.json").read_text()
    assert not any(user in text for user in users["user_id"])
    assert "127.0.0.1" not in text
    assert str(tmp_path) not in text


def test_only_the_owner_may_look_in(build, snapshots, tmp_path):
    snapshots.write(build({"42": {"1": 0}}))
    folders = [tmp_path / "fleet", *(tmp_path / "fleet").rglob("*/")]
    assert len(folders) == 5
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}


def test_pseudonyms_stay_so_on_the_way_in_and_come_on_the_way_out(
    build, snapshots, tmp_path, monkeypatch
):
    named = build({"4242424242": {"1": 0}, "43": "failed"})
    snapshots.write(named)
    monkeypatch.setenv("KOODRIVE_PRIVACY", "pseudonyms")
    monkeypatch.setenv("KOODRIVE_PRIVACY_KEY", KEY)
    seen = snapshots.read()
    assert seen["user_id"].str.startswith("user-").all()
    assert seen["device_name"].isna().all()
    assert snapshots.read("users")["error"].isna().all()
    assert snapshots.history()["device_id"].str.startswith("device-").all()
    for refused in (snapshots.scan, lambda: snapshots.history(engine="polars")):
        with pytest.raises(kd.ConfigurationError, match="use read"):
            refused()
    hidden = kd.snapshots.Snapshots(tmp_path / "hidden")
    hidden.write(named)
    assert hidden.scan().fetchall()[0][0].startswith("user-")
    for file in (tmp_path / "hidden").rglob("*.*"):
        assert b"4242424242" not in file.read_bytes()
    users = named.users.assign(user_id=hidden.read("users")["user_id"])
    hidden.write(kd.fleet.Fleet(named.records, named.devices, users))
    assert hidden.read("users")["error"].dropna().tolist() == ["HTTP 503"]


def test_half_a_surrogate_pair_in_the_list_of_users_is_spelled_out(build, snapshots):
    fleet = build({"42": {}})
    fleet.users["region"] = pd.Series(["\ud83d"], dtype=object)
    snapshots.write(fleet)
    assert snapshots.read("users")["region"].tolist() == ["\\ud83d"]


@pytest.mark.parametrize(
    "names", [["snapshot"], ["Plan", "plan"], ["User_ID"], [""], [" "], ["*"], [7]]
)
def test_columns_that_engines_would_mix_up_are_refused(build, snapshots, names):
    fleet = build({"42": {"1": 0}})
    for name in names:
        fleet.users[name] = "x"
    with pytest.raises(kd.InvalidParameterError, match="rename it"):
        snapshots.write(fleet)


def test_what_is_no_fleet_is_not_written(build, snapshots):
    fleet = build({"42": {"1": 0}})
    with pytest.raises(kd.InvalidParameterError, match="not DataFrame"):
        snapshots.write(fleet.records)
    lacking = kd.fleet.Fleet(fleet.records.drop(columns="version"), fleet.devices, fleet.users)
    with pytest.raises(kd.InvalidParameterError, match="missing: version"):
        snapshots.write(lacking)
    with pytest.raises(kd.InvalidParameterError, match="nobody knows when"):
        snapshots.write(build({"42": "failed"}))
    unfit = fleet.records.assign(version="seven")
    with pytest.raises(kd.InvalidParameterError, match="do not fit their columns"):
        snapshots.write(kd.fleet.Fleet(unfit, fleet.devices, fleet.users))
    with pytest.raises(kd.InvalidParameterError, match="takes an instant in UTC"):
        snapshots.write(fleet, name="../week")
    snapshots.write(fleet)
    with pytest.raises(kd.InvalidParameterError, match="already"):
        snapshots.write(fleet, name=FIRST)
    assert len(snapshots.list()) == 1


def test_what_is_not_there_is_said(build, snapshots):
    assert len(snapshots.list()) == 0
    for ask in (snapshots.read, snapshots.scan, snapshots.history, snapshots.changes):
        with pytest.raises(kd.SnapshotError, match=r"There is no snapshot in .* yet"):
            ask()
    snapshots.write(build({"42": {"1": 0}}))
    for name in ("20200101T000000Z", ".."):
        with pytest.raises(kd.InvalidParameterError, match="There is no snapshot"):
            snapshots.read(snapshot=name)
    for ask in (snapshots.read, snapshots.scan):
        with pytest.raises(kd.InvalidParameterError, match="no dataset 'files'"):
            ask("files")
    with pytest.raises(kd.InvalidParameterError, match=r"read\(\) gives pandas"):
        snapshots.scan(engine="pandas")


def test_what_was_returned_of_a_snapshot_says_which_one_is_meant(build, snapshots):
    made = snapshots.write(build({"42": {"1": 0}}))
    snapshots.write(build({"42": {"2": 0}}, NOW + pd.Timedelta("1D")))
    assert [*snapshots.read(snapshot=made)["record_id"]] == ["1"]
    assert [*plain(snapshots.scan(snapshot=made))["record_id"]] == ["1"]
    for other in ([FIRST], made.manifest, 7, None):
        for ask in (snapshots.read, snapshots.scan):
            with pytest.raises(kd.InvalidParameterError, match="returned, not "):
                ask(snapshot=other)
    for other in (made, ["module"]):
        with pytest.raises(kd.InvalidParameterError, match="by= takes"):
            snapshots.changes(other)


def test_an_engine_that_is_not_installed_says_what_to_install(build, snapshots, monkeypatch):
    snapshots.write(build({"42": {"1": 0}}))
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(kd.ConfigurationError, match=re.escape("'koodrive_nb[scale]'")):
        snapshots.scan()


fleets = strategies.lists(
    strategies.dictionaries(
        strategies.sampled_from(["41", "42", "43"]),
        strategies.just("failed")
        | strategies.dictionaries(
            strategies.sampled_from("123456"), strategies.integers(0, 3), max_size=4
        ),
        min_size=1,
    ).filter(lambda users: any(has != "failed" for has in users.values())),
    min_size=1,
    max_size=3,
)


@hypothesis.settings(max_examples=10, deadline=None)
@hypothesis.given(fleets)
def test_whatever_was_written_every_reader_gives_the_same_rows(build, tmp_path_factory, steps):
    store = kd.snapshots.Snapshots(tmp_path_factory.mktemp("any"))
    written = []
    for number, users in enumerate(steps):
        fleet = build(users, NOW + pd.Timedelta(hours=number))
        name = store.write(fleet).name
        written.append(fleet.records.assign(snapshot=name))
    wanted = pd.concat(written).sort_values(["snapshot", "user_id", "record_id"])
    keys = ["snapshot", "user_id", "record_id", "status_code", "fetched_at", "duration_s"]
    for found in (
        store.read(snapshot="all"),
        plain(store.scan(snapshot="all")),
        plain(store.scan(snapshot="all", engine="polars")),
    ):
        rows = found.sort_values(["snapshot", "user_id", "record_id"], ignore_index=True)[keys]
        pd.testing.assert_frame_equal(
            rows.astype(wanted[keys].dtypes), wanted[keys].reset_index(drop=True)
        )
