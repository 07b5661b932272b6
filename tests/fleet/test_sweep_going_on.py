"""The same call goes on where a sweep was stopped, and says and publishes what is true."""

import errno
import os
import time
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.fs as pafs
import pytest
from click.testing import CliRunner

import koodrive_nb as kd
from koodrive_nb import cli, progress
from koodrive_nb.fleet import parts, pieces
from koodrive_nb.fleet.arrow_memory import of_system
from koodrive_nb.snapshots import layouts, locations, publishing

IDS = [f"u{number:03}" for number in range(60)]
MANY = [f"v{number:03}" for number in range(400)]


@pytest.fixture
def times():
    """Give the instants of the service's clock, whose last one counts."""
    return [pd.Timestamp("2026-01-02T03:04:05Z")]


def now(times):
    return times[-1].to_pydatetime()


@pytest.fixture
def client(service, times):
    auth = kd.AppAuth("a378331e", "5e1c0ffee")
    with service.connect(auth=auth, clock=partial(now, times)) as found:
        yield found


def full(*arguments, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted(*arguments, **options):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("where", "name", "stop", "raised"),
    [
        (locations.Location, "crc32", interrupted, KeyboardInterrupt),
        (locations.Location, "crc32", full, kd.SnapshotError),
        (Path, "rename", full, kd.SnapshotError),
        (Path, "rename", interrupted, KeyboardInterrupt),
    ],
)
def test_whatever_stops_publishing_nobody_who_came_is_asked_again(  # noqa: PLR0913, PLR0917 -- a table
    service, fleet, client, snapshots, monkeypatch, where, name, stop, raised
):
    fleet.first = lambda user_id: service.Answer(b"", 404) if user_id == "u007" else None
    with monkeypatch.context() as patched:
        patched.setattr(where, name, stop)
        with pytest.raises(raised):
            kd.fleet.sweep(client, IDS, snapshots, errors="collect")
    assert snapshots.list().empty
    before, fleet.first = fleet.asked.copy(), lambda user_id: None
    made = kd.fleet.sweep(client, IDS, snapshots)
    assert set(fleet.asked - before) == {"u007"}
    assert made.manifest["complete"]
    assert len(snapshots.read()) == 3 * len(IDS)
    folder = snapshots._place.folder / f"snapshot={made.name}"
    assert sorted(each.name for each in folder.iterdir()) == [
        *("devices", "manifest.json", "records", "users")
    ]


def test_an_upload_that_breaks_off_costs_no_answers(fleet, client, tmp_path, monkeypatch):
    (tmp_path / "bucket").mkdir()
    snapshots = kd.snapshots.Snapshots("mock://fleet", drafts=tmp_path / "drafts")
    with monkeypatch.context() as patched:
        patched.setattr(pafs, "copy_files", full)
        with pytest.raises(kd.SnapshotError, match="nothing is lost"):
            kd.fleet.sweep(client, IDS, snapshots)
    before = fleet.asked.copy()
    kd.fleet.sweep(client, IDS, snapshots)
    assert fleet.asked == before
    assert len(snapshots.read()) == 3 * len(IDS)


def test_an_upload_that_was_killed_when_it_was_done_is_not_published_again(
    fleet, client, times, tmp_path, monkeypatch
):
    snapshots = kd.snapshots.Snapshots("mock://fleet", drafts=tmp_path / "drafts")
    with monkeypatch.context() as patched:
        patched.setattr(publishing, "_forget", interrupted)
        with pytest.raises(KeyboardInterrupt):
            kd.fleet.sweep(client, IDS, snapshots)
    before = fleet.asked.copy()
    times.append(times[-1] + pd.Timedelta("1h"))
    again = kd.fleet.sweep(client, IDS, snapshots)
    assert again.name == "20260102T030405Z"
    assert fleet.asked == before
    assert snapshots.list()["ended_at"].tolist() == [pd.Timestamp(again.manifest["ended_at"])]
    # Within the same second, what comes next is another one.
    times.append(times[0] + pd.Timedelta("20ms"))
    assert kd.fleet.sweep(client, IDS, snapshots).name == "20260102T030405Z-2"
    assert len(snapshots.list()) == 2
    assert [path.name for path in (tmp_path / "drafts").iterdir()] == [".lock"]


def test_what_fails_once_it_is_published_is_no_failure(fleet, client, snapshots, monkeypatch):
    folder, sync = snapshots._place.folder, os.fsync

    def refuse(descriptor):
        if os.path.samestat(os.fstat(descriptor), folder.stat()):
            raise OSError(errno.EIO, "Input/output error")
        sync(descriptor)

    monkeypatch.setattr(publishing.os, "fsync", refuse)
    made = kd.fleet.sweep(client, IDS, snapshots)
    assert snapshots.list()["snapshot"].tolist() == [made.name]
    # Should a power cut undo it, all is there to go on with.
    assert (folder / f"snapshot={made.name}" / publishing.PIECES).is_dir()


def sweep_twice(client, ids, snapshots, **options):
    """Give what users failed in a sweep that fails, and then in one that may."""
    with pytest.raises(kd.IncompleteError, match="users are left"):
        kd.fleet.sweep(client, ids, snapshots, **options)
    kd.fleet.sweep(client, ids, snapshots, errors="collect", **options)
    users = snapshots.read("users")
    return set(users.loc[users["outcome"] == "failed", "user_id"])


@pytest.mark.parametrize("workers", [1, 2])
def test_however_many_fail_again_can_be_published_without(service, fleet, snapshots, workers):
    bad = set(MANY[::3])
    fleet.first = lambda user_id: service.Answer({"code": 403}, 403) if user_id in bad else None
    with service.connect(auth=kd.AppAuth("a378331e", "5e1c0ffee")) as client:
        assert sweep_twice(client, MANY, snapshots, workers=workers) == bad
    assert len(snapshots.read()) == 3 * (len(MANY) - len(bad))


def test_however_many_fail_in_a_passing_way_can_be_published_without_at_once(
    service, fleet, client, snapshots
):
    bad = set(IDS[::4])
    assert len(bad) > client._service.max_workers
    fleet.first = lambda user_id: service.Answer(b"", 503) if user_id in bad else None
    made = kd.fleet.sweep(client, IDS, snapshots, errors="collect")
    assert (made.manifest["failed"], made.manifest["users"]) == (len(bad), len(IDS))


def test_whoever_was_not_asked_yet_comes_before_those_who_failed(service, fleet, client, snapshots):
    bad = set(MANY[100:200])
    fleet.first = lambda user_id: service.Answer({"code": 403}, 403) if user_id in bad else None
    assert sweep_twice(client, MANY, snapshots) == bad
    assert set(MANY) == set(fleet.asked)


def test_a_service_that_is_gone_is_not_published_as_users_who_failed(
    service, fleet, client, snapshots
):
    fleet.first = lambda user_id: service.Answer(b"", 503) if user_id > "u020" else None
    with pytest.raises(kd.IncompleteError, match="it ended early"):
        kd.fleet.sweep(client, IDS, snapshots, errors="collect")
    with pytest.raises(kd.IncompleteError, match="it ended early"):
        kd.fleet.sweep(client, IDS, snapshots, errors="collect")
    assert snapshots.list().empty


def left_alone(snapshots, hours):
    """Let what is in a draft be as old as that."""
    then = time.time() - 3600 * hours
    for path in (snapshots._place.folder / ".draft").rglob("*"):
        os.utime(path, (then, then))


def test_a_sweep_of_another_day_is_not_finished_as_one_of_today(service, fleet, client, snapshots):
    fleet.first = lambda user_id: service.Answer(b"", 404) if user_id == "u007" else None
    for _ in range(3):
        with pytest.raises(kd.IncompleteError) as caught:
            kd.fleet.sweep(client, IDS, snapshots)
        left_alone(snapshots, 11)
    left_alone(snapshots, 23)
    before, fleet.first = fleet.asked.copy(), lambda user_id: None
    said = r"began at 2026-01-02 03:04 UTC .* 59 of 60 .* 23 hours: .*restart=True.*restart=False"
    for _ in range(2):
        with pytest.raises(kd.SnapshotError, match=said):
            kd.fleet.sweep(client, IDS, snapshots)
    assert fleet.asked == before
    assert snapshots.list().empty
    caught.value.resume()
    assert set(fleet.asked - before) == {"u007"}


@pytest.mark.parametrize(("restart", "asked"), [(False, 1), (True, 60)])
def test_a_sweep_of_another_day_is_finished_or_forgotten_as_one_says(  # noqa: PLR0913, PLR0917 -- a table
    service, fleet, client, snapshots, times, restart, asked
):
    fleet.first = lambda user_id: service.Answer(b"", 404) if user_id == "u007" else None
    with pytest.raises(kd.IncompleteError):
        kd.fleet.sweep(client, IDS, snapshots)
    left_alone(snapshots, 168)
    times.append(times[-1] + pd.Timedelta("7D"))
    before, fleet.first = fleet.asked.copy(), lambda user_id: None
    kd.fleet.sweep(client, IDS, snapshots, restart=restart)
    assert len(fleet.asked - before) == asked
    facts = snapshots.list().iloc[0]
    assert [facts["began_at"], facts["ended_at"]] == [times[restart], times[1]]


def test_the_progress_tells_the_sweep_that_it_goes_on_with(
    service, fleet, client, snapshots, monkeypatch
):
    told, bar = [], progress.bar
    monkeypatch.setattr(progress, "bar", lambda *how: told.append(how[1]) or bar(*how))
    fleet.first = lambda user_id: service.Answer(b"", 404) if user_id == "u007" else None
    for _ in range(2):
        with pytest.raises(kd.IncompleteError):
            kd.fleet.sweep(client, IDS, snapshots)
    assert told == ["users", "users since 2026-01-02T03:04"]


@pytest.mark.usefixtures("at_the_command_line")
def test_the_command_says_how_to_go_on_with_a_sweep_of_another_day(service, fleet):
    pd.DataFrame({"user_id": IDS}).to_csv("users.csv", index=False)
    run = ["sweep", "users.csv", "-o", "sweeps"]
    fleet.first = lambda user_id: service.Answer(b"", 404) if user_id == "u007" else None
    assert CliRunner().invoke(cli.main, run).exit_code == 3
    left_alone(kd.snapshots.Snapshots("sweeps"), 168)
    fleet.first = lambda user_id: None
    ran = CliRunner().invoke(cli.main, run)
    assert ran.exit_code == 1
    assert "--no-restart" in ran.stderr
    ran = CliRunner().invoke(cli.main, [*run, "--no-restart"])
    assert ran.exit_code == 0, ran.stderr
    assert "60 users, 180 records, complete" in ran.stderr


def broken(content, how):
    return {"empty": b"", "zeros": bytes(len(content)), "half": content[: len(content) // 2]}[how]


@pytest.mark.parametrize("how", ["empty", "zeros", "half"])
@pytest.mark.parametrize(
    "pattern",
    [
        "pieces/*.json",
        "pieces/*.arrows",
        *(f"{name}/*-000001.parquet" for name in layouts.DATASETS),
    ],
)
def test_whom_a_power_cut_took_is_asked_again(  # noqa: PLR0913, PLR0917 -- a table
    service, fleet, client, snapshots, monkeypatch, pattern, how
):
    for module in (pieces, parts):
        monkeypatch.setattr(module, "PART_USERS", 5)
    fleet.first = lambda user_id: service.Answer(b"", 404) if user_id == "u002" else None
    with pytest.raises(kd.IncompleteError):
        kd.fleet.sweep(client, IDS[:12], snapshots)
    path = next((snapshots._place.folder / ".draft").glob(pattern))
    path.write_bytes(broken(path.read_bytes(), how))
    before, fleet.first = fleet.asked.copy(), lambda user_id: None
    made = kd.fleet.sweep(client, IDS[:12], snapshots)
    assert 1 < len(fleet.asked - before) <= 6
    assert repr(made).endswith("12 users, 36 records, complete)")
    assert snapshots.read("users")["user_id"].tolist() == IDS[:12]


def test_what_tells_that_a_part_is_whole_comes_when_the_part_is_on_the_disk(
    fleet, client, snapshots, monkeypatch
):
    files, sync, put = [], os.fsync, publishing.put

    def synced(descriptor):
        files.append(os.fstat(descriptor).st_ino)
        sync(descriptor)

    def noted(path, content):
        if path.parent.name == publishing.PIECES:
            draft = path.parents[1]
            there = [draft / name / "part-000000.parquet" for name in layouts.DATASETS]
            assert {each.stat().st_ino for each in there} <= {*files}
            noted.count += 1
        put(path, content)

    noted.count = 0
    monkeypatch.setattr(publishing.os, "fsync", synced)
    monkeypatch.setattr(publishing, "put", noted)
    kd.fleet.sweep(client, IDS, snapshots)
    assert noted.count == 1


def test_parts_of_another_size_are_not_mixed(service, fleet, client, snapshots, monkeypatch):
    fleet.first = lambda user_id: service.Answer(b"", 404) if user_id == "u007" else None
    with pytest.raises(kd.IncompleteError):
        kd.fleet.sweep(client, IDS, snapshots)
    for module in (pieces, parts):
        monkeypatch.setattr(module, "PART_USERS", 20)
    with pytest.raises(kd.SnapshotError, match=r"users_in_a_part 1000, not 20.*restart=True"):
        kd.fleet.sweep(client, IDS, snapshots)


def test_of_two_sweeps_at_once_the_last_gives_arrow_its_usual_allocator_back():
    usual, first, second = pa.default_memory_pool().backend_name, *(of_system() for _ in range(2))
    assert usual != "system"
    with first:
        second.__enter__()
    assert pa.default_memory_pool().backend_name == "system"
    second.__exit__(None, None, None)
    assert pa.default_memory_pool().backend_name == usual


def test_processes_share_the_bound_on_the_rate(service, fleet, snapshots):
    came = []
    fleet.first = lambda user_id: came.append(time.monotonic())
    with service.connect(auth=kd.AppAuth("a378331e", "5e1c0ffee")) as client:
        # So few are dealt to one of them.
        kd.fleet.sweep(client, IDS[:10], snapshots, workers=2, max_rate=40)
    assert len(came) == 40
    assert max(came) - min(came) > 0.9 * 39 / 20
