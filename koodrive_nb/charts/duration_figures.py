"""How long backups take, and how many of them ever complete."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from koodrive_nb import analysis
from koodrive_nb.analysis.rules import span
from koodrive_nb.charts import theme
from koodrive_nb.charts.curves import draw_curves
from koodrive_nb.charts.duration_axis import duration_axis
from koodrive_nb.charts.sketch import Sketch

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    import plotly.graph_objects as go

_MAX_GROUPS = 20
_ROW_PX = 46
_LEAST_S = 0.1
_ATTEMPTS = {
    "first": ("first backup of a device and module", theme.COLOURS["unknown"], "dot"),
    "later": ("later ones", theme.COLOURS["completed"], "solid"),
}
_MARKS = {
    "p50_s": ("P50", "circle", 10),
    "p90_s": ("P90", "line-ns-open", 12),
    "p95_s": ("P95", "diamond-open", 8),
    "p99_s": ("P99", "line-ns-open", 20),
}


@theme.chart_of(
    analysis.durations, {"attempt", "p50_s", "n"}, {"t_s", "completed_share", "at_risk"}
)
def durations(table: pd.DataFrame) -> go.Figure:
    """Draw how long backups take, or how many complete within which time.

    Takes records and the options of `kd.analysis.durations`, or its table. Percentiles: one row per
    group and attempt, a line from the 50th percentile to the 99th, or the highest that is known, on
    a logarithmic axis, the slowest group on top; the 20 largest groups are drawn. Curves: the share
    that completes within a time, with its interval, and dotted what it comes to in the end; the 6
    largest groups are drawn. The subtitle tells of the others.

    Raises:
        InvalidParameterError: It is neither, or an option is not what the analysis takes.
    """
    about = theme.facts(table)
    kind = "t_s" if "t_s" in table.columns else "attempt"
    keys = list(about.get("by", table.columns[: table.columns.get_loc(kind)]))
    groups = _groups(table, keys)
    if kind == "t_s":
        return draw_curves(groups, about)
    return _draw_percentiles(groups, about)


def _groups(table: pd.DataFrame, keys: list[str]) -> list[tuple[str, pd.DataFrame]]:
    if not keys:
        return [("all", table)] if len(table) else []
    parts = table.groupby(keys, sort=False, dropna=False, observed=True)
    return [(theme.group(part[keys].iloc[0], keys), part) for _, part in parts]


def _draw_percentiles(
    groups: list[tuple[str, pd.DataFrame]], about: Mapping[str, Any]
) -> go.Figure:
    largest = sorted(groups, key=lambda group: -int(group[1]["n"].sum()))[:_MAX_GROUPS]
    slowest = sorted(largest, key=lambda group: -float(group[1]["p50_s"].fillna(0).max()))
    rows: list[tuple[str, Any]] = [
        (name, row) for name, part in slowest for row in part.to_dict("records") if row["n"]
    ]
    figure = Sketch()
    for attempt, (words, colour, dash) in _ATTEMPTS.items():
        _draw_spans(figure, rows, attempt, words, {"color": colour, "dash": dash, "width": 4})
    for column, (name, symbol, size) in _MARKS.items():
        _draw_marks(figure, rows, column, name, {"symbol": symbol, "size": size})
    ends = [shown for _, row in rows for shown in (_shown(row["p50_s"]), _shown(_highest(row)))]
    low, high = (min(ends), max(ends)) if ends else (1.0, 60.0)
    figure.lay_out(
        annotations=[_words(place, row, (low, high)) for place, (_, row) in enumerate(rows)],
        xaxis=duration_axis(low, high * 1.3)
        | {"title": {"text": "from creation to end (logarithmic)"}},
        yaxis={
            "range": [max(1, len(rows)) - 0.4, -0.75],
            "showgrid": False,
            "zeroline": False,
            "tickmode": "array",
            "tickvals": list(range(len(rows))),
            "ticktext": [
                f"<b>{name}</b> {row['attempt']}<br>n {int(row['n']):,}" for name, row in rows
            ],
        },
    )
    parts = [part for _, part in groups]
    n, excluded = (sum(int(part[name].sum()) for part in parts) for name in ("n", "excluded"))
    n_records = about.get("n_records", n)
    hidden = len(groups) - len(largest)
    return theme.finish(
        figure,
        "How long backups take",
        [
            (
                f"{theme.counted(n, 'completed backup')} of {n_records:,} records, "
                f"{theme.window(about)}, {theme.provenance(about)}"
            ),
            f"The {len(largest)} largest of {len(groups):,} groups are drawn." if hidden else "",
            f"{excluded:,} more without a usable duration." if excluded else "",
            "P95 needs 20 backups, P99 needs 100.",
            "“First” is a lower bound: what was purged leaves no trace.",
        ],
        plot_px=40 + _ROW_PX * max(2, len(rows)),
        alt=f"Percentiles of the duration of {n:,} completed backups of "
        f"{n_records:,} records, in {theme.counted(len(groups), 'group')}.",
    )


def _highest(row: Mapping[str, Any]) -> float:
    return max(float(row[column]) for column in _MARKS if not math.isnan(row[column]))


def _shown(seconds: float) -> float:
    # There is no zero on a logarithmic axis.
    return max(_LEAST_S, round(float(seconds), 3))


def _draw_spans(
    figure: Sketch,
    rows: list[tuple[str, Any]],
    attempt: str,
    words: str,
    line: dict[str, Any],
) -> None:
    places = [place for place, (_, row) in enumerate(rows) if row["attempt"] == attempt]
    if not places:
        return
    ends = [(_shown(rows[place][1]["p50_s"]), _shown(_highest(rows[place][1]))) for place in places]
    figure.add_scatter(
        mode="lines",
        name=words,
        x=[x for low, high in ends for x in (low, high, None)],
        y=[y for place in places for y in (place, place, None)],
        line=line,
        hoverinfo="skip",
    )


def _draw_marks(
    figure: Sketch,
    rows: list[tuple[str, Any]],
    column: str,
    name: str,
    marker: dict[str, Any],
) -> None:
    known = [
        (place, title, row)
        for place, (title, row) in enumerate(rows)
        if not math.isnan(row[column])
    ]
    if not known:
        return
    figure.add_scatter(
        mode="markers",
        name=name,
        x=[_shown(row[column]) for _, _, row in known],
        y=[place for place, _, _ in known],
        marker=marker | {"color": theme.INK, "line": {"color": theme.INK, "width": 2}},
        customdata=[
            [
                f"{title} {row['attempt']}",
                span(row[column]),
                f"n {int(row['n']):,}, from {span(row['min_s'])} to {span(row['max_s'])}",
            ]
            for _, title, row in known
        ],
        hovertemplate=f"<b>%{{customdata[0]}}</b><br>{name} %{{customdata[1]}}"
        "<br>%{customdata[2]}<extra></extra>",
    )


def _words(place: int, row: Mapping[str, Any], edges: tuple[float, float]) -> dict[str, Any]:
    """Write the numbers above their line, towards the side where there is room."""
    known = [(name, row[column]) for column, (name, _, _) in _MARKS.items()]
    known = [(name, seconds) for name, seconds in known if not math.isnan(seconds)]
    different = known if known[0][1] < known[-1][1] else known[:1]
    told = " · ".join(
        f"{name} {span(s)}" for name, s in dict([different[0], different[-1]]).items()
    )
    start, end = math.log10(_shown(row["p50_s"])), math.log10(_shown(known[-1][1]))
    low, high = (math.log10(edge) for edge in edges)
    is_right = start + end > low + high
    return {
        "text": told,
        "x": end if is_right else start,
        "y": place - 0.18,
        "xanchor": "right" if is_right else "left",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 11, "color": theme.QUIET},
    }
