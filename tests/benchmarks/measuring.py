"""What the benchmarks share: the sandbox, how they measure, and what they say of it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

LATENCY_S = 0.05
HEADER = "| what | beside | here | there | ratio | aim | |\n|---|---|---|---|---|---|---|"
SERVE = """
import sys, threading
import koodrive_nb as kd
latency_s, users = float(sys.argv[1]), int(sys.argv[2])
service = kd.sandbox.Sandbox(
    preset=kd.sandbox.Preset(users) if users else "small",
    faults=[kd.sandbox.Fault("latency", seconds=latency_s)] if latency_s else [],
).start()
print(service.endpoint, service.app_id, service.app_secret, flush=True)
threading.Event().wait()
"""


@contextmanager
def sandbox(latency_s, users=0):
    """Serve from another process and give endpoint, AppId and secret."""
    command = [sys.executable, "-c", SERVE, str(latency_s), str(users)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().split()
        finally:
            process.kill()


def told_by(command):
    """Run a process that may import this module, and give what it prints."""
    here = Path(__file__).parent
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=here).stdout


def kib(name):
    """Read a figure of this process, such as VmRSS, or VmHWM for the peak."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def forget_peak():
    """Let the peak of this process begin anew."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def row(what, beside, here, there, unit, ratio, aim, is_reached):  # noqa: PLR0913, PLR0917 -- cells
    """Write a row of a table; None is for what has no aim."""
    verdict = {True: "reached", False: "not reached", None: ""}[is_reached]
    return (
        f"| {what} | {beside} | {here:.3g} {unit} | {there:.3g} {unit} | {ratio:.2f} | {aim} "
        f"| {verdict} |"
    )


def alternate(runs, *sides):
    """Run the sides in turn and give the median of what each returns."""
    results = [[] for _ in sides]
    for _ in range(runs):
        for side, result in zip(sides, results, strict=True):
            result.append(side())
    return [statistics.median(result) for result in results]


def timed(work):
    """Give a side that returns the seconds that the work took."""

    def run():
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return run


def machine(*packages):
    """Describe what this ran on, with the versions of these packages."""
    cpu = platform.processor() or platform.machine()
    described = Path("/proc/cpuinfo")
    if described.exists():
        lines = described.read_text(encoding="utf-8").splitlines()
        cpu = next(
            (line.partition(": ")[2] for line in lines if line.startswith("model name")), cpu
        )
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    return f"{os.cpu_count()} x {cpu}, Python {platform.python_version()}, {', '.join(versions)}"
