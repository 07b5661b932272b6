"""Figures: records, or the table of the same name from `kd.analysis`, to a plotly figure.

A figure names its window, its zone, its source and what is left out, and stays under 300 KB
whatever the number of records.
"""

from koodrive_nb.charts.activities import activity
from koodrive_nb.charts.adherences import adherence
from koodrive_nb.charts.backlogs import deletion_backlog
from koodrive_nb.charts.drivers import explain_change
from koodrive_nb.charts.duration_figures import durations
from koodrive_nb.charts.exposures import exposure
from koodrive_nb.charts.history import exposure_history
from koodrive_nb.charts.loads import load
from koodrive_nb.charts.states import status_breakdown
from koodrive_nb.charts.timelines import timeline

__all__ = [
    "activity",
    "adherence",
    "deletion_backlog",
    "durations",
    "explain_change",
    "exposure",
    "exposure_history",
    "load",
    "status_breakdown",
    "timeline",
]
