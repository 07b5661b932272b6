"""How long the explorer takes from a filter to redrawn figures and table, in the kernel.

Prints a Markdown table. Before each filter the form shows something else.

    python tests/benchmarks/exploring.py
"""

from __future__ import annotations

import argparse
import time

from analysing import fleet
from measuring import alternate, machine

import koodrive_nb as kd

EVERYTHING = {"since": None, "module": ["folder", "album", "address_book", "unknown"]}
VIEWS = {
    "the last 14 days": {"since": "14D"},
    "everything": EVERYTHING,
    "one module of everything": {"module": ["album"]},
    "stuck, of everything": {"state": ["stuck"]},
    "exposed devices": {"protection": ["never", "deleting", "outdated", "late"]},
    "one device": {"device_id": None},
    "text in names, ids, properties": {"text": "mate"},
}
AIMS_S = {100_000: 0.15, 1_000_000: 0.5}


def filtering(form, view):
    """Give a side that returns the seconds from a filter to everything redrawn."""

    def run():
        form.reset(text="no record holds this text")
        started = time.perf_counter()
        form.reset(**view)
        return time.perf_counter() - started

    return run


def measured(runs, records, devices):
    """Take the time of each view."""
    form = kd.forms.Explorer(records, devices)
    device = str(form.selection["device_id"].dropna().iloc[0])
    views = {
        what: view | ({"device_id": [device]} if "device_id" in view else {})
        for what, view in VIEWS.items()
    }
    times = alternate(runs, *(filtering(form, view) for view in views.values()))
    form.close()
    return times


def main(arguments=None):
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(description="Measure the explorer.")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it runs")
    is_quick = parser.parse_args(arguments).quick
    runs = 1 if is_quick else 5
    aims = {100: 10.0, 200: 10.0} if is_quick else AIMS_S
    drawn = kd.sandbox.frames("small" if is_quick else "large")
    columns = [measured(runs, *fleet(drawn, count)) for count in aims]
    heads = [f"{count:,} records | aim" for count in aims]
    print(f"| filter to redrawn | {' | '.join(heads)} | |")
    print("|---|---|---|---|---|---|")
    for what, *times in zip(VIEWS, *columns, strict=True):
        beside = list(zip(times, aims.values(), strict=True))
        cells = [f"{taken:.3f} s | ≤ {aim:g} s" for taken, aim in beside]
        is_reached = all(taken <= aim for taken, aim in beside)
        print(f"| {what} | {' | '.join(cells)} | {'reached' if is_reached else 'not reached'} |")
    how = "one run each" if is_quick else f"median of {runs} alternating runs"
    print(f"\n{machine('pandas', 'narwhals', 'plotly', 'ipywidgets')}; {how}.")


if __name__ == "__main__":
    main()
