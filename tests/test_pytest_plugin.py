"""`pytest --koodrive-nb`, as an analyst uses it: what it lets pass, and what it refuses by name."""

import copy
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

from koodrive_nb import cli, notebook_checks

ROOT = Path(__file__).parents[1]
V4 = nbformat.v4
FIGURE = "application/vnd.plotly.v1+json"
CELLS = [
    "import koodrive_nb as kd, pandas as pd\nclient = kd.connect()\nclient",
    "records = client.records()\nprint(len(records), records['fetched_at'].max())",
    "figure = kd.charts.status_breakdown(records)\nfigure",
    "figure",
    "figure",
    "import plotly.graph_objects as go\ngo.Figure(go.Scatter(y=pd.Series([3.5, 1.5]).to_numpy()))",
    "print('as ever')",
    "print('shown')",
    "7 * 6",
]

DEAF = "try:\n    while True:\n        pass\nexcept KeyboardInterrupt:\n    pass"
UPDATED = "shown = display('100 %', display_id=True)\nshown.update('50 %')"


def write(path, notebook):
    nbformat.write(notebook, path)
    return path


def light(*sources):
    """Make a notebook whose cells were executed and printed nothing."""
    cells = [
        V4.new_code_cell(source, execution_count=number)
        for number, source in enumerate(sources, start=1)
    ]
    return V4.new_notebook(cells=cells)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Make an analyst's repository from nothing: a notebook and two lines of configuration."""
    folder = tmp_path_factory.mktemp("repository")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (folder / "pytest.ini").write_text(readme.partition("```ini\n")[2].partition("```")[0])
    path = folder / "notebooks" / "weekly.ipynb"
    path.parent.mkdir()
    write(path, V4.new_notebook(cells=[V4.new_code_cell(source) for source in CELLS]))
    refreshed = CliRunner().invoke(cli.main, ["notebooks", "refresh", str(folder)])
    assert refreshed.exit_code == 0, refreshed.output
    return folder


@pytest.fixture(scope="module")
def weekly(repository):
    return nbformat.read(repository / "notebooks" / "weekly.ipynb", 4)


def spoil(notebook):
    """Spoil each cell but the first and the last in its own way."""
    cells = notebook.cells
    cells[1].outputs[0].text = cells[1].outputs[0].text.replace("505", "506")
    cells[2].outputs[0].data[FIGURE]["data"][0]["marker"]["color"] = "#4172C8"
    cells[3].outputs[0].data[FIGURE]["data"].pop()
    cells[4].outputs[0].data[FIGURE]["data"][0]["x"][0] += 1
    cells[5].source = cells[5].source.replace("3.5", "2.5")
    cells[6].source = "print('no longer')"
    cells[7].outputs = []
    return notebook


@pytest.fixture(scope="module")
def refused(repository, weekly):
    """Run the plugin over all that was spoilt at once; give what each test said."""
    folder = repository / "spoilt"
    folder.mkdir()
    write(folder / "spoilt.ipynb", spoil(copy.deepcopy(weekly)))
    write(folder / "endless.ipynb", light("pass", "while True: pass", "pass"))
    write(folder / "killed.ipynb", light("import os\nos.kill(os.getpid(), 9)", "pass"))
    write(folder / "deaf.ipynb", light(DEAF))
    updated = light(UPDATED)
    updated.cells[0].outputs = [V4.new_output("display_data", {"text/plain": "'100 %'"})]
    write(folder / "updated.ipynb", updated)
    write(folder / "gone.ipynb", light("import os\nos._exit(0)"))
    (folder / "broken.ipynb").write_text("{")
    for name, change in UNFIT.items():
        notebook = copy.deepcopy(weekly)
        change(notebook)
        write(folder / f"{name}.ipynb", notebook)
    slow = [f"spoilt/{name}.ipynb" for name in ("spoilt", "broken")]
    dead = [f"spoilt/{name}.ipynb" for name in ("endless", "deaf", "killed", "gone", "updated")]
    unfit = [f"spoilt/{name}.ipynb::fit" for name in UNFIT]
    return run(repository, *slow, *unfit) | run(repository, "--nbval-cell-timeout=2", *dead)


def run(folder, *options):
    """Run pytest in a folder; give the outcome and the text of each test."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--junitxml=out.xml"]
    done = subprocess.run(
        [*command, *options], cwd=folder, check=False, capture_output=True, text=True
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    found = {}
    for case in ET.parse(folder / "out.xml").iter("testcase"):
        inner = next(iter(case), None)
        outcome = "passed" if inner is None else inner.tag
        stem = case.get("classname").removesuffix(".ipynb").rpartition(".")[2]
        text = "" if inner is None else f"{inner.get('message')}\n{inner.text}"
        found[f"{stem} {case.get('name')}"] = outcome, text
    return found


def test_one_notebook_two_lines_and_one_command_validate(repository):
    outcomes = run(repository, "notebooks")
    assert [name.split(" ", 1)[1] for name in outcomes] == [
        "fit",
        *(f"Cell {number}" for number in range(1, len(CELLS) + 1)),
    ]
    assert {outcome for outcome, _ in outcomes.values()} == {"passed"}


def test_connecting_without_an_account_reaches_the_sandbox_and_its_fixed_time(weekly):
    assert "source='sandbox'" in weekly.cells[0].outputs[0].data["text/plain"]
    assert weekly.cells[1].outputs[0].text == "505 2025-12-17 08:30:00+00:00\n"


def view(notebook):
    mime = "application/vnd.jupyter.widget-view+json"
    notebook.cells[8].outputs[0].data[mime] = {"model_id": "1"}


def state(notebook):
    notebook.metadata["widgets"] = {"state": {"a": {"value": "Bearer 0123456789abcdef0"}}}


UNFIT = {
    "stripped": lambda nb: nb.cells[8].update(execution_count=None, outputs=[]),
    "order": lambda nb: nb.cells[7].update(execution_count=12),
    "lax": lambda nb: nb.cells[8].metadata.update(tags=["nbval-skip"]),
    "output": lambda nb: nb.cells[7].outputs[0].update(text="AT 3b911d72aa00bb11cc22"),
    "metadata": lambda nb: nb.metadata.update(title="Bearer 0123456789abcdef0"),
    "widget": state,
    "view": view,
    "home": lambda nb: nb.cells[7].outputs[0].update(text="read\n/home/ann/x.csv"),
    "error": lambda nb: nb.cells[7].outputs.append(V4.new_output("error", ename="E")),
    "live": lambda nb: nb.cells[7].outputs[0].update(text="12 records · live, complete"),
    "heavy": lambda nb: nb.cells[7].outputs[0].update(text="x" * 300_001),
}

NAMED = {
    # What the code behind a notebook no longer makes, or what was changed in the stored file.
    "spoilt Cell 2": ("- '506 2025-12-17", "+ '505 2025-12-17"),
    "spoilt Cell 3": ("figure.data[0].marker.color: stored '#4172C8', now '#",),
    "spoilt Cell 4": ("figure.data: stored 4 items, now 5",),
    "spoilt Cell 5": ("figure.data[0].x[0]: stored",),
    "spoilt Cell 6": ("figure.data[0].y[0]: stored 3.5, now 2.5",),
    "spoilt Cell 7": ("- 'as ever", "+ 'no longer"),
    "spoilt Cell 8": ("stdout: 0 stored, 1 now", "shown"),
    # What never answers.
    "endless Cell 2": ("Cell 2: Timeout of 2 seconds exceeded", "while True: pass"),
    "killed Cell 1": ("Cell 1: The kernel died while it executed this cell", "os.kill"),
    "deaf Cell 1": ("Cell 1: The time for a cell was over before this one ended",),
    "updated Cell 1": ("Cell 1: What it has shown it changes or clears",),
    "gone Cell 1": ("Cell 1: The kernel died while it executed this cell",),
    # What is not fit to be stored.
    "broken fit": ("broken.ipynb is not fit to be stored", "is no notebook"),
    "stripped fit": ("cell 9: was not executed",),
    "order fit": ("cell 8: was executed as number 12, not 8",),
    "lax fit": ("cell 9: asks not to be compared and gives no reason",),
    "output fit": ("cell 8: holds an Authorization value",),
    "metadata fit": ("the metadata: holds an Authorization value",),
    "widget fit": ("the metadata: holds an Authorization value", "hold widget state"),
    "view fit": ("cell 9: holds a view of a widget",),
    "home fit": ("cell 8: holds a path of a machine: /home/ann",),
    "error fit": ("cell 8: holds an error",),
    "live fit": ("cell 8: holds outputs of a live account",),
    "heavy fit": ("cell 8: is larger than 300,000 bytes",),
}


@pytest.mark.parametrize("test", NAMED)
def test_what_is_spoilt_is_refused_by_name(refused, test):
    outcome, text = refused[test]
    assert outcome == "failure", text
    for words in NAMED[test]:
        assert words in text


def test_what_is_not_spoilt_passes_beside_it(refused):
    failed = {name for name, (outcome, _) in refused.items() if outcome == "failure"}
    assert failed == set(NAMED)
    skipped = {name: text for name, (outcome, text) in refused.items() if outcome == "skipped"}
    assert set(skipped) == {"endless Cell 3", "killed Cell 2"}
    assert all("left no kernel to go on with" in text for text in skipped.values())


def test_a_live_notebook_that_says_so_is_looked_at_and_not_executed(pytester):
    notebook = light("kd.connect()")
    notebook.cells[0].outputs = [V4.new_output("stream", text="12 records · live, complete")]
    notebook.metadata["koodrive_nb"] = {"source": "live"}
    write(pytester.path / "month.ipynb", notebook)
    pytester.runpytest_inprocess("--koodrive-nb").assert_outcomes(passed=1)


def test_a_dead_kernel_is_noticed_at_once(pytester):
    write(
        pytester.path / "killed.ipynb", light("pass", "import os\nos.kill(os.getpid(), 9)", "pass")
    )
    start = time.monotonic()
    outcome = pytester.runpytest_inprocess("--koodrive-nb")
    outcome.assert_outcomes(passed=2, failed=1, skipped=1)
    assert time.monotonic() - start < notebook_checks.CELL_TIMEOUT_S / 2


@pytest.mark.parametrize(
    ("variables", "outcomes"),
    [
        ({}, {"passed": 3, "skipped": 1}),
        ({"CI": "true"}, {"passed": 3, "errors": 1}),
        ({"JAVA_HOME": "java"}, {"passed": 4}),
    ],
    ids=["skipped", "failed-in-ci", "executed-where-java-is"],
)
def test_just_the_cell_that_needs_java_is_left_out_where_there_is_none(
    pytester, monkeypatch, variables, outcomes
):
    for name in ("CI", "JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"PATH": str(pytester.path)} | variables).items():
        monkeypatch.setenv(name, value)
    notebook = light("a = 1", "b = 2", "a")
    notebook.cells[1].metadata["tags"] = ["needs-java"]
    notebook.cells[2].outputs = [
        V4.new_output("execute_result", {"text/plain": "1"}, execution_count=3)
    ]
    write(pytester.path / "spark.ipynb", notebook)
    outcome = pytester.runpytest_inprocess("--koodrive-nb", "-rs")
    outcome.assert_outcomes(**outcomes)
    said = "This cell needs Java, and there is none: install Java 17" in outcome.stdout.str()
    assert said == (outcomes["passed"] == 3)


def test_it_is_off_until_asked_for(pytester):
    write(pytester.path / "failing.ipynb", light("1 / 0"))
    pytester.makepyfile("def test_nothing_more_is_collected(): pass")
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_off_it_imports_nothing_and_needs_no_extra():
    code = (
        "import sys; before = set(sys.modules); import koodrive_nb.pytest_plugin; "
        "print({'nbval', 'nbformat', 'pandas', 'plotly', 'zmq'} & (set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["-p", "no:nbval"], "needs nbval: pip install 'koodrive_nb[[]ci[]]'"),
        (["--nbval"], "brings nbval along"),
        (["--nbval-lax"], "brings nbval along"),
    ],
)
def test_what_would_weaken_it_is_refused_before_anything_runs(pytester, options, says):
    outcome = pytester.runpytest_inprocess("--koodrive-nb", *options)
    outcome.stderr.fnmatch_lines([f"*{says}*"])


def test_every_cell_has_a_minute_unless_told_otherwise(pytester):
    pytester.makeconftest(
        "def pytest_collection_finish(session):\n"
        "    print('seconds:', session.config.option.nbval_cell_timeout)\n"
    )
    for options, seconds in ([], notebook_checks.CELL_TIMEOUT_S), (["--nbval-cell-timeout=2"], 2.0):
        outcome = pytester.runpytest_inprocess("-s", "--koodrive-nb", *options)
        outcome.stdout.fnmatch_lines([f"*seconds: {seconds}"])


def test_the_project_itself_is_validated_by_it():
    configuration = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "koodrive_nb = true" in configuration
    assert "nbval-" not in configuration
