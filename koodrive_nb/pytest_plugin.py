"""`pytest --koodrive-nb`: notebooks are tests, off until asked for.

Each cell is executed and its outputs are compared with the stored ones; one more test of each
notebook says whether it is fit to be stored.
"""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the option, and the same as a line of configuration."""
    parser.getgroup("koodrive_nb", "validated notebooks").addoption(
        "--koodrive-nb",
        action="store_true",
        help="Execute notebooks against the sandbox and compare every output (nbval, strict).",
    )
    parser.addini("koodrive_nb", "The same as --koodrive-nb.", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Add what validates notebooks, where it was asked for.

    Raises:
        pytest.UsageError: nbval is missing, or was asked for as well.
    """
    if not (config.getoption("koodrive_nb") or config.getini("koodrive_nb")):
        return
    option = config.option
    if not hasattr(option, "nbval"):
        raise pytest.UsageError("--koodrive-nb needs nbval: pip install 'koodrive_nb[ci]'")
    if option.nbval or option.nbval_lax:
        raise pytest.UsageError("--koodrive-nb brings nbval along: leave --nbval and -lax out.")
    # nbformat, nbval and the like cost a second that only a run with notebooks pays.
    from koodrive_nb.notebook_checks import items  # noqa: PLC0415 -- as above

    items.prepare(option)
    config.pluginmanager.register(items, "koodrive_nb-items")
