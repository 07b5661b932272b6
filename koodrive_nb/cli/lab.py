"""`koodrive-nb lab`."""

from __future__ import annotations

import os
import subprocess
import sys
import webbrowser
from pathlib import Path
from urllib.parse import quote

import click

from koodrive_nb.cli.extras import need

_FIRST_NOTEBOOK = Path("notebooks", "01_first_look.ipynb")


@click.command(
    "lab",
    context_settings={"ignore_unknown_options": True},
    epilog="""\b
Examples:
  koodrive-nb lab
  koodrive-nb lab --ip=0.0.0.0 --port=9999
""",
)
@click.option(
    "--notebook",
    type=click.Path(path_type=Path),
    default=_FIRST_NOTEBOOK,
    show_default=True,
    help="What to open.",
)
@click.argument("jupyter_arguments", nargs=-1, type=click.UNPROCESSED)
def command(notebook: Path, jupyter_arguments: tuple[str, ...]) -> None:
    """Open a notebook in JupyterLab; further arguments go to JupyterLab, such as --port=9999.

    Runs as root too, as in a container; where there is no browser, open the printed address.
    """
    need("jupyterlab", "lab")
    if not notebook.exists():
        raise click.ClickException(
            f"There is no {notebook} here: run this in the project's folder, or name one with "
            "--notebook."
        )
    # As a file to open, the notebook would be missing from the address that is printed.
    address = f"/lab/tree/{quote(notebook.name)}"
    arguments = [
        # Not with what lies in the current folder, which may be somebody else's.
        *(sys.executable, "-P", "-m", "jupyterlab"),
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
