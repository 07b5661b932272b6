"""What the benchmarks share: how they take time, and what they say of the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import time
from pathlib import Path


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
