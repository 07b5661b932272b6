"""The benchmarks run, and the README shows what they print."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("fetching.py")
README = Path(__file__).parents[2] / "README.md"


def measured(table):
    """Give what each line is about, without its numbers."""
    lines = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| ")]
    return [re.sub(r"[\d,.]+", "#", " ".join(cells)) for cells in lines[1:]]


def test_every_figure_of_the_readme_is_measured_by_the_benchmarks():
    told = subprocess.run(
        [sys.executable, SCRIPT, "--quick"], capture_output=True, text=True, check=True
    )
    stored = README.read_text(encoding="utf-8")
    stored = stored.partition("<!-- benchmarks -->")[2].partition("<!-- end -->")[0]
    assert len(measured(told.stdout)) == 6
    assert measured(stored) == measured(told.stdout)
    assert "one run each" in told.stdout
    assert "median of 5 alternating runs" in stored
