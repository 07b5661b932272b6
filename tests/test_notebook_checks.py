import time

import nbformat
import pytest

from koodrive_nb import notebook_checks

V4 = nbformat.v4
FIGURE = "application/vnd.plotly.v1+json"
VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def stored(tmp_path):
    """Store a notebook of two executed cells, changed by what is passed, and list its problems."""

    def store(change=None):
        cells = [
            V4.new_markdown_cell("# Title"),
            V4.new_code_cell("1 + 1", execution_count=1, outputs=[result("2")]),
            V4.new_code_cell("  "),
            V4.new_code_cell("2 + 2", execution_count=2, outputs=[result("4")]),
        ]
        notebook = V4.new_notebook(cells=cells)
        if change:
            change(notebook)
        path = tmp_path / "some.ipynb"
        nbformat.write(notebook, path)
        return notebook_checks.problems(path)

    return store


def result(text):
    return V4.new_output("execute_result", {"text/plain": text}, execution_count=1)


def test_a_clean_notebook_has_no_problems(stored):
    assert stored() == []


SPOILT = {
    "was not executed": lambda nb: nb.cells[1].update(execution_count=None),
    "was executed as number 7, not 2": lambda nb: nb.cells[3].update(execution_count=7),
    "text after cell 1: holds outputs and no code": lambda nb: nb.cells[2].outputs.append(
        result("all devices are protected")
    ),
    "prints over what it has printed": lambda nb: nb.cells[1].outputs.append(
        V4.new_output("stream", text="?00 % are protected\r0")
    ),
    "holds an error": lambda nb: nb.cells[1].outputs.append(V4.new_output("error", ename="E")),
    "asks not to be compared": lambda nb: nb.cells[1].metadata.update(tags=["nbval-ignore-output"]),
    "and gives no reason": lambda nb: nb.cells[1].update(source="# NBVAL_IGNORE_OUTPUT\n1"),
    "in a way that nothing reads": lambda nb: nb.cells[1].update(source="1  # NBVAL_SKIP: slow"),
    "hold widget state": lambda nb: nb.metadata.update(widgets={}),
    "holds a view of a widget": lambda nb: nb.cells[1].outputs[0].data.update({VIEW: {}}),
    "holds times of execution": lambda nb: nb.cells[1].metadata.update(execution={"a": "b"}),
    "is larger than 300,000 bytes": lambda nb: nb.cells[1].outputs.append(result("x" * 300_001)),
    "cell 2: is larger than 300,000 bytes": lambda nb: (
        nb.cells[3].outputs[0].data.update({"application/json": {"y": [0.123456789] * 40_000}})
    ),
    "the file is larger than 1,000,000": lambda nb: nb.cells.append(
        V4.new_markdown_cell("x" * 1_000_001)
    ),
    "holds an Authorization value": lambda nb: nb.cells[0].update(
        source="Bearer 0123456789abcdef0"
    ),
    "holds an Auth": lambda nb: nb.cells[1].update(source="x = 'AT 3b911d72aa00bb11cc22'"),
    "asks not to": lambda nb: nb.cells[1].update(source="# PYTEST_VALIDATE_IGNORE_OUTPUT\n1"),
    "holds a secret": lambda nb: nb.cells[1].update(source="TokenAuth('60f4ccc7b13dd9a68068')"),
    "holds a long run of hex": lambda nb: nb.cells[1].outputs.append(result("a1" * 24)),
    "holds a JSON web token": lambda nb: nb.cells[0].update(
        source="eyJhbGciOiJIUzI.eyJzdWIiOiIxMj"
    ),
    "holds a secret that is set": lambda nb: nb.cells[1].update(
        source="os.environ['KOODRIVE_TOKEN'] = 'hunter2hunter2'"
    ),
    "holds a path of a machine: /home": lambda nb: nb.cells[1].outputs.append(
        V4.new_output("stream", name="stderr", text="/home/ann/x.py:3: Warning")
    ),
    "text before cell 1: holds an Authorization": lambda nb: nb.cells[0].update(
        source="Bearer 0123456789abcdef0"
    ),
    "the metadata: holds a secret": lambda nb: nb.metadata.update(KOODRIVE_TOKEN="hunter2hunter2"),
    "cell 2: holds a path of a machine: /root": lambda nb: (
        nb.cells[3].outputs[0].data.update({"application/json": {"text": "read\n/root/x.csv"}})
    ),
    "holds a path of a machine: C:": lambda nb: nb.cells[0].update(source=r"C:\Users\ann"),
    "holds a path": lambda nb: nb.metadata.update(where="/Users/ann/nb"),
}


@pytest.mark.parametrize("problem", SPOILT)
def test_a_spoilt_notebook_is_refused_by_name(stored, problem):
    found = stored(SPOILT[problem])
    assert any(problem in line for line in found), found


def test_a_cell_that_is_meant_to_fail_may_hold_its_error(stored):
    def change(notebook):
        notebook.cells[1].metadata.update(tags=["raises-exception"])
        notebook.cells[1].outputs.append(V4.new_output("error", ename="E"))

    assert stored(change) == []


def test_a_cell_that_says_why_may_go_uncompared(stored):
    def change(notebook):
        notebook.cells[1].source = "# Not compared: the exchange rate is another one each day\n1"
        notebook.cells[1].metadata.update(tags=["nbval-ignore-output"])

    assert stored(change) == []


def test_a_secret_of_the_environment_is_known_whatever_its_form(stored, monkeypatch):
    monkeypatch.setenv("KOODRIVE_TOKEN", "plain words")
    found = stored(lambda nb: nb.cells[1].outputs.append(result("some plain words here")))
    assert found == ["cell 1: holds the value of KOODRIVE_TOKEN"]


LIVE = {
    "figure": {FIGURE: {"data": [], "layout": {"title": {"text": "12 records · live, complete"}}}},
    "client": {"text/plain": "Client(source='live', user_id='42', auth='app')"},
    "form": {"text/plain": "RecordForm(0 records, live)"},
    "table": {"text/plain": "  record_id source\n0        1   live"},
    "column": {"text/plain": "record_id     1\nsource     live\nuser_id      42"},
    "page": {"text/html": "<th>source</th><td style='text-align:left'>live</td>"},
    "polars": {"text/plain": "│ source │\n╞════════╡\n│ live   │"},
}


@pytest.mark.parametrize("shown", LIVE)
def test_outputs_of_a_live_account_need_the_word_of_the_notebook(stored, shown):
    def change(notebook):
        notebook.cells[1].outputs[0].data = nbformat.from_dict(LIVE[shown])

    def meant(notebook):
        change(notebook)
        notebook.metadata["koodrive_nb"] = {"source": "live"}

    (problem,) = stored(change)
    assert problem.startswith("cell 1: holds outputs of a live account")
    assert stored(meant) == []


def test_a_word_in_a_sentence_is_no_live_account(stored):
    words = "the source of live music, live  and complete"
    assert stored(lambda nb: nb.cells[1].outputs.append(result(words))) == []


def test_looking_at_a_megabyte_of_anything_takes_no_time(stored):
    start = time.monotonic()
    for text in ("x" * 1_000_000, " " * 1_000_000, "Form(" * 200_000, "source " * 150_000):
        stored(lambda nb, text=text: nb.cells[1].outputs.append(result(text)))
    assert time.monotonic() - start < 20


def test_web_addresses_and_plain_slashes_are_no_paths(stored):
    def change(notebook):
        notebook.cells[0].source = (
            "Look at kd.analysis.status_breakdown; https://example.com/home/x, "
            "GET /koodrive/ose, and/or tmp/x"
        )

    assert stored(change) == []


def test_notebooks_run_without_an_account(monkeypatch):
    monkeypatch.setenv("KOODRIVE_TOKEN", "s3cret")
    environment = notebook_checks.environment()
    assert not any(name.startswith("KOODRIVE_") for name in environment)
    added = set(notebook_checks.sandboxed().items()) - set(environment.items())
    assert added == {("KOODRIVE_ENDPOINT", "sandbox")}
    assert environment["TZ"] == "UTC"


@pytest.fixture
def unexecuted(tmp_path):
    cells = [V4.new_code_cell("import os\n1 + 1", metadata={"collapsed": True, "tags": ["x"]})]
    path = tmp_path / "new.ipynb"
    nbformat.write(V4.new_notebook(cells=cells, metadata={"widgets": {}}), path)
    return path


def test_refreshing_executes_in_place_and_a_second_time_changes_nothing(unexecuted):
    assert notebook_checks.refresh(unexecuted, store=False) == ["cell 1", "the metadata"]
    assert nbformat.read(unexecuted, 4).cells[0].execution_count is None
    assert notebook_checks.refresh(unexecuted) == ["cell 1", "the metadata"]
    assert notebook_checks.problems(unexecuted) == []
    notebook = nbformat.read(unexecuted, 4)
    assert notebook.cells[0].outputs[0].data["text/plain"] == "2"
    assert notebook.cells[0].metadata == {"tags": ["x"]}
    assert notebook_checks.refresh(unexecuted, store=False) == []


def test_refreshing_keeps_what_a_form_says_of_itself_and_not_the_random_id_of_its_view(unexecuted):
    notebook = nbformat.read(unexecuted, as_version=4)
    notebook.cells = [V4.new_code_cell("import koodrive_nb as kd\nkd.forms.ConnectForm()")]
    nbformat.write(notebook, unexecuted)
    notebook_checks.refresh(unexecuted)
    (output,) = nbformat.read(unexecuted, as_version=4).cells[0].outputs
    assert output.data == {"text/plain": "ConnectForm(not connected)"}
    assert notebook_checks.problems(unexecuted) == []


def test_refreshing_leaves_out_no_cell_whatever_its_tags(tmp_path):
    cell = V4.new_code_cell("1 + 1", execution_count=1, outputs=[result("3")])
    cell.metadata["tags"] = ["skip-execution"]
    path = tmp_path / "left_out.ipynb"
    nbformat.write(V4.new_notebook(cells=[cell]), path)
    assert "cell 1" in notebook_checks.refresh(path, store=False)


def test_what_a_program_says_past_python_is_no_output(unexecuted, monkeypatch):
    # A kernel that a test starts would not listen to it anyway.
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    notebook = nbformat.read(unexecuted, as_version=4)
    notebook.cells[
        0
    ].source = "import os, time\nos.write(2, b'noise\\n'); time.sleep(0.5)\nprint('shown')"
    nbformat.write(notebook, unexecuted)
    notebook_checks.refresh(unexecuted)
    (output,) = nbformat.read(unexecuted, as_version=4).cells[0].outputs
    assert (output.name, output.text) == ("stdout", "shown\n")


@pytest.mark.parametrize(
    "text",
    [
        "kd.AppAuth('a378331e', 's3cretOfMine')",
        'AppAuth(app_id=os.environ["ID"],\n    app_secret="s3cretOfMine")',
        "file:///home/ann/x.csv",
        "written to:/home/ann/x.csv",
        "C:/Users/ann/x.csv",
        "/Volumes/ann/x.csv",
    ],
)
def test_secrets_and_paths_are_found_however_they_are_written(text):
    assert notebook_checks.leaks(text)


def test_what_only_looks_like_a_secret_or_a_path_is_none():
    for text in ("kd.AppAuth(app_id, app_secret)", "AppAuth(app_id='a378331e')", "http://home/x"):
        assert notebook_checks.leaks(text) == []
