import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import click
import nbformat
import pytest
from click.testing import CliRunner

import koodrive_nb as kd
from koodrive_nb import cli
from koodrive_nb.cli import extras, lab, sandbox
from koodrive_nb.cli.failures import Incomplete, Interrupted


def run(*arguments):
    return CliRunner().invoke(cli.main, arguments)


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("notebooks").mkdir()
    path = Path("notebooks", "01_first_look.ipynb")
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")]), path)
    return path


def commands(group=cli.main, names=()):
    """Give every command, those of groups included, with the words that call it."""
    yield names, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*names, name))


@pytest.mark.parametrize("names", [" ".join(names) for names, _ in commands()])
def test_every_command_explains_itself(names):
    result = run(*names.split(), "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_the_examples_of_the_help_are_right(notebook, monkeypatch):
    Path("users.csv").touch()
    examples = set()
    for names, command in commands():
        examples |= set(re.findall(r"^  koodrive-nb (.+)", command.epilog or "", re.MULTILINE))
        if names and not hasattr(command, "commands"):
            monkeypatch.setattr(command, "callback", lambda **options: None)
    assert {line.split()[0] for line in examples} == set(cli.main.commands)
    for line in examples:
        assert run(*shlex.split(line)).exit_code == 0, line


def test_the_exit_codes_are_told():
    told = run("--help").output
    for code in (0, 1, 2, 3, 64, 130):
        assert re.search(rf"^ +{code}  +\w", told, re.MULTILINE)


def test_no_option_takes_a_secret():
    for _, command in commands():
        for option in command.params:
            assert not re.search("token|secret|key|password", option.name)


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        (kd.InvalidParameterError("no such\x1b[31m\nzone"), 1, "Error: no such [31m zone\n"),
        (ValueError("odd"), 1, "Error: ValueError: odd This was not foreseen"),
        (PermissionError(13, "Permission denied", "x.csv"), 1, "denied: 'x.csv'\n"),
        (click.ClickException("a\nb"), 1, "Error: a b\n"),
        (Incomplete("part of it"), 3, "Error: part of it\n"),
        (Interrupted("kept"), 130, "Error: kept\n"),
        (KeyboardInterrupt(), 130, "\nInterrupted.\n"),
        (SystemExit(2), 2, ""),
        (click.UsageError("no"), 64, "Error: no\n"),
    ],
    ids=repr,
)
def test_errors_are_one_line_and_an_exit_code(monkeypatch, raised, code, says):
    def fail(dataset):
        raise raised

    monkeypatch.setattr(cli.schema.command, "callback", fail)
    result = run("schema")
    assert result.exit_code == code
    assert says in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") <= 1 or code in {64, 130}
    is_error = isinstance(raised, Exception) and not isinstance(raised, click.UsageError)
    assert ("Traceback" in run("--debug", "schema").stderr) == is_error


def test_an_incomplete_fetch_is_exit_code_3(service, monkeypatch):
    service.answer = lambda asked: service.Answer(
        {"code": 0, "data": []}, 503 if asked.query["moduleCode"] == "101" else 200
    )
    with service.connect() as client:
        monkeypatch.setattr(cli.schema.command, "callback", lambda dataset: client.records())
        assert run("schema").exit_code == 3


def test_a_reader_who_has_enough_gets_no_complaint():
    code = "from koodrive_nb.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


def test_the_columns_are_printed_as_markdown():
    result = run("schema")
    assert result.output.count("\n") == len(kd.schema("records")) + 2
    assert "| `record_id` | string |  | `recordId` |  | Backup record id |" in result.output
    assert "device_create_time" in run("schema", "devices").output


def test_an_unknown_dataset_is_one_line_and_exit_code_1():
    result = run("schema", "nonsense")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "records, devices" in result.output


@pytest.mark.parametrize(
    ("is_root", "display", "extra"),
    [
        (True, None, ["--allow-root", "--no-browser"]),
        (False, None, ["--no-browser"]),
        (False, ":0", []),
    ],
    ids=["root in a container", "user without a screen", "user with a screen"],
)
@pytest.mark.usefixtures("notebook")
def test_jupyterlab_gets_what_the_machine_needs(monkeypatch, is_root, display, extra):
    called = []
    monkeypatch.setattr(lab.subprocess, "call", lambda command: called.append(command) or 0)
    monkeypatch.setattr(lab.os, "execv", lambda program, command: called.append(command))
    monkeypatch.setattr(lab.os, "geteuid", lambda: 0 if is_root else 1000)
    monkeypatch.setattr(lab.sys, "platform", "linux")
    monkeypatch.setattr(lab.webbrowser, "get", lambda: None)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    if display:
        monkeypatch.setenv("DISPLAY", display)
    result = run("lab", "--port=9999")
    assert result.exit_code == 0
    assert called[0][1:] == [
        "-P",
        "-m",
        "jupyterlab",
        f"--ServerApp.root_dir={Path('notebooks').resolve()}",
        "--LabApp.default_url=/lab/tree/01_first_look.ipynb",
        "--Application.log_level=WARN",
        *extra,
        "--port=9999",
    ]
    assert ("open the address" in result.output) == ("--no-browser" in extra)


def test_no_browser_at_all_is_noticed(monkeypatch):
    def none():
        raise lab.webbrowser.Error

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(lab.webbrowser, "get", none)
    assert lab._has_browser() is False


def test_a_missing_notebook_says_where_to_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("lab")
    assert result.exit_code == 1
    assert "run this in the project's folder" in result.output


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("lab", "lab"),
        ("sandbox", "sandbox"),
        ("notebooks refresh .", "ci"),
        ("notebooks check .", "ci"),
    ],
)
def test_a_missing_extra_is_named_with_the_pip_line(monkeypatch, command, extra):
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    result = run(*command.split())
    assert result.exit_code == 1
    assert f"pip install 'koodrive_nb[{extra}]'" in result.output


def test_notebooks_are_refreshed_and_checked(notebook):
    assert run("notebooks", "check", "notebooks").exit_code == 1
    assert (
        run("notebooks", "refresh", "notebooks").output
        == f"{notebook}: changed: cell 1, the metadata\n"
    )
    assert run("notebooks", "check", str(notebook)).output == ""
    done = run("notebooks", "refresh", "--check", str(notebook))
    assert (done.output, done.exit_code) == (f"{notebook}: unchanged\n", 0)


def test_checking_whether_a_notebook_is_fresh_names_what_would_change_and_changes_nothing(notebook):
    before = notebook.read_text()
    done = run("notebooks", "refresh", "--check", "notebooks")
    assert done.exit_code == 1
    assert done.output == f"{notebook}: would change: cell 1, the metadata\n"
    assert notebook.read_text() == before


def test_a_live_notebook_that_says_so_is_not_refreshed(notebook):
    content = nbformat.v4.new_notebook(metadata={"koodrive_nb": {"source": "live"}})
    nbformat.write(content, notebook)
    assert run("notebooks", "refresh", "notebooks").output == (
        f"{notebook}: left alone, of a live account\n"
    )


def test_folders_are_searched_to_the_bottom_but_for_hidden_ones(notebook):
    for folder in ("notebooks/deep/er", "notebooks/.ipynb_checkpoints"):
        Path(folder).mkdir(parents=True)
        nbformat.write(nbformat.read(notebook, 4), Path(folder, "x.ipynb"))
    found = run("notebooks", "check", "notebooks").output.splitlines()
    paths = [line.split(": ")[0] for line in found]
    assert paths == [str(notebook), str(Path("notebooks/deep/er/x.ipynb"))]


def test_a_failing_cell_is_named_and_the_file_left_as_it_was(notebook):
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")]), notebook)
    before = notebook.read_text()
    result = run("notebooks", "refresh", str(notebook))
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {notebook} is left as it was: cell 1: ZeroDivisionError: division by zero\n"
    )
    assert notebook.read_text() == before


@pytest.mark.parametrize("options", [(), ("--check",)])
def test_a_notebook_that_needs_java_is_refused_where_there_is_none(notebook, monkeypatch, options):
    cell = nbformat.v4.new_code_cell("1 + 1", metadata={"tags": ["needs-java"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), notebook)
    before = notebook.read_text()
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(notebook.parent))
    result = run("notebooks", "refresh", *options, str(notebook))
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {notebook} is left as it was: cell 1 needs Java, and there is none: install "
        "Java 17 and put it on the PATH, or set JAVA_HOME to it.\n"
    )
    assert notebook.read_text() == before


def test_a_folder_without_notebooks_is_an_error(tmp_path):
    result = run("notebooks", "check", str(tmp_path))
    assert result.exit_code == 1
    assert "no notebook" in result.output


def test_the_sandbox_serves_other_processes_until_ctrl_c(monkeypatch):
    process = subprocess.Popen(
        [sys.executable, "-c", "from koodrive_nb.cli import main; main()", "sandbox"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    with process:
        try:
            for _ in range(4):
                line = process.stdout.readline().removeprefix("export ").strip()
                monkeypatch.setenv(*line.split("=", maxsplit=1))
            with kd.connect() as client:
                frame = client.record("1842862763295184641")
            process.send_signal(signal.SIGINT)
            _, log = process.communicate(timeout=20)
        finally:
            process.kill()
    assert set(frame["source"]) == {"sandbox"}
    assert process.returncode == 0
    assert "Stopped." in log


def test_ctrl_c_stops_the_service(monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(sandbox, "_wait", interrupt)
    result = run("sandbox")
    assert result.exit_code == 0
    assert "Stopped." in result.output


def test_a_taken_port_is_one_line_and_exit_code_1():
    with kd.sandbox.Sandbox() as running:
        port = running.endpoint.rpartition(":")[2]
        result = run("sandbox", "--port", port)
    assert result.exit_code == 1
    assert f"Port {port} cannot be used" in result.output


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", "{}", "[" * 100_000, '{"nbformat": 99}'),
        '{"cells": 1, "nbformat": 4, "nbformat_minor": 5}',
    ],
    ids=range(6),
)
@pytest.mark.parametrize("command", ["check", "refresh"])
def test_a_file_that_is_no_notebook_is_said_in_words(notebook, command, text):
    notebook.write_text(text)
    result = run("notebooks", command, str(notebook))
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert str(notebook) in result.output
    assert notebook.read_text() == text


def test_a_file_that_is_no_text_is_said_in_words(notebook):
    notebook.write_bytes(b"\xff\xfe")
    assert "no notebook" in run("notebooks", "check", str(notebook)).output


def test_a_file_name_does_not_reach_the_terminal_as_it_is(tmp_path):
    path = tmp_path / "\x1b]0;x\x07.ipynb"
    path.write_text("{")
    for command in ("check", "refresh"):
        result = run("notebooks", command, str(tmp_path))
        assert result.exit_code == 1
        assert not {"\x1b", "\x07"} & {*result.output}
