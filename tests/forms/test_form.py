"""What forms keep: nothing of a former run, nothing of hostile text, nothing once closed."""

import subprocess
import sys
from types import SimpleNamespace

import ipywidgets as widgets
import nbclient
import nbformat
import pytest
from ipywidgets.widgets.widget import _instances

from koodrive_nb.forms.form import Field, Form, Notice, described, sent_at

HOSTILE = "<img src=x onerror=alert(1)> & \"quoted\" 'too'"


class Example(Form):
    def __init__(self, facts=""):
        super().__init__()
        self.facts = facts
        self.field = Field(described(widgets.Text(description="Name"), "A name"))
        self._fill(widgets.VBox([self.field, widgets.HTML("<b>text</b>")]), Notice())

    def _facts(self):
        return self.facts


@pytest.fixture
def runs(monkeypatch):
    """Give a function that says which run of which cell is going on."""

    def run(code, number, **metadata):
        header = {"msg_type": "execute_request", "msg_id": f"{code} {number}"}
        asked = {"header": header, "metadata": metadata, "content": {"code": code}}
        kernel = SimpleNamespace(get_parent=lambda channel: asked)
        monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel=kernel))

    return run


def is_open(form):
    return form.comm is not None


def test_closing_frees_every_part_with_its_layouts_and_styles():
    before = set(_instances)
    form = Example()
    assert len(_instances) > len(before) + 8
    form.close()
    assert set(_instances) == before


def test_a_new_run_of_a_cell_closes_its_former_form(runs):
    runs("Example()", 1)
    former = Example()
    runs("Example()", 2)
    latter = Example()
    assert (is_open(former), is_open(latter)) == (False, True)


def test_two_forms_of_one_run_both_stay_until_the_next(runs):
    runs("Example(), Example()", 1)
    first, second = Example(), Example()
    assert is_open(first)
    assert is_open(second)
    runs("Example(), Example()", 2)
    Example()
    assert not is_open(first)
    assert not is_open(second)


def test_the_form_of_another_cell_stays(runs):
    runs("Example()", 1, cellId="one")
    other = Example()
    runs("Example()", 2, cellId="two")
    Example()
    assert is_open(other)


def test_a_cell_that_was_edited_is_still_the_same_cell(runs):
    runs("Example()", 1, cellId="three")
    former = Example()
    runs("Example('other')", 2, cellId="three")
    Example()
    assert not is_open(former)


def test_without_a_kernel_forms_stay():
    first, second = Example(), Example()
    assert is_open(first)
    assert is_open(second)
    assert sent_at() is None


def test_a_cell_is_no_hand(runs):
    runs("form.button.click()", 1)
    assert sent_at() is None


def test_the_repr_is_stable_and_short():
    assert repr(Example("3 records")) == "Example(3 records)"
    assert len(repr(Example("x" * 500))) == 110


@pytest.mark.parametrize("kind", ["info", "done", "warning", "error"])
def test_a_notice_shows_hostile_text_as_text(kind):
    notice = Notice()
    notice.say(HOSTILE, kind)
    assert "&lt;img src=x onerror=alert(1)&gt; &amp;" in notice.value
    assert "<img" not in notice.value
    assert notice.text == HOSTILE
    assert (('role="alert"' in notice.value), ('role="status"' in notice.value)) == (
        kind == "error",
        kind != "error",
    )


def test_an_empty_complaint_takes_the_former_one_back():
    field = Field(widgets.Text())
    field.complain("is empty")
    assert (field.notice.text, "is empty" in field.notice.value) == ("is empty", True)
    field.complain("")
    assert (field.notice.text, field.notice.value) == ("", "")


def test_the_end_of_python_is_quiet():
    code = """
import koodrive_nb as kd

fleet = kd.sandbox.frames("small", 0)
form = kd.forms.Explorer(fleet.records)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (ended.stdout, ended.stderr) == (b"", b"")


def test_twenty_runs_of_a_cell_in_a_real_kernel_leave_as_many_widgets_as_one():
    makers = {
        "connect": "kd.forms.ConnectForm()",
        "two": "(kd.forms.ConnectForm(), kd.forms.ConnectForm())",
        "records": "kd.forms.RecordForm(client).look_up(['1842862763295184641'])",
        "explorer": "kd.forms.Explorer(records)",
    }
    parts = """
import koodrive_nb as kd
import ipywidgets.widgets.widget as widget

client = kd.connect("sandbox")
records = client.records(module="folder", max_pages=1)
"""
    sources = [parts, *makers.values(), "len(widget._instances)"]
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, sources)))
    client = nbclient.NotebookClient(notebook, store_widget_state=False)
    counts = []
    with client.setup_kernel():
        client.execute_cell(notebook.cells[0], 0)
        for _ in range(20):
            for number in range(1, len(sources)):
                client.execute_cell(notebook.cells[number], number)
            counts.append(notebook.cells[-1].outputs[0]["data"]["text/plain"])
    assert int(counts[0]) > 60
    assert set(counts) == {counts[0]}
