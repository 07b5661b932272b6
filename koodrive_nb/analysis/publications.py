"""What was published before: of this very window, and of the one before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb.analysis import definitions
from koodrive_nb.columns import STRING, TIME
from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from koodrive_nb.analysis.windows import Window

ADDED = ("published", "published_at")
_TIMES = ("window_start", "window_end", "published_at")
_NEEDED = ("kpi", "value", "definition", *_TIMES)


def read(published: object) -> pd.DataFrame:
    """Read the rows of earlier headlines, the newest of each kpi and window; times may be text.

    Raises:
        InvalidParameterError: It is no DataFrame, lacks columns, or has lost their types.
    """
    if not isinstance(published, pd.DataFrame):
        raise InvalidParameterError(
            "published= takes a DataFrame of earlier headlines, not "
            f"{type(published).__name__}: pd.read_parquet() gives one."
        )
    missing = [name for name in _NEEDED if name not in published.columns]
    if missing:
        raise InvalidParameterError(
            f"published= lacks the column(s) {', '.join(missing)}: pass the rows that "
            "kd.analysis.headline() gave, each with its published_at."
        )
    table = published[list(_NEEDED)].reset_index(drop=True)
    table.attrs = {}
    try:
        for name in _TIMES:
            table[name] = pd.to_datetime(table[name], utc=True, format="ISO8601").astype(TIME)
        table = table.astype({"kpi": STRING, "value": "float64", "definition": STRING})
    except (ValueError, TypeError):
        raise InvalidParameterError(
            "published= has values that are no times, numbers or text, as a headline has them."
        ) from None
    table = table.sort_values("published_at", kind="stable")
    return table.drop_duplicates(["kpi", "window_start", "window_end"], keep="last")


def joined(
    table: pd.DataFrame, published: pd.DataFrame, this: Window, before: Window
) -> pd.DataFrame:
    """Add what was published of this window, and compare with what was of the one before."""
    mine, theirs = (_of(published, each) for each in (this, before))
    now, then = mine.reindex(table["kpi"]), theirs.reindex(table["kpi"])
    result = table.reset_index(drop=True).assign(
        published=now["value"].array, published_at=now["published_at"].array
    )
    for at, (value, definition) in enumerate(zip(then["value"], then["definition"], strict=True)):
        if pd.isna(value) or pd.isna(definition) or pd.isna(result["value"].iloc[at]):
            continue
        changed = definitions.difference(definition, str(result.loc[at, "definition"]))
        if changed:
            result.loc[at, "previous"] = value
            result.loc[at, "why_not"] = changed
        elif result.loc[at, "is_of_before"]:
            result.loc[at, "previous"] = value
            result.loc[at, "why_not"] = pd.NA
    return result


def _of(published: pd.DataFrame, window: Window) -> pd.DataFrame:
    is_mine = (published["window_start"] == window.start) & (published["window_end"] == window.end)
    return published[is_mine].set_index("kpi")


def incomplete_users(users: object) -> dict[str, Any]:
    """Count users, and those whose data did not come whole.

    Raises:
        InvalidParameterError: It is no DataFrame, or has no outcomes.
    """
    if not isinstance(users, pd.DataFrame) or not {"user_id", "outcome"} <= set(users.columns):
        raise InvalidParameterError(
            "users= takes the users of kd.fleet.fetch(), with their user_id and outcome."
        )
    return {"n": len(users), "n_incomplete": int((users["outcome"] != "complete").sum())}
