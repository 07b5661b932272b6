"""The `koodrive-nb` command."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
import webbrowser
from pathlib import Path
from urllib.parse import quote

import click

from koodrive_nb.text import one_line

_FIRST_NOTEBOOK = Path("notebooks", "01_first_look.ipynb")
_NOTEBOOKS = click.Path(exists=True, path_type=Path)


@click.group()
@click.version_option(package_name="koodrive_nb")
def main() -> None:
    """Notebooks on the device backups of Huawei Cloud KooDrive."""


@main.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--notebook",
    type=click.Path(path_type=Path),
    default=_FIRST_NOTEBOOK,
    show_default=True,
    help="What to open.",
)
@click.argument("jupyter_arguments", nargs=-1, type=click.UNPROCESSED)
def lab(notebook: Path, jupyter_arguments: tuple[str, ...]) -> None:
    """Open a notebook in JupyterLab; further arguments go to JupyterLab, such as --port=9999.

    Runs as root too, as in a container; where there is no browser, open the printed address.
    """
    _need("jupyterlab", "lab")
    if not notebook.exists():
        raise click.ClickException(
            f"There is no {notebook} here: run this in the project's folder, or name one with "
            "--notebook."
        )
    # As a file to open, the notebook would be missing from the address that is printed.
    address = f"/lab/tree/{quote(notebook.name)}"
    arguments = [
        *(sys.executable, "-m", "jupyterlab"),
        f"--ServerApp.root_dir={notebook.resolve().parent}",
        f"--LabApp.default_url={address}",
        "--Application.log_level=WARN",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--allow-root")
    if not _has_browser():
        arguments.append("--no-browser")
        click.echo("There is no browser here: open the address that JupyterLab prints below.")
    sys.stdout.flush()
    if os.name == "posix":
        # In place of this process, so that Ctrl-C and signals reach JupyterLab and nobody else.
        os.execv(sys.executable, [*arguments, *jupyter_arguments])  # noqa: S606 -- no shell wanted
    raise SystemExit(subprocess.call([*arguments, *jupyter_arguments]))  # noqa: S603 -- as above


def _has_browser() -> bool:
    if sys.platform == "linux" and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        # A browser for terminals would be found all the same, and cannot show JupyterLab.
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


@main.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=0,
    show_default="a free one",
    help="The port to serve on.",
)
def sandbox(port: int) -> None:
    """Serve the sandbox for other processes, until Ctrl-C.

    Prints the four variables that make kd.connect() reach it.
    """
    _need("uvicorn", "sandbox")
    from koodrive_nb.sandbox import DEFAULT_USER, Sandbox  # noqa: PLC0415 -- an optional extra

    try:
        service = Sandbox(port).start()
    except OSError as error:
        raise click.ClickException(f"Port {port} cannot be used: {error.strerror}.") from None
    click.echo(f"export KOODRIVE_ENDPOINT={service.endpoint}")
    click.echo(f"export KOODRIVE_USER_ID={DEFAULT_USER}")
    click.echo(f"export KOODRIVE_APP_ID={service.app_id}")
    click.echo(f"export KOODRIVE_APP_SECRET={service.app_secret}")
    click.echo("Serving a synthetic fleet on this machine only; Ctrl-C stops.", err=True)
    try:
        _wait()
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
    finally:
        service.stop()


def _wait() -> None:
    threading.Event().wait()


@main.command()
@click.argument("dataset", default="records")
def schema(dataset: str) -> None:
    """Print the columns of a dataset as a Markdown table.

    The datasets are records, devices, files, scopes and configs.
    """
    from koodrive_nb import columns, errors  # noqa: PLC0415 -- spares --help the import of pandas

    try:
        table = columns.schema(dataset)
    except errors.KooDriveError as error:
        raise click.ClickException(str(error)) from None
    click.echo("| column | type | unit | API field | values | meaning |")
    click.echo("|---|---|---|---|---|---|")
    for name, dtype, unit, api_field, values, meaning in table.astype(str).to_numpy():
        field = f"`{api_field}`" if api_field else ""
        click.echo(f"| `{name}` | {dtype} | {unit} | {field} | {values} | {meaning} |")


@main.group()
def notebooks() -> None:
    """Execute notebooks, and check what they store."""


@notebooks.command()
@click.argument("paths", nargs=-1, required=True, type=_NOTEBOOKS)
def refresh(paths: tuple[Path, ...]) -> None:
    """Execute notebooks (or all in a folder) from top to bottom and store what comes out."""
    _need("nbclient", "ci")
    from koodrive_nb import notebook_checks  # noqa: PLC0415 -- an optional extra

    for path in _each(paths):
        try:
            changed = notebook_checks.refresh(path)
        except notebook_checks.FAILURES as error:
            raise click.ClickException(f"{path} is left as it was: {error}") from None
        click.echo(f"{path}: {'changed' if changed else 'unchanged'}")


@notebooks.command()
@click.argument("paths", nargs=-1, required=True, type=_NOTEBOOKS)
def check(paths: tuple[Path, ...]) -> None:
    """Check stored notebooks without executing them; exit code 1 if one is not fit."""
    _need("nbclient", "ci")
    from koodrive_nb import notebook_checks  # noqa: PLC0415 -- an optional extra

    found = [(path, problem) for path in _each(paths) for problem in notebook_checks.problems(path)]
    for path, problem in found:
        click.echo(f"{path}: {one_line(problem, 200)}", err=True)
    if found:
        raise SystemExit(1)


def _each(paths: tuple[Path, ...]) -> list[Path]:
    each = [
        notebook
        for path in paths
        for notebook in (sorted(path.glob("*.ipynb")) if path.is_dir() else [path])
    ]
    if not each:
        raise click.ClickException("There is no notebook in that folder.")
    return each


def _need(module: str, extra: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise click.ClickException(f"This needs {module}: pip install 'koodrive_nb[{extra}]'")
