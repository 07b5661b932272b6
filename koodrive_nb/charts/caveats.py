"""What the numbers of a figure leave out, or cannot be relied on for, in words for its subtitle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping


def not_drawn(about: Mapping[str, Any]) -> str:
    """Say which records have no place in a figure of that span."""
    now = f"after {_minute(about, about['as_of'])}" if about.get("as_of") else "later"
    kinds = (
        (about.get("n_undated"), "without a creation time"),
        (about.get("n_later"), f"created {now}"),
    )
    named = [f"{count:,} {what}" for count, what in kinds if count]
    return f"Left out: {', '.join(named)}." if named else ""


def seen_until(about: Mapping[str, Any]) -> str:
    """Say that the window ends after the fetch, where it does."""
    if not about.get("seen_until"):
        return ""
    at = _minute(about, about["seen_until"])
    return f"The window ends after the fetch ({at}), and is counted until it."


def purged_before(about: Mapping[str, Any], what: str) -> str:
    """Say that numbers are lower bounds where the window begins before history is complete."""
    horizon, start = about.get("history_complete_from"), about.get("made", {}).get("start")
    if not horizon or not start or pd.Timestamp(start) >= pd.Timestamp(horizon):
        return ""
    at = pd.Timestamp(horizon).tz_convert(about.get("tz", "UTC"))
    return f"Backups from before {at.day} {at:%b %Y} may be purged: {what} are lower bounds."


def unmarked(about: Mapping[str, Any]) -> str:
    """Say that nothing shows what was purged where no record is left that waits for deletion."""
    is_none = about.get("n_records") and about.get("n_to_be_deleted") == 0
    return (
        "No record waits for deletion: were they filtered out, what is older looks wrong."
        if is_none
        else ""
    )


def _minute(about: Mapping[str, Any], instant: str) -> str:
    at = pd.Timestamp(instant).tz_convert(about.get("tz", "UTC"))
    return f"{at.day} {at:%b %Y %H:%M}"
