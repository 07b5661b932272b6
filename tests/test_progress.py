import builtins
import re
import sys
import time
from types import SimpleNamespace

import nbclient
import nbformat
import pytest

from koodrive_nb import progress

WANTED = True


@pytest.fixture
def kernel(monkeypatch):
    """Say what kernel runs this process, None for none."""

    def say(running):
        shell = None if running is None else SimpleNamespace(kernel=running)
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))

    return say


@pytest.fixture
def terminal(monkeypatch):
    """Say whether stderr is a terminal, None for no stderr at all."""

    def say(*, is_terminal):
        stderr = None if is_terminal is None else SimpleNamespace(isatty=lambda: is_terminal)
        monkeypatch.setattr(sys, "stderr", stderr)

    return say


def asking(content):
    def get_parent(channel):
        assert channel == "shell"
        return {"content": content}

    return SimpleNamespace(get_parent=get_parent)


@pytest.mark.parametrize(("is_terminal", "watched"), [(True, True), (False, False), (None, False)])
def test_without_a_kernel_a_terminal_is_watched(kernel, terminal, is_terminal, watched):
    kernel(None)
    terminal(is_terminal=is_terminal)
    assert progress.is_watched() is watched


@pytest.mark.parametrize("modules", ["none", "half-imported", "no shell", "a plain shell"])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_without_a_notebook_only_the_terminal_counts(monkeypatch, terminal, modules, is_terminal):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    found = {
        "half-imported": SimpleNamespace(),
        "no shell": SimpleNamespace(get_ipython=lambda: None),
        "a plain shell": SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=None)),
    }.get(modules)
    if found:
        monkeypatch.setitem(sys.modules, "IPython", found)
    terminal(is_terminal=is_terminal)
    assert progress.is_watched() is is_terminal


@pytest.mark.parametrize(("allowed", "watched"), [(True, True), (False, False)])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_notebook_is_watched_where_it_could_ask(kernel, terminal, allowed, watched, is_terminal):
    kernel(asking({"allow_stdin": allowed}))
    terminal(is_terminal=is_terminal)
    assert progress.is_watched() is watched


@pytest.mark.parametrize(
    "running",
    [
        asking({}),
        asking(None),
        SimpleNamespace(),
        SimpleNamespace(get_parent=lambda channel: {}),
        SimpleNamespace(get_parent=lambda channel: None),
        SimpleNamespace(get_parent=lambda: {"content": {"allow_stdin": True}}),
    ],
    ids=["absent", "no content", "no parents", "empty parent", "no parent", "another signature"],
)
def test_a_notebook_that_does_not_tell_is_not_watched(kernel, terminal, running):
    kernel(running)
    terminal(is_terminal=True)
    assert progress.is_watched() is False


def test_looking_does_not_import_ipython(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    progress.is_watched()
    assert "IPython" not in sys.modules


def unexpected():
    raise AssertionError("nobody is to be counted")


@pytest.mark.parametrize(("wanted", "watched"), [(False, True), (False, False), (None, False)])
def test_a_bar_that_is_not_wanted_shows_and_costs_nothing(monkeypatch, capsys, wanted, watched):
    monkeypatch.setattr(progress, "_AFTER_S", 0)
    monkeypatch.setattr(progress, "is_watched", lambda: watched)
    for name in [name for name in sys.modules if name.partition(".")[0] == "tqdm"]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def imported(name, *arguments):
        assert not name.startswith("tqdm")
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", imported)
    with progress.bar(wanted, "backup records", "page", 10, unexpected) as update:
        update()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("wanted", "watched"), [(True, False), (True, True), (None, True)])
def test_a_bar_that_is_wanted_appears(monkeypatch, capsys, wanted, watched):
    monkeypatch.setattr(progress, "_AFTER_S", 0)
    monkeypatch.setattr(progress, "is_watched", lambda: watched)
    with progress.bar(wanted, "backup records", "page", 10, lambda: 0):
        out, err = capsys.readouterr()
    assert out == ""
    assert "backup records" in err
    assert "0/10" in err


@pytest.mark.parametrize(("total", "shown"), [(10, "7/10"), (None, "7page")])
def test_a_bar_is_brought_to_the_count(monkeypatch, capsys, total, shown):
    monkeypatch.setattr(progress, "_AFTER_S", 0)
    done = 0
    with progress.bar(WANTED, "backup records", "page", total, lambda: done) as update:
        update()
        assert shown not in capsys.readouterr().err
        done = 7
        # tqdm draws ten times a second at most.
        time.sleep(0.12)
        update()
        assert shown in capsys.readouterr().err


def test_a_bar_follows_the_count_and_does_not_add_it_up(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_AFTER_S", 0)
    counts = iter([0, 3, 3, 5, 5, 8])
    with progress.bar(WANTED, "backup records", "page", 10, lambda: next(counts)) as update:
        for _ in range(4):
            update()
        time.sleep(0.12)
        update()
        assert "8/10" in capsys.readouterr().err


def test_what_was_done_before_the_bar_does_not_count_for_its_pace(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_AFTER_S", 0)
    with progress.bar(WANTED, "backup records", "page", 1000, lambda: 900) as update:
        time.sleep(0.12)
        update()
    assert re.search(r"900/1000 \[00:00<\?, *\?page/s\]", capsys.readouterr().err)


def test_a_bar_leaves_nothing_behind(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_AFTER_S", 0)
    with progress.bar(WANTED, "backup records", "page", 10, lambda: 10) as update:
        update()
    *_, drawn, wiped, rest = capsys.readouterr().err.split("\r")
    assert "backup records" in drawn
    assert set(wiped) == {" "}
    assert len(wiped) >= len(drawn)
    assert rest == ""


def test_a_bar_of_what_is_over_soon_never_appears(capsys):
    with progress.bar(WANTED, "backup records", "page", 10, lambda: 10) as update:
        update()
        time.sleep(0.12)
        update()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("wanted", [True, False])
def test_what_is_raised_below_a_bar_comes_through(wanted, capsys):
    with (
        pytest.raises(ValueError, match="no"),
        progress.bar(wanted, "backup records", "page", None, lambda: 1),
    ):
        raise ValueError("no")


def test_a_bar_in_a_notebook_is_a_widget_that_leaves_nothing_in_the_saved_file():
    source = """
import time
from IPython.display import display
from koodrive_nb import progress
progress._AFTER_S = 0
with progress.bar(True, "backup records", " pages", 10, lambda: 4) as update:
    update()
    time.sleep(0.2)
    update()
"""
    cells = [nbformat.v4.new_code_cell(source)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, store_widget_state=False).execute()
    (shown,) = notebook.cells[0].outputs
    assert shown["output_type"] == "display_data"
    assert shown["data"] == {"text/plain": ""}


def test_no_bar_appears_where_something_else_tells_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_AFTER_S", 0)

    def draw():
        with progress.bar(WANTED, "backup records", "page", 10, lambda: 7) as update:
            time.sleep(0.12)
            update()
        return capsys.readouterr().err

    with progress.hidden():
        assert draw() == ""
    assert "7/10" in draw()
