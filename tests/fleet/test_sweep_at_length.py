"""Sweeps of twenty thousand users: killed twenty times, and nearly as frugal as of a quarter."""

import random
import subprocess
import sys
import time
from contextlib import contextmanager

import pandas as pd
import pytest

import koodrive_nb as kd

pytestmark = pytest.mark.slow

USERS = 20_000
SERVE = """
import sys, threading
import koodrive_nb as kd
service = kd.sandbox.Sandbox(preset=kd.sandbox.Preset(int(sys.argv[1]))).start()
print(service.endpoint, service.app_id, service.app_secret, flush=True)
threading.Event().wait()
"""
SWEEP = """
import sys
import koodrive_nb as kd

def kib(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))

endpoint, app_id, secret, fleet, count, folder = sys.stdin.read().split()
client = kd.connect(
    endpoint=endpoint, auth=kd.AppAuth(app_id, secret), user_id="x", max_workers=16,
    clock=kd.sandbox.as_of, progress=False,
)
users = kd.sandbox.users(kd.sandbox.Preset(int(fleet))).head(int(count))
before = kib("VmRSS")
with open("/proc/self/clear_refs", "w") as peak:
    peak.write("5")
kd.fleet.sweep(client, users, kd.snapshots.Snapshots(folder))
print(kib("VmHWM") - before)
"""


@pytest.fixture(scope="module")
def service():
    command = [sys.executable, "-c", SERVE, str(USERS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().split()
        finally:
            process.kill()


@contextmanager
def sweeping(service, users, folder):
    command = [sys.executable, "-c", SWEEP]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        process.stdin.write(" ".join(map(str, [*service, USERS, users, folder])))
        process.stdin.close()
        yield process


def test_twenty_kills_cost_nothing_of_twenty_thousand_users(service, tmp_path):
    draw, kills = random.Random(5), 0
    while kills < 20:
        with sweeping(service, USERS, tmp_path) as process:
            time.sleep(3 + 6 * draw.random())
            assert process.poll() is None
            process.kill()
            kills += 1
    with sweeping(service, USERS, tmp_path) as process:
        assert process.wait() == 0
    snapshots, frames = (
        kd.snapshots.Snapshots(tmp_path),
        kd.sandbox.frames(kd.sandbox.Preset(USERS)),
    )
    for dataset in ("records", "devices"):
        pd.testing.assert_frame_equal(snapshots.read(dataset), getattr(frames, dataset))
    assert (snapshots.read("users")["outcome"] == "complete").all()


def test_memory_hardly_grows_with_the_number_of_users(service, tmp_path):
    peaks = []
    for users in (USERS // 4, USERS):
        with sweeping(service, users, tmp_path / str(users)) as process:
            peaks.append(int(process.stdout.read()))
    # The allocator keeps a little more each time; objects of so many users would be ten times that.
    assert peaks[1] <= 1.25 * peaks[0]
