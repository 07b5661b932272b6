"""What a command needs beyond the core."""

from __future__ import annotations

import importlib.util

import click


def need(module: str, extra: str) -> None:
    """Refuse to go on without a module, and say which extra brings it."""
    if importlib.util.find_spec(module) is None:
        raise click.ClickException(f"This needs {module}: pip install 'koodrive_nb[{extra}]'")
