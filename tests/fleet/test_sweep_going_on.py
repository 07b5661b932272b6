"""The same call goes on where a sweep was stopped, and says and publishes what is true."""

import errno
import os
from pathlib import Path

import pandas as pd
import pyarrow.fs as pafs
import pytest

import koodrive_nb as kd
from koodrive_nb.snapshots import locations, publishing

IDS = [f"u{number:03}" for number in range(60)]


@pytest.fixture
def client(service):
    instant = pd.Timestamp("2026-01-02T03:04:05Z").to_pydatetime()
    with service.connect(auth=kd.AppAuth("a378331e", "5e1c0ffee"), clock=lambda: instant) as found:
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
