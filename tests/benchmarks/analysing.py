"""How fast the tables and figures are, and the timeline beside that of plotly express.

Prints two Markdown tables. Both sides of the second one get the same classified records, and are
drawn in headless Chromium, each drawing on a page of its own.

    python tests/benchmarks/analysing.py
"""

from __future__ import annotations

import argparse
import math
import shutil
import tempfile
from functools import partial
from pathlib import Path

import plotly.express as px
from measuring import alternate, machine, timed
from playwright.sync_api import Error, sync_playwright
from playwright.sync_api import TimeoutError as TooLate
from plotly.offline import get_plotlyjs

import koodrive_nb as kd

# With devices, and further options; those without a chart are for reading, or to build on.
TABLES = [
    ("status_breakdown", False, {}),
    ("timeline", True, {}),
    ("activity", False, {}),
    ("durations", False, {}),
    ("durations", False, {"kind": "curve"}),
    ("protection_status", True, {}),
    ("exposure", True, {}),
    ("exposure", True, {"kind": "curve"}),
    ("exposure_history", True, {}),
    ("adherence", True, {}),
    ("adherence", True, {"per": "device"}),
    ("data_quality", True, {}),
    ("load", False, {}),
    ("load", False, {"kind": "running"}),
    ("deletion_backlog", True, {}),
    ("anomalies", False, {}),
    ("anomalies", False, {"metric": "created"}),
    ("anomalies", False, {"metric": "duration_p50_s"}),
    ("explain_change", False, {"window": "2025-W50"}),
    ("concentration", False, {}),
]
AIM_S, AIM_KB = 1.0, 300.0
DRAWN_WITHIN_S = 60
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
PAGE = """<!doctype html><meta charset="utf-8"><div id="figure"></div>
<script src="plotly.js"></script><script src="figure.js"></script>
<script>
const started = performance.now();
Plotly.newPlot("figure", figure).then(() => requestAnimationFrame(
    () => console.log(`drawn ${(performance.now() - started) / 1000}`)));
</script>
"""


def fleet(drawn, count):
    """Give that many records, of whole users but for the last one, and the users' devices."""
    records = drawn.records.sort_values("user_id", kind="stable").head(count).sort_index()
    assert len(records) == count
    devices = drawn.devices[drawn.devices["user_id"].isin(records["user_id"])]
    return records.reset_index(drop=True), devices.reset_index(drop=True)


def tables(runs, records, devices):
    """Take the time of each table of classified records, and of the figure of each."""
    classified = kd.analysis.classify(records)
    named = {"classify": (partial(kd.analysis.classify, records), None)}
    for name, takes_devices, options in TABLES:
        given = ({"devices": devices} if takes_devices else {}) | options
        written = ", ".join([name, *(f'{key}="{value}"' for key, value in options.items())])
        named[written] = (
            partial(getattr(kd.analysis, name), classified, **given),
            getattr(kd.charts, name, None),
        )
    draws = [chart and partial(chart, make()) for make, chart in named.values()]
    sizes = [draw and len(draw().to_json().encode()) / 1000 for draw in draws]
    table_s = alternate(runs, *(timed(make) for make, _ in named.values()))
    figure_s = alternate(runs, *(timed(draw or (lambda: None)) for draw in draws))
    for name, table, figure, size in zip(named, table_s, figure_s, sizes, strict=True):
        what = f"`{name}`"
        if size is None:
            yield what, f"{table:.3f} s", "", "", f"≤ {AIM_S:g} s", table <= AIM_S
        else:
            aim = f"≤ {AIM_S:g} s each, ≤ {AIM_KB:g} KB"
            is_reached = max(table, figure) <= AIM_S and size <= AIM_KB
            yield what, f"{table:.3f} s", f"{figure:.3f} s", kilobytes(size), aim, is_reached


def timelines(runs, records, devices, browser):
    """Compare our timeline, of two weeks and of everything, with that of plotly express."""
    classified = kd.analysis.classify(records)

    def express():
        return px.timeline(
            classified.dropna(subset="end_time"),
            x_start="create_time",
            x_end="end_time",
            y="device_label",
            color="state",
        )

    ours = partial(kd.charts.timeline, classified, devices=devices)
    sides = {"the last 14 days": ours, "everything": partial(ours, since=None), "": express}
    built = alternate(runs, *(timed(side) for side in sides.values()))
    with tempfile.TemporaryDirectory() as folder:
        pages = [Path(folder) / str(number) for number in range(len(sides))]
        # One after the other: that of plotly express takes much memory.
        sizes = [write(side(), page) for side, page in zip(sides.values(), pages, strict=True)]
        drawn = alternate(runs, *(drawing(page, browser) for page in pages))
    *here, there = zip(built, sizes, drawn, strict=True)
    for window, figures in zip(sides, here, strict=False):
        yield f"{len(records):,} records, {window}", figures, there


def write(figure, folder):
    """Write a page with the figure, and give the size of the figure's JSON in KB."""
    folder.mkdir()
    text = figure.to_json().encode()
    (folder / "figure.js").write_bytes(b"const figure = " + text)
    (folder / "plotly.js").write_text(get_plotlyjs(), encoding="utf-8")
    (folder / "page.html").write_text(PAGE, encoding="utf-8")
    return len(text) / 1000


def drawing(folder, browser):
    """Give a side that returns the seconds until a page is drawn, infinite where it never is."""
    taken = 0.0

    def run():
        nonlocal taken
        # What once took too long is not waited for again.
        taken = taken if math.isinf(taken) else draw(folder, browser)
        return taken

    return run


def draw(folder, browser):
    """Draw a page in a browser of its own and give the seconds that it took."""
    executable = next(filter(None, map(shutil.which, BROWSERS)))
    chromium = browser.launch(executable_path=executable, args=FLAGS)
    try:
        page = chromium.new_page()
        with page.expect_console_message(
            lambda message: message.text.startswith("drawn "), timeout=1000 * DRAWN_WITHIN_S
        ) as told:
            page.goto((folder / "page.html").as_uri(), wait_until="commit")
        return float(told.value.text.removeprefix("drawn "))
    except Error as error:
        if "crashed" not in str(error) and not isinstance(error, TooLate):
            raise
        return math.inf
    finally:
        chromium.close()


def shown(seconds):
    """Write a time."""
    return f"{seconds:.3g} s" if math.isfinite(seconds) else f"> {DRAWN_WITHIN_S} s"


def kilobytes(size):
    """Write the size of a figure."""
    return f"{size:,.0f} KB"


def times(here, there):
    """Write how many times as much the other side is, at least, to three digits."""
    bound, there = ("", there) if math.isfinite(there) else ("> ", DRAWN_WITHIN_S)
    return f"{bound}{float(f'{there / here:.3g}'):,g}"


UNITS = (shown, kilobytes, shown)


def main(arguments=None):
    """Measure everything and print the tables."""
    parser = argparse.ArgumentParser(description="Measure tables and figures.")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it runs")
    is_quick = parser.parse_args(arguments).quick
    runs, slow_runs = (1, 1) if is_quick else (5, 3)
    counts = [100] if is_quick else [10_000, 100_000, 1_000_000]
    drawn = kd.sandbox.frames("small" if is_quick else "large")
    print(f"| table of {counts[-1]:,} records | made | figure | JSON | aim | |")
    print("|---|---|---|---|---|---|")
    for *cells, is_reached in tables(runs, *fleet(drawn, counts[-1])):
        verdict = "reached" if is_reached else "not reached"
        print(f"| {' | '.join(cells)} | {verdict} |", flush=True)
    beside = "px.timeline | ratio"
    print(f"\n| timeline of | built | {beside} | JSON | {beside} | drawn | {beside} |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    with sync_playwright() as playwright:
        for count in counts:
            found = timelines(slow_runs, *fleet(drawn, count), playwright.chromium)
            for what, here, there in found:
                cells = [
                    cell
                    for ours, other, written in zip(here, there, UNITS, strict=True)
                    for cell in (written(ours), written(other), times(ours, other))
                ]
                print(f"| {what} | {' | '.join(cells)} |", flush=True)
    kind = (
        "one run each"
        if is_quick
        else f"median of {runs} alternating runs, beside px.timeline of {slow_runs}"
    )
    print(f"\n{machine('pandas', 'narwhals', 'pyarrow', 'plotly')}; {kind}.")


if __name__ == "__main__":
    main()
