"""How every command ends: one line for whoever typed it, an exit code for whatever called it."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import click

from koodrive_nb.cli.words import typed
from koodrive_nb.errors import IncompleteError, KooDriveError
from koodrive_nb.text import one_line

_LINE_CHARACTERS = 2_000
_WRONG_USAGE = 64


class Incomplete(click.ClickException):
    """What was fetched is incomplete."""

    exit_code = 3


class Interrupted(click.ClickException):
    """Ctrl-C ended it."""

    exit_code = 130


class Commands(click.Group):
    """Commands whose errors are one line, without a traceback unless `--debug` asks for it.

    Exit codes: 0 done, 1 failed, 2 a policy failed, 3 what was fetched is incomplete, 64 wrong
    usage, 130 interrupted.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and put what it raises on one line."""
        try:
            return super().invoke(ctx)
        except (click.UsageError, click.Abort, click.exceptions.Exit):
            raise
        except Exception as error:
            if isinstance(error, BrokenPipeError):
                # Whoever read it has enough: click says nothing then.
                raise
            if ctx.params.get("debug"):
                traceback.print_exc()
            raise _on_one_line(error) from None

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run, and leave with the exit code."""
        try:
            code = super().main(*arguments, **options | {"standalone_mode": False})
        except click.UsageError as error:
            error.show()
            code = _WRONG_USAGE
        except click.ClickException as error:
            click.echo(f"Error: {one_line(error.format_message(), _LINE_CHARACTERS)}", err=True)
            code = error.exit_code
        except click.Abort:
            click.echo("Interrupted.", err=True)
            code = Interrupted.exit_code
        sys.exit(code if isinstance(code, int) else 0)


def _on_one_line(error: Exception) -> click.ClickException:
    if isinstance(error, click.ClickException):
        return error
    if isinstance(error, IncompleteError):
        return Incomplete(typed(str(error)))
    if isinstance(error, (KooDriveError, OSError)):
        return click.ClickException(typed(str(error)))
    what = one_line(error, _LINE_CHARACTERS // 2)
    return click.ClickException(
        f"{type(error).__name__}: {what} This was not foreseen: `koodrive-nb --debug ...` shows "
        "where it happened."
    )
