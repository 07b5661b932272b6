"""Marks of unusual days on the panels of an activity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb.analysis import day_judgements
from koodrive_nb.charts import caveats, theme
from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from koodrive_nb.charts.sketch import Sketch
    from koodrive_nb.charts.time_axis import TimeAxis

_COLOUR = "#8B1A5C"
_LOOKS = {
    "unusually_high": ("unusually high for its weekday", "triangle-up"),
    "unusually_low": ("unusually low for its weekday", "triangle-down"),
}
_LOOKS_OF_STUCK = {"unusually_high": ("unusually many stuck for its weekday", "star-diamond")}
_NEEDED = {"day_start", "value", "verdict", "reason", "message"}
_OF_RECORDS = {
    "source": "source",
    "n_records": "number of records",
    "first": "first record",
    "last": "last record",
    "as_of": "“now”",
    "stuck_rule": "stuck limits",
}
_MESSAGE_CHARACTERS = 200


def draw(  # noqa: PLR0913 PLR0917 -- a figure in the making, and what it is made of
    figure: Sketch,
    anomalies: object,
    parts: Sequence[pd.DataFrame],
    axis: TimeAxis,
    about: Mapping[str, Any],
    keys: Sequence[str],
) -> str:
    """Mark the unusual days of a table of `kd.analysis.anomalies`; `parts` are the groups drawn.

    Returns what the subtitle has to say of them, of days that are drawn alone. Each day is marked
    on what was created, or on the share that completed, whichever the table judges.

    Raises:
        InvalidParameterError: It is no such table, or one of other records, days, zone or groups.
    """
    if anomalies is None:
        return ""
    table, metric = _read(anomalies, about, keys)
    panels = _panels(len(parts), metric, is_one=not keys)
    seen: set[str] = set()
    drawn = []
    for part, (x, y) in zip(parts, panels, strict=True):
        mine = _of_group(table, part, keys)
        joined = part.merge(mine, left_on="bin_start", right_on="day_start", suffixes=("", "_of"))
        drawn.append(joined[list(mine.columns)])
        for verdict, (name, symbol) in (_LOOKS if metric == "created" else _LOOKS_OF_STUCK).items():
            days = joined[joined["verdict"] == verdict]
            if days.empty:
                continue
            begin, end = (axis.local(days[edge]) for edge in ("bin_start", "bin_end"))
            height = days["created"] if metric == "created" else 100 * days["settled_share"]
            figure.add_scatter(
                mode="markers",
                x=axis.text(begin + (end - begin) / 2),
                y=[round(float(value), 3) for value in height],
                xaxis=x,
                yaxis=y,
                name=name,
                legendgroup=name,
                showlegend=name not in seen,
                marker={"color": _COLOUR, "symbol": symbol, "size": 8 if keys else 11}
                | {"line": {"color": "#FFFFFF", "width": 1}},
                cliponaxis=False,
                customdata=[theme.shown(text, _MESSAGE_CHARACTERS) for text in days["message"]],
                hovertemplate="%{customdata}<extra></extra>",
            )
            seen.add(name)
    shown = pd.concat(drawn) if drawn else table.head(0)
    return _told(shown, table, metric, sum(len(part) for part in parts))


def _told(shown: pd.DataFrame, table: pd.DataFrame, metric: str, n_drawn: int) -> str:
    """Say how many of the days that are drawn are marked and judged, and why others are not."""
    judged = int((shown["verdict"] != "not_judged").sum())
    n, n_all = (int(each["verdict"].isin(list(_LOOKS)).sum()) for each in (shown, table))
    what = "number of backups created" if metric == "created" else "share that did not complete"
    marked = f"{theme.counted(n, 'day')} on which the {what} is unusual for the weekday"
    words = [
        f"Marked: {marked}, of {judged:,} judged."
        if judged
        else f"No day is marked, since the {what} is judged on none of those drawn."
    ]
    if len(shown) > judged:
        words.append(f"Not judged: {theme.shown(day_judgements.reasons(shown), 400)}.")
    if n_drawn > len(shown):
        words.append(f"{theme.counted(n_drawn - len(shown), 'day')} drawn, yet not in the table.")
    if n_all > n:
        words.append(f"Not drawn: {theme.counted(n_all - n, 'unusual day')} of the table.")
    words += [caveats.seen_until(theme.facts(table)), caveats.unmarked(theme.facts(table))]
    return " ".join(filter(None, words))


def _read(
    anomalies: object, about: Mapping[str, Any], keys: Sequence[str]
) -> tuple[pd.DataFrame, str]:
    if not isinstance(anomalies, pd.DataFrame) or not set(anomalies.columns) >= _NEEDED:
        raise InvalidParameterError("anomalies= takes the table that kd.analysis.anomalies() gave.")
    of = theme.facts(anomalies)
    metric = str(of.get("metric"))
    if metric not in {"created", "stuck_share"}:
        raise InvalidParameterError(
            "anomalies= takes a table of kd.analysis.anomalies() that still says its metric, which "
            "is created or stuck_share: no other is drawn here."
        )
    if about.get("bin") != "day":
        raise InvalidParameterError("anomalies= marks days: pass bin='day' too.")
    if list(of.get("by", [])) != list(keys) or of.get("tz") != about.get("tz"):
        raise InvalidParameterError(
            f"anomalies= must be made with the by= and tz= of the activity, by={list(keys)!r} and "
            f"tz={about.get('tz')!r}."
        )
    other = [words for name, words in _OF_RECORDS.items() if of.get(name) != about.get(name)]
    if other:
        raise InvalidParameterError(
            f"anomalies= was made of other records than the activity, as their {', '.join(other)} "
            "tell: pass the same frame, as_of= and stuck_after= to kd.analysis.anomalies()."
        )
    return anomalies, metric


def _panels(n: int, metric: str, *, is_one: bool) -> list[tuple[str, str]]:
    """Give the axes of the panel that shows a metric, for each group."""
    is_count = metric == "created"
    if is_one:
        return [("x", "y" if is_count else "y3")] * n
    numbers = [2 * place + (1 if is_count else 2) for place in range(n)]
    x = "x" if is_count else "x2"
    return [(x, "y" if number == 1 else f"y{number}") for number in numbers]


def _of_group(table: pd.DataFrame, part: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    names = ["day_start", "verdict", "reason", "message"]
    if part.empty:
        return table[names].head(0)
    is_mine = pd.Series(data=True, index=table.index)
    for key in keys:
        value = part[key].iloc[0]
        same = table[key].isna() if pd.isna(value) else table[key] == value
        is_mine &= same.fillna(value=False).astype(bool)
    return table.loc[is_mine, names]
