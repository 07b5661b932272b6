import nbformat
import pytest

from koodrive_nb import notebook_checks

V4 = nbformat.v4
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
    "holds an error": lambda nb: nb.cells[1].outputs.append(V4.new_output("error", ename="E")),
    "asks not to be compared": lambda nb: nb.cells[1].metadata.update(tags=["nbval-ignore-output"]),
    "asks not": lambda nb: nb.cells[1].update(source="# NBVAL_IGNORE_OUTPUT\n1"),
    "asks": lambda nb: nb.cells[1].update(source="1  # NBVAL_SKIP: slow"),
    "hold widget state": lambda nb: nb.metadata.update(widgets={}),
    "holds a view of a widget": lambda nb: nb.cells[1].outputs[0].data.update({VIEW: {}}),
    "holds times of execution": lambda nb: nb.cells[1].metadata.update(execution={"a": "b"}),
    "is larger than 300,000 bytes": lambda nb: nb.cells[1].outputs.append(result("x" * 300_001)),
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
    assert environment["TZ"] == "UTC"


@pytest.fixture
def unexecuted(tmp_path):
    cells = [V4.new_code_cell("import os\n1 + 1", metadata={"collapsed": True, "tags": ["x"]})]
    path = tmp_path / "new.ipynb"
    nbformat.write(V4.new_notebook(cells=cells, metadata={"widgets": {}}), path)
    return path


def test_refreshing_executes_in_place_and_a_second_time_changes_nothing(unexecuted):
    assert notebook_checks.refresh(unexecuted) is True
    assert notebook_checks.problems(unexecuted) == []
    notebook = nbformat.read(unexecuted, 4)
    assert notebook.cells[0].outputs[0].data["text/plain"] == "2"
    assert notebook.cells[0].metadata == {"tags": ["x"]}
    assert notebook_checks.refresh(unexecuted) is False


def test_refreshing_keeps_what_a_form_says_of_itself_and_not_the_random_id_of_its_view(unexecuted):
    notebook = nbformat.read(unexecuted, as_version=4)
    notebook.cells = [V4.new_code_cell("import koodrive_nb as kd\nkd.forms.ConnectForm()")]
    nbformat.write(notebook, unexecuted)
    notebook_checks.refresh(unexecuted)
    (output,) = nbformat.read(unexecuted, as_version=4).cells[0].outputs
    assert output.data == {"text/plain": "ConnectForm(not connected)"}
    assert notebook_checks.problems(unexecuted) == []
