import os
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

import koodrive_nb as kd
from koodrive_nb import cli
from koodrive_nb.cli import extras, lab, sandbox


def run(*arguments):
    return CliRunner().invoke(cli.main, arguments)


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("notebooks").mkdir()
    path = Path("notebooks", "01_first_look.ipynb")
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")]), path)
    return path


@pytest.mark.parametrize("command", [[], ["lab"], ["sandbox"], ["notebooks"], ["schema"]], ids=str)
def test_every_command_explains_itself(command):
    assert run(*command, "--help").exit_code == 0


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
    assert run("notebooks", "refresh", "notebooks").output == f"{notebook}: changed\n"
    assert run("notebooks", "check", str(notebook)).output == ""
    assert run("notebooks", "refresh", str(notebook)).output == f"{notebook}: unchanged\n"


def test_a_failing_cell_is_named_and_the_file_left_as_it_was(notebook):
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")]), notebook)
    before = notebook.read_text()
    result = run("notebooks", "refresh", str(notebook))
    assert result.exit_code == 1
    assert "left as it was" in result.output
    assert "ZeroDivisionError" in result.output
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
    "text", ["{", "[]", "{}", '{"cells": 1, "nbformat": 4, "nbformat_minor": 5}']
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
