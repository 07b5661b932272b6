"""Many users swept to disk: nothing lost or doubled, whatever happens on the way."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb.fleet import parts, pieces, visits

PRESET = kd.sandbox.Preset(200)
PART = 64
SWEEP = f"""
import sys
import koodrive_nb as kd
from koodrive_nb.fleet import parts, pieces, visits

pieces.PART_USERS = parts.PART_USERS = {PART}
visits._KEPT_EVERY_S = 0.05
endpoint, app_id, secret, folder, workers = sys.stdin.read().split()
auth = kd.AppAuth(app_id, secret)
client = kd.connect(
    endpoint=endpoint, auth=auth, user_id="x", clock=kd.sandbox.as_of, progress=False
)
users = kd.sandbox.users(kd.sandbox.Preset(200))
kd.fleet.sweep(client, users, kd.snapshots.Snapshots(folder), workers=int(workers))
"""


@pytest.fixture(scope="module")
def sandbox():
    with kd.sandbox.Sandbox(preset=PRESET) as running:
        yield running


@pytest.fixture(scope="module")
def frames():
    return kd.sandbox.frames(PRESET)


@pytest.fixture
def asked(sandbox, monkeypatch):
    """Count the requests by user."""
    count, known = Counter(), sandbox._calls._user

    def user(user_id):
        count[user_id] += 1
        return known(user_id)

    monkeypatch.setattr(sandbox._calls, "_user", user)
    return count


@pytest.fixture
def small_parts(monkeypatch):
    for module in (pieces, parts):
        monkeypatch.setattr(module, "PART_USERS", PART)
    monkeypatch.setattr(visits, "_KEPT_EVERY_S", 0.05)


def connected(sandbox, **options):
    auth = kd.AppAuth(sandbox.app_id, sandbox.app_secret)
    options = {"user_id": "x", "clock": kd.sandbox.as_of, "progress": False} | options
    return kd.connect(endpoint=sandbox.endpoint, auth=auth, **options)


@pytest.fixture
def snapshots(tmp_path):
    return kd.snapshots.Snapshots(tmp_path / "sweeps")


def files(snapshots):
    folder = snapshots._place.folder
    return {
        path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))
    }


def assert_is(snapshots, frames):
    for dataset in ("records", "devices"):
        pd.testing.assert_frame_equal(snapshots.read(dataset), getattr(frames, dataset))
    users = snapshots.read("users").set_index("user_id")
    assert (users["outcome"] == "complete").all()
    for name, frame in (("n_records", frames.records), ("n_devices", frames.devices)):
        counts = frame["user_id"].value_counts().reindex(users.index, fill_value=0)
        assert (users[name] == counts).all()
    told = frames.users.set_index("user_id").loc[users.index]
    assert (users[["region", "plan"]] == told[["region", "plan"]]).all(axis=None)


@pytest.fixture(scope="module")
def undisturbed(sandbox, tmp_path_factory):
    """Give a sweep that nothing happened to, by a process of its own."""
    found = kd.snapshots.Snapshots(tmp_path_factory.mktemp("undisturbed"))
    process = begun(sandbox, found)
    assert process.wait(60) == 0
    return found


def begun(sandbox, snapshots, workers=1):
    process = subprocess.Popen([sys.executable, "-c", SWEEP], stdin=subprocess.PIPE, text=True)
    told = (sandbox.endpoint, sandbox.app_id, sandbox.app_secret, snapshots._place.folder)
    process.stdin.write(" ".join(map(str, [*told, workers])))
    process.stdin.close()
    return process


def test_a_sweep_is_the_fleet_row_by_row(undisturbed, frames):
    assert_is(undisturbed, frames)


def test_faults_of_the_service_change_nothing(frames, undisturbed, snapshots, small_parts):
    faults = [
        kd.sandbox.Fault("status", share=0.005, status=429, retry_after_s=0),
        kd.sandbox.Fault("status", share=0.02, status=503),
        kd.sandbox.Fault("drop", share=0.02),
        kd.sandbox.Fault("latency", share=0.3, seconds=0.01),
    ]
    with (
        kd.sandbox.Sandbox(preset=PRESET, faults=faults) as sandbox,
        connected(sandbox, max_workers=16) as client,
    ):
        kd.fleet.sweep(client, frames.users, snapshots)
        assert sandbox.statuses[429] > 0
        assert sandbox.statuses[503] > 3
    assert [*files(snapshots).values()] == [*files(undisturbed).values()]


def kept(folder):
    """Give the places of users that are on disk."""
    found = folder / ".draft" / "pieces"
    if not found.exists():
        return set()
    whole = {int(path.stem) for path in found.glob("*.json")}
    places = {place for number in whole for place in range(number * PART, (number + 1) * PART)}
    for path in found.glob("*.arrows"):
        try:
            users = pieces._read(path)["users"]
        except FileNotFoundError:  # It has become a part meanwhile.
            continue
        places.update(users["place"].to_pylist())
    return places


def test_a_sweep_that_is_killed_again_and_again_ends_as_if_it_never_was(
    sandbox, frames, undisturbed, snapshots, asked
):
    ids = sorted(frames.users["user_id"])
    folder, known = snapshots._place.folder, []
    # So many users are on disk when it is killed.
    moments = sorted(random.Random(11).sample(range(1, len(ids) - 40), 5))
    for moment in moments:
        process = begun(sandbox, snapshots)
        while len(kept(folder)) < moment:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.wait()
        known.append({ids[place]: asked[ids[place]] for place in kept(folder) if place < len(ids)})
    assert begun(sandbox, snapshots).wait(60) == 0
    # Whoever was kept was never asked about again.
    for moment, each in zip(moments, known, strict=True):
        assert len(each) >= moment
        assert each == {user_id: asked[user_id] for user_id in each}
    assert [*files(snapshots).values()] == [*files(undisturbed).values()]
    assert not (snapshots._place.folder / ".draft").exists()


def test_two_processes_bring_the_same(sandbox, frames, snapshots):
    with connected(sandbox) as client:
        made = kd.fleet.sweep(client, frames.users, snapshots, workers=2)
    assert_is(snapshots, frames)
    pages = sum(line["pages"] for line in made.manifest["ledger"])
    assert pages > 4 * len(frames.users)


def children(parent):
    mine = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [pid for pid in mine if b"fleet.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_process_that_dies_is_told_of_and_costs_nothing_that_was_kept(
    sandbox, frames, snapshots, asked, monkeypatch
):
    noted, note = [], parts.Parts.note

    def kill_one(self, piece):
        note(self, piece)
        for pid in children(os.getpid())[: not noted]:
            for name in ("cmdline", "environ"):
                shown = Path(f"/proc/{pid}/{name}").read_bytes().decode()
                assert sandbox.app_secret not in shown
                assert sandbox.app_id not in shown
            os.kill(int(pid), signal.SIGKILL)
        noted.extend(piece.complete)

    monkeypatch.setattr(parts.Parts, "note", kill_one)
    monkeypatch.setenv("KOODRIVE_APP_SECRET", sandbox.app_secret)
    with connected(sandbox) as client:
        with pytest.raises(kd.IncompleteError, match=r"ended by signal 9.*\.resume\(\)") as caught:
            kd.fleet.sweep(client, frames.users, snapshots, workers=2)
        ids = sorted(frames.users["user_id"])
        before = {ids[place]: asked[ids[place]] for place in noted}
        assert before
        monkeypatch.setattr(parts.Parts, "note", note)
        caught.value.resume()
    assert before == {user_id: asked[user_id] for user_id in before}
    assert not children(os.getpid())
    assert_is(snapshots, frames)


def test_processes_end_with_the_one_that_started_them(sandbox, frames, snapshots):
    process = begun(sandbox, snapshots, workers=2)
    while not kept(snapshots._place.folder):
        assert process.poll() is None
        time.sleep(0.01)
    orphans = [Path(f"/proc/{pid}/cmdline") for pid in children(process.pid)]
    assert len(orphans) == 2
    process.kill()
    process.wait()
    ends_at = time.monotonic() + 10
    while any(path.exists() and path.read_bytes() for path in orphans):
        assert time.monotonic() < ends_at
        time.sleep(0.05)
    with connected(sandbox) as client:
        kd.fleet.sweep(client, frames.users, snapshots, restart=True)
    assert_is(snapshots, frames)
