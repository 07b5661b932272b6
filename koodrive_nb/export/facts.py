"""What a workbook says about its rows, one fact a line."""

from __future__ import annotations

import json
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb import streams
from koodrive_nb.analysis import rules
from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOLD_APART = {"source", "complete", "ledger_id", "stuck_rule"}


def told(
    frame: pd.DataFrame, about: Mapping[str, Any], zone: str, made: str | None, cut: int
) -> list[tuple[str, str]]:
    """Say how a frame came about, with what its `attrs` say; `cut` cells were too long."""
    rule = about.get("stuck_rule") or _stuck_rule(frame)
    return [
        ("rows written", str(len(frame))),
        ("made by", made or "not told"),
        ("source", _source(frame, about)),
        ("complete", _complete(about)),
        ("newest fetched_at (UTC)", _newest(frame)),
        ("display zone", zone),
        *([("stuck rule", str(rule))] if rule else []),
        ("stuck", "Inferred: the API has no status for a backup that failed."),
        ("completed", "The client said so: no restore was tested."),
        ("cells cut", _cut(cut)),
        ("koodrive_nb", metadata.version("koodrive_nb")),
        *((rules.word(key), _shown(about[key])) for key in about if key not in _TOLD_APART),
        *_fetched(frame, about),
    ]


def _stuck_rule(frame: pd.DataFrame) -> str | None:
    if not {"module", "stuck_after_s"} <= set(frame.columns):
        return None
    limits = frame.groupby("module", observed=True)["stuck_after_s"].max()
    return rules.stuck_rule(
        {label: float(limits[label]) for label in rules.MODULE_LABELS if label in limits.index}
    )


def _source(frame: pd.DataFrame, about: Mapping[str, Any]) -> str:
    if "source" not in frame.columns or frame["source"].isna().all():
        return str(about.get("source", "not known"))
    return " and ".join(sorted(map(str, frame["source"].dropna().unique())))


def _complete(about: Mapping[str, Any]) -> str:
    if "complete" not in about:
        return "not known: the frame does not say whether everything came"
    if about["complete"]:
        return "yes: the service said that there is no more"
    return "no: part of it did not come"


def _newest(frame: pd.DataFrame) -> str:
    times = frame.get("fetched_at")
    if times is None or not isinstance(times.dtype, pd.DatetimeTZDtype) or times.isna().all():
        return "not known"
    return str(times.max().tz_convert("UTC").isoformat())


def _cut(cut: int) -> str:
    return f"{cut}: over 32767 characters, marked at the end" if cut else "none"


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _fetched(frame: pd.DataFrame, about: Mapping[str, Any]) -> list[tuple[str, str]]:
    try:
        ledger = streams.ledger(frame) if "ledger_id" in about else None
    except InvalidParameterError:
        # It was read back from a file.
        ledger = None
    if ledger is None:
        return [("fetched", "The frame no longer says how it was fetched.")]
    return [("fetched", _stream(row)) for row in ledger.to_dict("records")]


def _stream(row: Mapping[Any, Any]) -> str:
    module = "" if pd.isna(row["module"]) else f", module {row['module']}"
    when = "" if pd.isna(row["fetched_at"]) else f", at {row['fetched_at'].isoformat()}"
    return (
        f"{row['dataset']} of user {row['user_id']}{module}: {row['rows']} rows in {row['pages']} "
        f"pages, {row['duplicates']} duplicates dropped, {row['set_aside']} set aside, "
        f"{row['coerced']} values bent; ended: {row['ended']}{when}"
    )
