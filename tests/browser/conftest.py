"""A headless Chromium that reaches nothing but this machine, and a JupyterLab for it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

# A machine that runs other tests as well is no reason to give up on a page.
expect.set_options(timeout=60_000)

CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Figures that need the network would be missing for somebody without one.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
]

ADDRESS = re.compile(r"http://(?:127\.0\.0\.1|localhost):\d+/\S*token=\w+")
# News would be asked for in a pop-up; cells out of sight would not be on the page.
SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false"},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
}


@pytest.fixture(scope="module")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        reason = f"none of {', '.join(names)} is installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=executable, args=CHROMIUM) as launched,
    ):
        yield launched


@pytest.fixture
def page(browser):
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def lab():
    """Give what starts JupyterLab with our command on the notebooks of a folder.

    It gives the address that the command prints, and ends JupyterLab and its kernels afterwards.
    """
    return _lab


@contextmanager
def _lab(folder, *arguments, settings=None):
    for name, stored in (SETTINGS | (settings or {})).items():
        path = folder / f"config/lab/user-settings/{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(stored))
    log, runtime = folder / "log", folder / "runtime"
    command = [Path(sys.executable).with_name("koodrive-nb"), "lab", *arguments, "--port=0"]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(lambda: ADDRESS.search(log.read_text()) or process.poll() is not None, 60)
        printed = ADDRESS.search(log.read_text())
        assert printed, f"no address was printed:\n{log.read_text()}"
        yield printed[0]
    finally:
        # Kernels are in process groups of their own: JupyterLab has to end them before it is ended.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
            _wait(lambda: not any(runtime.glob("*.json")), 30)
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _environment(folder):
    own = re.compile(r"KOODRIVE_|JUPYTER|PLOTLY_|(WAYLAND_)?DISPLAY$")
    kept = {name: value for name, value in os.environ.items() if not own.match(name)}
    for name in ("config", "data", "runtime"):
        kept[f"JUPYTER_{name.upper()}_DIR"] = str(folder / name)
    return kept | {"HOME": str(folder)}


def _wait(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
