"""The benchmarks run, and the README shows what they print."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


def measured(table, cells):
    """Give what each line is about, without its numbers, once for all sizes."""
    lines = [line.split("|")[1 : 1 + cells] for line in table.splitlines() if line.startswith("| ")]
    return list(dict.fromkeys(re.sub(r"[\d,.]+", "#", " ".join(line)) for line in lines[1:]))


@pytest.mark.parametrize(
    ("script", "marker", "cells", "figures"),
    [
        ("fetching.py", "<!-- benchmarks -->", 2, 6),
        # The tables, the second header, and the timeline in two windows.
        ("analysing.py", "<!-- benchmarks: analysis -->", 1, 21 + 1 + 2),
        ("sweeping.py", "<!-- benchmarks: sweep -->", 2, 4),
        ("exploring.py", "<!-- benchmarks: explorer -->", 1, 7),
        ("comparing.py", "<!-- benchmarks: ways -->", 1, 3),
        ("scaling.py", "<!-- benchmarks: scale -->", 1, 3),
    ],
)
def test_every_figure_of_the_readme_is_measured_by_the_benchmarks(script, marker, cells, figures):
    command = [sys.executable, Path(__file__).with_name(script), "--quick"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    stored = README.read_text(encoding="utf-8").partition(marker)[2].partition("<!-- end -->")[0]
    assert len(measured(told, cells)) == figures
    assert measured(stored, cells) == measured(told, cells)
    assert "one run each" in told
    assert "median of 5 alternating runs" in stored
