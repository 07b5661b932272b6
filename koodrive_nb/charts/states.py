"""How many records are in which state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from koodrive_nb import analysis
from koodrive_nb.analysis.rules import STATES, word
from koodrive_nb.charts import caveats, theme
from koodrive_nb.charts.sketch import Sketch

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_MAX_GROUPS = 30
_BAR_PX = 46


@theme.chart_of(analysis.status_breakdown, {"n", "settled", *STATES})
def status_breakdown(table: pd.DataFrame) -> go.Figure:
    """Draw the records of each group as one bar, divided by state.

    Takes records and the options of `kd.analysis.status_breakdown`, or its table. Buttons switch
    between counts and shares. The 30 largest groups are drawn; the subtitle tells of the others.

    Raises:
        InvalidParameterError: It is neither, or an option is not what the analysis takes.
    """
    about = theme.facts(table)
    keys = about.get("by") or list(table.columns[: table.columns.get_loc("n")])
    drawn = table.head(_MAX_GROUPS)
    groups = [theme.group(row, keys) for row in drawn[keys].to_numpy()]
    figure = Sketch()
    rows: list[Any] = drawn.to_dict("records")
    positions = list(range(len(drawn)))
    for state in STATES:
        counts = [int(count) for count in drawn[state]]
        shares = [_percent(count, int(n)) for count, n in zip(counts, drawn["n"], strict=True)]
        figure.add_bar(
            orientation="h",
            name=word(state),
            y=positions,
            x=counts,
            text=[f"{count:,}" if count else "" for count in counts],
            textposition="inside",
            textangle=0,
            insidetextanchor="middle",
            textfont={"color": "#FFFFFF"},
            marker=theme.fill(state) | {"line": {"color": "#FFFFFF", "width": 1}},
            customdata=[
                [group, share, f"{int(n):,}"]
                for group, share, n in zip(groups, shares, drawn["n"], strict=True)
            ],
            hovertemplate=f"<b>%{{customdata[0]}}</b><br>{word(state)}: %{{x:,}} of "
            "%{customdata[2]} (%{customdata[1]})<extra></extra>",
        )
    total, stuck = int(table["n"].sum()), int(table["stuck"].sum())
    figure.lay_out(
        barmode="stack",
        uniformtext={"minsize": 10, "mode": "hide"},
        bargap=0.32,
        xaxis={"title": {"text": "backup records"}, "rangemode": "tozero"},
        yaxis={
            "autorange": "reversed",
            "tickmode": "array",
            "tickvals": positions,
            "ticktext": [_tick(group, row) for group, row in zip(groups, rows, strict=True)],
            "showgrid": False,
        },
        updatemenus=[_count_or_share(drawn)],
    )
    hidden = len(table) - len(drawn)
    subtitle = (
        f"{theme.counted(total, 'record')}, {theme.window(about)}, {theme.provenance(about)}"
        + (f"; the {len(drawn)} largest of {len(table)} groups are drawn" if hidden else ""),
        caveats.not_drawn(about),
        theme.shown(
            about.get("stuck_rule", "Stuck is inferred; the table no longer says how"), 400
        ),
    )
    by = ", ".join(theme.shown(word(key)) for key in keys)
    return theme.finish(
        figure,
        f"Backup records by {by} and state",
        subtitle,
        plot_px=40 + _BAR_PX * max(1, len(drawn)),
        alt=f"Bars of backup records by {by}: {total:,} in all, {stuck:,} of them stuck.",
    )


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def _tick(group: str, row: dict[str, Any]) -> str:
    # What matters most is often too small to read in its bar.
    named = [
        f"{row[state]:,} {word(state)}"
        for state in ("in_progress", "stuck", "unknown")
        if row[state]
    ]
    total = theme.counted(row["n"], "record")
    words = ", ".join(named)
    # A long line would leave little room for the bars.
    if named and len(group) < len(words):
        return f"<b>{group}</b>  {total}<br>{words}"
    return f"<b>{group}</b><br>{', '.join([total, *named])}"


def _count_or_share(drawn: pd.DataFrame) -> dict[str, Any]:
    counts = [[f"{int(n):,}" if n else "" for n in drawn[state]] for state in STATES]
    shares = [
        [
            _percent(int(n), int(whole)) if n else ""
            for n, whole in zip(drawn[state], drawn["n"], strict=True)
        ]
        for state in STATES
    ]
    return {
        "type": "buttons",
        "direction": "right",
        "x": 1,
        "xanchor": "right",
        "y": 1,
        "yanchor": "bottom",
        "pad": {"b": 6},
        "font": {"size": 11},
        "buttons": [
            {
                "label": "Count",
                "method": "update",
                "args": [
                    {"text": counts},
                    {"barnorm": "", "xaxis.title.text": "backup records", "xaxis.ticksuffix": ""},
                ],
            },
            {
                "label": "Share",
                "method": "update",
                "args": [
                    {"text": shares},
                    {
                        "barnorm": "percent",
                        "xaxis.title.text": "share of the group's records",
                        "xaxis.ticksuffix": " %",
                    },
                ],
            },
        ],
    }
