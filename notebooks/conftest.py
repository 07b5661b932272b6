"""Runs the notebooks in the environment that they were refreshed in."""

import os

from koodrive_nb.notebook_checks import environment


def pytest_configure() -> None:
    """Set the environment before a kernel inherits it: fixtures do not reach notebook cells."""
    wanted = environment()
    for name in set(os.environ) - set(wanted):
        del os.environ[name]
    os.environ.update(wanted)
