"""What waits for deletion, and which devices have no other copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb import analysis
from koodrive_nb.analysis.rules import word
from koodrive_nb.charts import judgements, theme
from koodrive_nb.charts.sketch import Sketch

if TYPE_CHECKING:
    from collections.abc import Mapping

    import plotly.graph_objects as go

_MAX_GROUPS = 30
_BAR_PX = 54
_WHOLE, _LEFT, _RIGHT = [0.0, 1.0], [0.0, 0.54], [0.58, 1.0]
# Words stand above their bar, since beside it no room is wide enough on every page.
_BAR_GAP, _ABOVE = 0.6, 0.36
_NO_RECORDS = "There are no records: nothing to draw."
_NO_GROUPS = "No row of the table is left: nothing to draw."
_WAITING = {
    "was_completed": ("was completed", theme.COLOURS["to_be_deleted"], "."),
    "was_abandoned": ("was abandoned", theme.COLOURS["stuck"], "x"),
}


@theme.chart_of(analysis.deletion_backlog, {"was_completed", "n_last_copy_at_risk"})
def deletion_backlog(table: pd.DataFrame) -> go.Figure:
    """Draw what waits for deletion in each group, and the devices whose last copy is among it.

    Takes records and the options of `kd.analysis.deletion_backlog`, or its table. The 30 largest
    groups are drawn; the subtitle tells of the others.

    Raises:
        InvalidParameterError: It is neither, or an option is not what the analysis takes.
    """
    about = theme.facts(table)
    keys = about.get("by") or list(table.columns[: table.columns.get_loc("n")])
    drawn = table.head(_MAX_GROUPS)
    is_known = bool(about.get("devices_known", drawn["n_last_copy_at_risk"].notna().any()))
    figure = Sketch()
    is_empty = drawn["n"].sum() + drawn["purged_since"].fillna(0).sum() == 0
    if is_empty:
        _draw_nothing(figure, _NO_RECORDS if about.get("n_records") == 0 else _NO_GROUPS)
    else:
        _draw_waiting(figure, drawn, keys, _LEFT if is_known else _WHOLE)
    if is_known and not is_empty:
        _draw_at_risk(figure, drawn)
    by = ", ".join(theme.shown(word(key)) for key in keys)
    waiting, n = int(table["to_be_deleted"].sum()), int(table["n"].sum())
    title = f"{theme.counted(waiting, 'record')} of {n:,} wait for deletion"
    more = f"; the {len(drawn)} largest of {len(table)} groups" if len(table) > len(drawn) else ""
    at_risk = f"At risk: all completed copies{' of the module' if 'module' in keys else ''} wait."
    unknown = "Which devices have no other copy takes the list of those that are bound: devices=."
    return theme.finish(
        figure,
        title,
        [
            f"By {by}, {theme.window(about)}, {theme.provenance(about)}{more}.",
            _cut(about, n),
            *_compared(about),
            at_risk if is_known else unknown,
            _horizon(about),
        ],
        plot_px=30 + _BAR_PX * (2 if is_empty else len(drawn)),
        alt=f"{title}: bars by {by}"
        + (", and the devices whose last copy is among them." if is_known else "."),
    )


def _draw_nothing(figure: Sketch, why: str) -> None:
    note = {"text": why, "x": 0, "y": 0.5, "xref": "paper", "yref": "paper", "xanchor": "left"}
    hidden = {"visible": False}
    figure.lay_out(xaxis=hidden, yaxis=hidden, annotations=[note | {"showarrow": False}])


def _draw_waiting(
    figure: Sketch, drawn: pd.DataFrame, keys: list[str], domain: list[float]
) -> None:
    """Draw what waits of each group, by whether it had completed, and name the groups."""
    places = list(range(len(drawn)))
    rows: list[Any] = drawn.to_dict("records")
    for column, (name, colour, pattern) in _WAITING.items():
        figure.add_bar(
            orientation="h",
            name=f"waits: {name}",
            y=places,
            x=[int(count) for count in drawn[column]],
            marker=theme.patterned(colour, pattern),
            hovertemplate=f"%{{x:,}} wait for deletion: {name}<extra></extra>",
        )
    _words(figure, [_part(row, "to_be_deleted", "n") for row in rows], "x")
    groups = [theme.group(row, keys) for row in drawn[keys].to_numpy()]
    figure.lay_out(
        barmode="stack",
        bargap=_BAR_GAP,
        xaxis=_axis("records waiting for deletion", domain, drawn["to_be_deleted"]),
        yaxis={
            "range": [max(0.5, len(drawn) - 0.5), -0.5],
            "tickmode": "array",
            "tickvals": places,
            "ticktext": [_tick(group, row) for group, row in zip(groups, rows, strict=True)],
            "showgrid": False,
            "zeroline": False,
        },
    )


def _draw_at_risk(figure: Sketch, drawn: pd.DataFrame) -> None:
    """Draw beside it how many devices have no copy that does not wait."""
    at_risk = drawn["n_last_copy_at_risk"].fillna(0)
    figure.add_bar(
        orientation="h",
        name="devices whose last copy is at risk",
        y=list(range(len(drawn))),
        x=[int(count) for count in at_risk],
        marker=theme.patterned(judgements.COLOURS["late"], "/"),
        hovertemplate="%{x:,} devices whose completed copies all wait for deletion<extra></extra>",
        xaxis="x2",
    )
    rows: list[Any] = drawn.to_dict("records")
    _words(figure, [_part(row, "n_last_copy_at_risk", "n_devices") for row in rows], "x2")
    figure.lay_out(xaxis2=_axis("devices at risk", _RIGHT, at_risk) | {"anchor": "y"})


def _axis(title: str, domain: list[float], counts: pd.Series[Any]) -> dict[str, Any]:
    most = int(counts.max()) if len(counts) else 0
    return {
        "title": {"text": title},
        "domain": domain,
        "range": [0, 1.05 * max(1, most)],
        "tickformat": ",",
        "gridcolor": theme.GRID,
        "linecolor": theme.GRID,
        "zerolinecolor": theme.GRID,
        "automargin": True,
        # There is no half record.
        **({"dtick": 1} if most <= 3 else {"nticks": 4}),  # noqa: PLR2004 -- as the comment says
    }


def _words(figure: Sketch, words: list[str], axis: str) -> None:
    figure.add_scatter(
        x=[0] * len(words),
        y=[place - _ABOVE for place in range(len(words))],
        mode="text",
        text=[f" {each}" for each in words],
        textposition="middle right",
        textfont={"size": 11},
        hoverinfo="skip",
        showlegend=False,
        cliponaxis=False,
        xaxis=axis,
    )


def _part(row: Mapping[str, Any], part: str, whole: str) -> str:
    n = int(row[whole])
    share = f" ({judgements.percent(row[part] / n)})" if n >= judgements.FEW else ""
    return f"{int(row[part]):,} of {n:,}{share}"


def _tick(group: str, row: Mapping[str, Any]) -> str:
    if pd.isna(row["new_since"]):
        return f"<b>{group}</b>"
    return f"<b>{group}</b><br>+{row['new_since']:,} marked, -{row['purged_since']:,} purged"


def _cut(about: Mapping[str, Any], n: int) -> str:
    """Say that rows of the table are gone, which no number here counts."""
    missing = int(about.get("n_records", n)) - int(about.get("n_later", 0)) - n
    if missing <= 0:
        return ""
    gone = theme.counted(missing, "record")
    return f"Rows of the table are missing: {gone} in other groups are not counted."


def _compared(about: Mapping[str, Any]) -> list[str]:
    before = about.get("previous_as_of")
    if not before:
        return ["Since when they wait is not computable from one look: pass previous=."]
    at = pd.Timestamp(before).tz_convert(about.get("tz", "UTC"))
    users = theme.counted(about.get("n_users_compared", 0), "user")
    told = [f"Marked and purged since {at.day} {at:%b %Y %H:%M}, of {users} in both."]
    others = (
        (about.get("n_users_left_out"), "seen only once"),
        (about.get("n_users_incomplete"), "of whom previous= lacks records"),
    )
    left = [f"{theme.counted(count, 'user')} {why}" for count, why in others if count]
    return told + ([f"Not compared: {', '.join(left)}."] if left else [])


def _horizon(about: Mapping[str, Any]) -> str:
    horizon = about.get("history_complete_from")
    if not horizon:
        return ""
    local = pd.Timestamp(horizon).tz_convert(about.get("tz", "UTC"))
    return f"Records may be purged before {local.day} {local:%b %Y}."
