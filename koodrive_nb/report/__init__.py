"""Notebooks as reports: one HTML file that a manager opens, and the numbers beside it."""

from koodrive_nb.privacy import protect as protect
from koodrive_nb.report.keys import lookup
from koodrive_nb.report.past import history
from koodrive_nb.report.rendering import Report, render
from koodrive_nb.report.switch import by_module
from koodrive_nb.report.tables import numbers
from koodrive_nb.report.tiles import tiles

__all__ = ["Report", "by_module", "history", "lookup", "numbers", "protect", "render", "tiles"]
