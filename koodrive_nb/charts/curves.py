"""Which share of backups completes within which time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb.analysis.rules import span
from koodrive_nb.charts import theme
from koodrive_nb.charts.duration_axis import PAD, duration_axis
from koodrive_nb.charts.sketch import Sketch

if TYPE_CHECKING:
    from collections.abc import Mapping

    import plotly.graph_objects as go

_PLOT_PX = 360
_NUMBER_PX = 15
_MARGIN_PX = 64
_DAY_S = 86_400
_LINES = (
    (theme.COLOURS["completed"], "solid"),
    (theme.COLOURS["stuck"], "6px,3px"),
    (theme.COLOURS["in_progress"], "6px,2px,2px,2px"),
    (theme.COLOURS["unknown"], "12px,3px"),
    (theme.COLOURS["to_be_deleted"], "12px,3px,3px,3px"),
    (theme.INK, "3px,2px"),
)


def draw_curves(groups: list[tuple[str, pd.DataFrame]], about: Mapping[str, Any]) -> go.Figure:
    """Draw the curve of each group with its interval, and dotted what it comes to in the end."""
    largest = sorted(groups, key=lambda group: -int(group[1]["n"].max()))[: len(_LINES)]
    drawn = [group for group in groups if any(group is other for other in largest)]
    times = pd.concat([part["t_s"] for _, part in drawn]) if drawn else pd.Series(dtype="float64")
    times = times[times > 0]
    low, high = (times.min(), times.max()) if len(times) else (1.0, float(_DAY_S))
    figure = Sketch()
    for (name, part), (colour, dash) in zip(drawn, _LINES, strict=False):
        _draw_interval(figure, part, colour, low)
        _draw_curve(figure, name, part, {"color": colour, "dash": dash, "width": 2}, (low, high))
    figure.lay_out(
        annotations=_numbers(drawn),
        xaxis=duration_axis(low, high)
        | {"title": {"text": "time since its creation (logarithmic)"}},
        yaxis={
            "range": [-2, 104],
            "tickmode": "array",
            "tickvals": list(range(0, 101, 25)),
            "ticktext": [f"{share} %" for share in range(0, 101, 25)],
            "title": {"text": "completed"},
        },
    )
    n, excluded = (sum(int(part[name].max()) for _, part in groups) for name in ("n", "excluded"))
    hidden = len(groups) - len(drawn)
    finished = theme.finish(
        figure,
        "Which share of backups completes within which time",
        [
            f"{theme.counted(n, 'backup')}, {theme.window(about)}, {theme.provenance(about)}",
            f"The {len(drawn)} largest of {len(groups):,} groups are drawn." if hidden else "",
            (
                "Kaplan-Meier estimate with its 95 % interval: what is open, stuck or was "
                "abandoned counts as not completed up to its age."
            ),
            "Dotted: the share that ever completes.",
            f"{excluded:,} more are in no known state or have no usable duration."
            if excluded
            else "",
        ],
        plot_px=_PLOT_PX,
        alt=f"Completion curves of {n:,} backups in {theme.counted(len(groups), 'group')}.",
    )
    finished.layout.margin.r = _MARGIN_PX
    return finished


def _percent(shares: pd.Series[Any]) -> list[float | None]:
    return [None if pd.isna(share) else round(100 * share, 3) for share in shares]


def _times(part: pd.DataFrame, low: float) -> list[float]:
    # There is no zero on a logarithmic axis.
    return [max(float(low), float(t_s)) for t_s in part["t_s"]]


def _draw_interval(figure: Sketch, part: pd.DataFrame, colour: str, low: float) -> None:
    known = part[part["lo"].notna() & part["hi"].notna()]
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    for column, more in (
        ("lo", {}),
        ("hi", {"fill": "tonexty", "fillcolor": f"rgba({red},{green},{blue},0.18)"}),
    ):
        figure.add_scatter(
            mode="lines",
            x=_times(known, low),
            y=_percent(known[column]),
            line={"width": 0, "shape": "hv"},
            showlegend=False,
            hoverinfo="skip",
            **more,
        )


def _draw_curve(
    figure: Sketch,
    name: str,
    part: pd.DataFrame,
    line: dict[str, Any],
    edges: tuple[float, float],
) -> None:
    half = part.loc[part["completed_share"] >= 0.5, "t_s"]  # noqa: PLR2004 -- the median
    within = f"half within {span(half.iloc[0])}" if len(half) else "less than half completes"
    figure.add_scatter(
        mode="lines",
        name=f"{name} (n {int(part['n'].max()):,}, {within})",
        x=_times(part, edges[0]),
        y=_percent(part["completed_share"]),
        line=line | {"shape": "hv"},
        customdata=[
            f"{span(t_s)}, {risk:,} at risk"
            for t_s, risk in zip(part["t_s"], part["at_risk"], strict=True)
        ],
        hovertemplate=f"<b>{name}</b><br>%{{y:.1f}} % completed within %{{customdata}}"
        "<extra></extra>",
    )
    plateau = _percent(part["completed_share"].tail(1)) * 2
    figure.add_scatter(
        mode="lines",
        x=[max(edges[0], float(part["t_s"].iloc[-1])), float(edges[1]) * PAD],
        y=plateau,
        line={"color": line["color"], "dash": "dot", "width": 1.5},
        showlegend=False,
        hoverinfo="skip",
    )


def _numbers(drawn: list[tuple[str, pd.DataFrame]]) -> list[dict[str, Any]]:
    """Write what each curve comes to beside its end, and none over another."""
    notes: list[dict[str, Any]] = []
    # A legend of many lines leaves less height on a narrow page.
    px_per_percent = 0.7 * _PLOT_PX / 106
    lowest = float("inf")
    ends = [
        (float(part["completed_share"].iloc[-1]), colour)
        for (_, part), (colour, _) in zip(drawn, _LINES, strict=False)
    ]
    for share, colour in sorted(ends, reverse=True):
        if pd.isna(share):
            continue
        height = 100 * share * px_per_percent
        lowest = min(height, lowest - _NUMBER_PX)
        notes.append(
            {"text": f"{100 * share:.1f} %", "font": {"size": 11, "color": colour}}
            | {"x": 1, "xref": "paper", "xanchor": "left", "xshift": 4, "showarrow": False}
            | {"y": round(100 * share, 3), "yanchor": "middle", "yshift": round(lowest - height)}
        )
    return notes
