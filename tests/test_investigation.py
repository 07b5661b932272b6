"""The notebook that asks why completion changed, of accounts about which there is little to say."""

import dataclasses
import runpy
from pathlib import Path

import nbformat
import pandas as pd
import pytest

import koodrive_nb as kd

NOTEBOOK = Path(__file__).parents[1] / "notebooks/04_investigation.ipynb"
WHOLE = kd.sandbox.frames("small")


def one_day(records):
    created = records["create_time"]
    begin = pd.Timestamp("2025-12-10T00:00Z")
    return records[(created >= begin) & (created < begin + pd.Timedelta("1D"))]


@pytest.fixture
def said(monkeypatch, tmp_path, capsys):
    """Run the notebook on records in place of the sandbox's, and give what it says."""

    def run(records):
        fleet = dataclasses.replace(WHOLE, records=records.reset_index(drop=True))
        monkeypatch.setattr(kd.sandbox, "frames", lambda *given: fleet)
        monkeypatch.chdir(NOTEBOOK.parent)
        cells = nbformat.read(NOTEBOOK, as_version=4).cells
        code = tmp_path / "investigation.py"
        code.write_text("\n".join(cell.source for cell in cells if cell.cell_type == "code"))
        runpy.run_path(str(code))
        return capsys.readouterr().out

    return run


def test_of_an_empty_account_it_says_that_there_is_nothing(said):
    words = said(WHOLE.records.head(0))
    assert words.startswith("0 records of 0 users; the question is of week 2025-W50.")
    assert "not enough data: 0 backups came to an end in the earlier window" in words
    assert "Nothing is stuck." in words
    assert "Nothing started, so that no hour is busy." in words
    assert "nan" not in words.lower()


def test_of_a_quiet_day_it_says_that_this_is_not_enough(said):
    words = said(one_day(WHOLE.records))
    assert "not enough data: 0 backups came to an end in the earlier window" in words
    assert "0 of 0 days that can be judged are unusual, out of" in words
    assert "The busiest hour is Wednesday from " in words
    assert "nan" not in words.lower()


def test_of_a_day_on_which_all_went_well_it_says_that_nothing_is_stuck(said):
    records = one_day(WHOLE.records)
    words = said(records[records["status"] == "completed"])
    assert "Nothing is stuck." in words
    assert "nan" not in words.lower()
