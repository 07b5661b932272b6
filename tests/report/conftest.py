"""Notebooks made by hand, and the report of one that has a bit of everything."""

import json

import nbformat
import pytest

from koodrive_nb import report

V4 = nbformat.v4
KEY = "5a" * 32
PARAMETERS = 'source = "sandbox"\nn = 2\nshare = 0.5\nids = None'

RICH = """
import pandas as pd
import koodrive_nb as kd
client = kd.connect(source)
records, devices = client.records(), client.devices()
records
""".strip()
HOSTILE = """
from IPython.display import HTML, Markdown, display
evil = '<b>bold</b><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
display(HTML(evil), Markdown(evil))
print(evil)
kd.charts.status_breakdown(records).update_layout(meta={"alt": '">' + evil})
""".strip()
TILES = """
headline = pd.DataFrame([
    {"kpi": "protected", "value": 0.6, "lo": 0.5, "hi": 0.7, "numerator": 60.0,
     "denominator": 100.0, "excluded": 3, "previous": 0.55, "change_pp": 5.0, "comparable": True,
     "why_not": None, "definition": "RPO 7 d", "window_start": pd.Timestamp("2025-12-08", tz="UTC"),
     "window_end": pd.Timestamp("2025-12-15", tz="UTC")},
    {"kpi": "stuck", "value": 0.03, "lo": 0.01, "hi": 0.08, "numerator": 3.0,
     "denominator": 100.0, "excluded": 3, "previous": None, "change_pp": None,
     "comparable": False, "why_not": "RPO 7 d -> 5 d", "definition": "RPO 5 d",
     "window_start": pd.Timestamp("2025-12-08", tz="UTC"),
     "window_end": pd.Timestamp("2025-12-15", tz="UTC")},
])
kd.report.tiles(headline)
""".strip()
NUMBERS = """
controls = pd.DataFrame({"control": ["age"], "result": ["fail"]})
kd.report.numbers(headline=headline, controls=controls, devices=devices[["device_id"]].head(2))
""".strip()


@pytest.fixture(scope="session")
def notebook(tmp_path_factory):
    """Write a notebook of a heading, parameters and what is passed, and give its path."""

    def write(*cells):
        path = tmp_path_factory.mktemp("notebook") / "some.ipynb"
        first = [
            V4.new_markdown_cell("# Backups of *a* week\n\n<script>window.hacked=1</script>Hello"),
            V4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        ]
        made = [cell if isinstance(cell, dict) else V4.new_code_cell(cell) for cell in cells]
        nbformat.write(V4.new_notebook(cells=first + made), path)
        return path

    return write


@pytest.fixture(scope="session")
def rich(notebook):
    """Render a notebook that has everything, and give the report with its folder's key."""
    path = notebook(
        RICH,
        HOSTILE,
        "kd.report.by_module(kd.charts.status_breakdown, records)",
        TILES,
        NUMBERS,
        'devices[["device_id", "device_name"]].head(3)',
    )
    key = path.parent / "privacy.key"
    key.write_text(KEY)
    output = path.parent / "report.html"
    made = report.render(path, {"n": "7"}, output, key=key, history=path.parent / "kpis.parquet")
    return made, json.loads(output.with_suffix(".json").read_text())


@pytest.fixture
def key(tmp_path):
    """Give a file with a key."""
    path = tmp_path / "privacy.key"
    path.write_text(KEY)
    return path
