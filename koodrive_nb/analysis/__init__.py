"""Answer tables: who is exposed and why, what state the records are in, how backups went.

Every function takes a pandas, Polars, DuckDB or Spark frame with the columns of
`kd.schema("records")`. Tables come back as small pandas frames, with units in the column names.
"""

from koodrive_nb.analysis.activities import activity
from koodrive_nb.analysis.adherences import adherence
from koodrive_nb.analysis.backlogs import deletion_backlog
from koodrive_nb.analysis.behind import rows
from koodrive_nb.analysis.breakdowns import status_breakdown
from koodrive_nb.analysis.changes import explain_change
from koodrive_nb.analysis.concentrations import concentration
from koodrive_nb.analysis.duration_tables import durations
from koodrive_nb.analysis.estimates import estimate
from koodrive_nb.analysis.expansion import expand
from koodrive_nb.analysis.exposures import exposure
from koodrive_nb.analysis.headlines import headline
from koodrive_nb.analysis.history import exposure_history
from koodrive_nb.analysis.jobs import timeline
from koodrive_nb.analysis.loads import load
from koodrive_nb.analysis.policies import PolicyCheck, check_policy
from koodrive_nb.analysis.protection import protection_status
from koodrive_nb.analysis.quality import data_quality
from koodrive_nb.analysis.selection import select
from koodrive_nb.analysis.states import classify
from koodrive_nb.analysis.unusual_days import anomalies
from koodrive_nb.analysis.verdicts import verdict

__all__ = [
    "PolicyCheck",
    "activity",
    "adherence",
    "anomalies",
    "check_policy",
    "classify",
    "concentration",
    "data_quality",
    "deletion_backlog",
    "durations",
    "estimate",
    "expand",
    "explain_change",
    "exposure",
    "exposure_history",
    "headline",
    "load",
    "protection_status",
    "rows",
    "select",
    "status_breakdown",
    "timeline",
    "verdict",
]
