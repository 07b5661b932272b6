"""How fast and how frugal sweeps are, beside what the requests alone would take.

Prints a Markdown table; each figure is the median of five runs in which all sides alternate. The
sandbox runs in a process of its own, on the same processors.

    python tests/benchmarks/sweeping.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile

from measuring import HEADER, LATENCY_S, machine, row, sandbox, told_by

THREADS = 16
SWEEP = """
import json, os, sys, time
os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # as the command does
import koodrive_nb as kd
from measuring import forget_peak, kib

endpoint, app_id, secret, fleet, count, threads, workers, folder = sys.argv[1:]
auth = kd.AppAuth(app_id, secret)
users = kd.sandbox.users(kd.sandbox.Preset(int(fleet)))
# Those of another list than what is measured, so that all is imported and the fleet is drawn.
with kd.connect(
    endpoint=endpoint, auth=auth, user_id="x", max_workers=int(threads), clock=kd.sandbox.as_of,
    progress=False,
) as client:
    snapshots = kd.snapshots.Snapshots(folder)
    kd.fleet.sweep(client, users.tail(20), snapshots)
    before = kib("VmRSS")
    forget_peak()
    started, processor = time.perf_counter(), time.process_time()
    made = kd.fleet.sweep(client, users.head(int(count)), snapshots, workers=int(workers))
    print(json.dumps({
        "s": time.perf_counter() - started,
        "processor_s": time.process_time() - processor,
        "requests": sum(line["pages"] for line in made.manifest["ledger"]),
        "mib": (kib("VmHWM") - before) / 1024,
    }))
"""


def swept(service, fleet, users, *, workers=1):
    """Sweep users of a fleet in another process and give what it told."""
    with tempfile.TemporaryDirectory() as folder:
        sizes = map(str, (fleet, users, THREADS, workers, folder))
        command = [sys.executable, "-c", SWEEP, *service, *sizes]
        return json.loads(told_by(command))


def rate(one):
    """Give the requests a second of a sweep."""
    return one["requests"] / one["s"]


def measured(runs, some, few, many):
    """Sweep so often: `some` users for the rate, `few` and `many` for the memory."""
    found = {name: [] for name in ("one", "two", "few", "many")}
    with sandbox(LATENCY_S, many) as slow, sandbox(0, many) as quick:
        for _ in range(runs):
            found["one"].append(swept(slow, many, some))
            found["two"].append(swept(slow, many, some, workers=2))
        for _ in range(runs):
            found["few"].append(swept(quick, many, few))
            found["many"].append(swept(quick, many, many))

    def median(name, figure):
        return statistics.median(map(figure, found[name]))

    one, two = (median(name, rate) for name in ("one", "two"))
    ideal = THREADS / LATENCY_S
    answered = f"{THREADS} threads, 50 ms each: requests a second"
    yield (
        answered,
        f"{THREADS} / 50 ms",
        one,
        ideal,
        "/s",
        one / ideal,
        "≥ 0.85",
        one / ideal >= 0.85,
    )
    of_two = f"2 processes of {THREADS} threads: requests a second"
    yield of_two, "1 process", two, one, "/s", two / one, "≥ 1.6", two / one >= 1.6
    small, large = (median(name, lambda told: told["mib"]) for name in ("few", "many"))
    memory = f"peak memory of {many:,} users above what was there"
    is_flat = large <= 1.1 * small
    yield memory, f"{few:,} users", large, small, "MiB", large / small, "≤ 1.1", is_flat
    each = 1000 * median("many", lambda told: told["processor_s"]) / many
    asked = median("many", lambda told: told["requests"]) / many
    yield "processor time of a user", "a request of it", each, each / asked, "ms", asked, "", None


def main(arguments=None):
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(description="Measure sweeping beside the requests alone.")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it runs")
    is_quick = parser.parse_args(arguments).quick
    sizes = (1, 20, 20, 40) if is_quick else (5, 2_000, 5_000, 20_000)
    print(HEADER)
    for cells in measured(*sizes):
        print(row(*cells), flush=True)
    kind = "one run each" if is_quick else f"median of {sizes[0]} alternating runs"
    print(f"\n{machine('requests', 'pandas', 'pyarrow')}; {kind}.")


if __name__ == "__main__":
    main()
