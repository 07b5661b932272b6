"""`koodrive-nb notebooks`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from koodrive_nb.cli.extras import need
from koodrive_nb.text import one_line

_NOTEBOOKS = click.Path(exists=True, path_type=Path)


@click.group(
    "notebooks",
    epilog="""\b
Examples:
  koodrive-nb notebooks refresh notebooks
  koodrive-nb notebooks refresh --check notebooks
  koodrive-nb notebooks check notebooks/01_first_look.ipynb
""",
)
def command() -> None:
    """Execute notebooks, and check what they store."""


@command.command()
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 if something would.")
@click.argument("paths", nargs=-1, required=True, type=_NOTEBOOKS)
def refresh(paths: tuple[Path, ...], *, check: bool) -> None:
    """Execute notebooks (or all in a folder) from top to bottom and store what comes out.

    kd.connect() reaches the sandbox. A notebook that says that its outputs are of a live account
    is left alone.
    """
    need("nbclient", "ci")
    from koodrive_nb import notebook_checks  # noqa: PLC0415 -- an optional extra

    failed = False
    for path in _each(paths):
        name = one_line(path, 500)
        try:
            notebook = notebook_checks.read(path.read_text(encoding="utf-8"))
            if notebook_checks.is_live(notebook):
                click.echo(f"{name}: left alone, of a live account")
                continue
            changed = notebook_checks.refresh(path, store=not check)
        except notebook_checks.FAILURES as error:
            failed = True
            click.echo(f"Error: {name} is left as it was: {_why(error)}", err=True)
            continue
        failed = failed or (check and bool(changed))
        verb = "would change" if check else "changed"
        click.echo(f"{name}: {verb}: {', '.join(changed)}" if changed else f"{name}: unchanged")
    if failed:
        raise SystemExit(1)


@command.command()
@click.argument("paths", nargs=-1, required=True, type=_NOTEBOOKS)
def check(paths: tuple[Path, ...]) -> None:
    """Check stored notebooks without executing them; exit code 1 if one is not fit."""
    need("nbclient", "ci")
    from koodrive_nb import notebook_checks  # noqa: PLC0415 -- an optional extra

    found = [(path, problem) for path in _each(paths) for problem in notebook_checks.problems(path)]
    for path, problem in found:
        click.echo(f"{one_line(path, 500)}: {one_line(problem, 200)}", err=True)
    if found:
        raise SystemExit(1)


def _each(paths: tuple[Path, ...]) -> list[Path]:
    from koodrive_nb import notebook_checks  # noqa: PLC0415 -- an optional extra

    each = [found for path in paths for found in notebook_checks.find(path)]
    if not each:
        raise click.ClickException("There is no notebook in that folder.")
    return each


def _why(error: Exception) -> str:
    """Put on one line what ended a notebook, without the traceback that nbclient adds."""
    if not hasattr(error, "ename"):
        return one_line(error, 300)
    cell = re.search(r"In\[(\d+)\]", getattr(error, "traceback", ""))
    where = f"cell {cell[1]}: " if cell else ""
    return one_line(f"{where}{error.ename}: {getattr(error, 'evalue', '')}", 300)
