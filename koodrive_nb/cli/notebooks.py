"""`koodrive-nb notebooks`."""

from __future__ import annotations

from pathlib import Path

import click

from koodrive_nb.cli.extras import need
from koodrive_nb.text import one_line

_NOTEBOOKS = click.Path(exists=True, path_type=Path)


@click.group("notebooks")
def command() -> None:
    """Execute notebooks, and check what they store."""


@command.command()
@click.argument("paths", nargs=-1, required=True, type=_NOTEBOOKS)
def refresh(paths: tuple[Path, ...]) -> None:
    """Execute notebooks (or all in a folder) from top to bottom and store what comes out."""
    need("nbclient", "ci")
    from koodrive_nb import notebook_checks  # noqa: PLC0415 -- an optional extra

    for path in _each(paths):
        try:
            changed = notebook_checks.refresh(path)
        except notebook_checks.FAILURES as error:
            raise click.ClickException(f"{path} is left as it was: {error}") from None
        click.echo(f"{path}: {'changed' if changed else 'unchanged'}")


@command.command()
@click.argument("paths", nargs=-1, required=True, type=_NOTEBOOKS)
def check(paths: tuple[Path, ...]) -> None:
    """Check stored notebooks without executing them; exit code 1 if one is not fit."""
    need("nbclient", "ci")
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
