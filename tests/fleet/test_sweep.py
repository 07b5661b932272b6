"""Many users swept to disk: nothing lost or doubled, whatever happens on the way."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb.fleet import parts, pieces, visits

FEW = kd.sandbox.Preset(200)
PART = 64
SWEEP = """
import os, sys
os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # as the command does
import koodrive_nb as kd
from koodrive_nb.fleet import parts, pieces, visits

def kib(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))

endpoint, app_id, secret, folder, *sizes = sys.stdin.read().split()
fleet, count, part, workers = map(int, sizes)
if part < pieces.PART_USERS:
    pieces.PART_USERS = parts.PART_USERS = part
    visits._KEPT_EVERY_S = 0.05
client = kd.connect(
    endpoint=endpoint, auth=kd.AppAuth(app_id, secret), user_id="x", max_workers=16,
    clock=kd.sandbox.as_of, progress=False,
)
users = kd.sandbox.users(kd.sandbox.Preset(fleet)).head(count)
before = kib("VmRSS")
with open("/proc/self/clear_refs", "w") as peak:
    peak.write("5")
kd.fleet.sweep(client, users, kd.snapshots.Snapshots(folder), workers=workers)
print(kib("VmHWM") - before)
"""


@dataclass
class Scale:
    """How many users are swept, in parts of how many, and how often the sweep is killed."""

    users: int
    part: int
    kills: int

    @property
    def preset(self):
        return kd.sandbox.Preset(self.users)


THOUSAND = pytest.param(Scale(1_000, 300, 5), id="1000 users")
MANY = pytest.param(Scale(20_000, 1_000, 20), id="20000 users", marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def sandbox():
    with kd.sandbox.Sandbox(preset=FEW) as running:
        yield running


@pytest.fixture(scope="module")
def frames():
    return kd.sandbox.frames(FEW)


@pytest.fixture(scope="module", params=[THOUSAND, MANY])
def scale(request):
    return request.param


@pytest.fixture(scope="module")
def service(scale):
    """Serve the users of a scale."""
    with kd.sandbox.Sandbox(preset=scale.preset) as running:
        yield running


@pytest.fixture(scope="module")
def undisturbed(scale, service, tmp_path_factory):
    """Give a sweep that nothing happened to, by a process of its own, and its peak in KiB."""
    found = kd.snapshots.Snapshots(tmp_path_factory.mktemp("undisturbed"))
    process = begun(service, found, scale)
    peak, _ = process.communicate()
    assert process.returncode == 0
    return found, int(peak)


def asked_of(sandbox, monkeypatch):
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


def begun(sandbox, snapshots, scale, *, users=None, workers=1):
    """Begin a sweep of all users of a scale, or of some, in a process that prints its peak."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", SWEEP], **pipes)
    told = (sandbox.endpoint, sandbox.app_id, sandbox.app_secret, snapshots._place.folder)
    sizes = (scale.users, users or scale.users, scale.part, workers)
    process.stdin.write(" ".join(map(str, [*told, *sizes])))
    process.stdin.flush()
    process.stdin.close()
    process.stdin = None
    return process


def ended(process):
    process.kill()
    process.communicate()


def test_nothing_of_any_user_is_lost_or_doubled(scale, undisturbed):
    assert_is(undisturbed[0], kd.sandbox.frames(scale.preset))


def test_faults_of_the_service_change_nothing(frames, snapshots, small_parts):
    faults = [
        kd.sandbox.Fault("status", share=0.005, status=429, retry_after_s=0),
        kd.sandbox.Fault("status", share=0.02, status=503),
        kd.sandbox.Fault("drop", share=0.02),
        kd.sandbox.Fault("latency", share=0.3, seconds=0.01),
    ]
    with (
        kd.sandbox.Sandbox(preset=FEW, faults=faults) as sandbox,
        connected(sandbox, max_workers=16) as client,
    ):
        kd.fleet.sweep(client, frames.users, snapshots)
        assert sandbox.statuses[429] > 0
        assert sandbox.statuses[503] > 3
    assert_is(snapshots, frames)


def kept(snapshots, part):
    """Give the places of users that are on disk."""
    found = snapshots._place.folder / ".draft" / "pieces"
    if not found.exists():
        return set()
    whole = {int(path.stem) for path in found.glob("*.json")}
    places = {place for number in whole for place in range(number * part, (number + 1) * part)}
    for path in found.glob("*.arrows"):
        try:
            users = pieces._read(path)["users"]
        except FileNotFoundError:  # It has become a part meanwhile.
            continue
        places.update(users["place"].to_pylist())
    return places


def test_a_sweep_that_is_killed_again_and_again_ends_as_if_it_never_was(
    scale, service, undisturbed, snapshots, monkeypatch
):
    asked = asked_of(service, monkeypatch)
    ids = sorted(kd.sandbox.users(scale.preset)["user_id"])
    known = []
    # So many users are on disk when it is killed.
    moments = sorted(random.Random(11).sample(range(1, len(ids) - 100), scale.kills))
    for moment in moments:
        process = begun(service, snapshots, scale)
        while len(kept(snapshots, scale.part)) < moment:
            assert process.poll() is None
            time.sleep(0.02)
        ended(process)
        there = kept(snapshots, scale.part)
        known.append({ids[place]: asked[ids[place]] for place in there if place < len(ids)})
    process = begun(service, snapshots, scale)
    process.communicate()
    assert process.returncode == 0
    # Whoever was kept was never asked about again.
    for moment, each in zip(moments, known, strict=True):
        assert len(each) >= moment
        assert each == {user_id: asked[user_id] for user_id in each}
    assert [*files(snapshots).values()] == [*files(undisturbed[0]).values()]
    assert not (snapshots._place.folder / ".draft").exists()


@pytest.mark.parametrize("scale", [MANY], indirect=True)
def test_four_times_as_many_users_take_no_more_memory(scale, service, undisturbed, snapshots):
    process = begun(service, snapshots, scale, users=scale.users // 4)
    peak, _ = process.communicate()
    assert undisturbed[1] <= 1.1 * int(peak)


def test_two_processes_bring_the_same(sandbox, frames, snapshots):
    with connected(sandbox) as client:
        made = kd.fleet.sweep(client, frames.users, snapshots, workers=2)
    assert_is(snapshots, frames)
    pages = sum(line["pages"] for line in made.manifest["ledger"])
    assert pages > 4 * len(frames.users)


def test_no_process_runs_what_lies_in_the_current_folder(
    sandbox, frames, snapshots, tmp_path, monkeypatch
):
    # Beside a list of users that somebody else handed over, say.
    (tmp_path / "pyarrow.py").write_text("raise SystemExit('not Arrow')")
    monkeypatch.chdir(tmp_path)
    with connected(sandbox) as client:
        kd.fleet.sweep(client, frames.users.head(5), snapshots, workers=2)
    assert len(snapshots.read("users")) == 5


def children(parent):
    mine = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [pid for pid in mine if b"fleet.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_process_that_dies_is_told_of_and_costs_nothing_that_was_kept(
    sandbox, frames, snapshots, monkeypatch
):
    asked = asked_of(sandbox, monkeypatch)
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
    # So slow that they are at work for seconds; parts are as large for them as for their parent.
    slow = [kd.sandbox.Fault("latency", seconds=0.2)]
    with kd.sandbox.Sandbox(preset=FEW, faults=slow) as service:
        process = begun(service, snapshots, Scale(FEW.users, pieces.PART_USERS, 1), workers=2)
        try:
            while not kept(snapshots, pieces.PART_USERS):
                assert process.poll() is None
                time.sleep(0.01)
            orphans = [Path(f"/proc/{pid}/cmdline") for pid in children(process.pid)]
            assert len(orphans) == 2
        finally:
            ended(process)
    ends_at = time.monotonic() + 10
    while any(path.exists() and path.read_bytes() for path in orphans):
        assert time.monotonic() < ends_at
        time.sleep(0.05)
    with connected(sandbox) as client:
        kd.fleet.sweep(client, frames.users, snapshots, restart=True)
    assert_is(snapshots, frames)
