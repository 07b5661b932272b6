"""What was created, ended and under way over time, for fleets too large for lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import plotly.graph_objects as go

from koodrive_nb.charts import theme

if TYPE_CHECKING:
    import pandas as pd

_PLOT_PX = 340


def flow(table: pd.DataFrame) -> go.Figure:
    """Draw created upwards, ended and presumed stuck downwards, and below it what was open."""
    about = theme.facts(table)
    zone = ZoneInfo(about.get("tz", "UTC"))
    bins = theme.wall(table["bin_start"], zone)
    unit = about.get("bin", "bin")
    begin = f"{unit} from %{{x|%a %d %b %Y %H:%M}}"
    figure = go.Figure()
    for name, column, axis, fill in (
        ("created", "created", "y", {"color": theme.QUIET}),
        ("ended", "ended", "y3", theme.fill("completed")),
        ("presumed stuck", "presumed_stuck", "y3", theme.fill("stuck")),
    ):
        figure.add_bar(
            name=name,
            x=bins,
            y=[int(count) for count in table[column]],
            yaxis=axis,
            marker=fill,
            hovertemplate=f"{begin}<br>%{{y:,}} {name}<extra></extra>",
        )
    figure.add_scatter(
        name=f"open at the end of the {unit}",
        x=bins,
        y=[int(count) for count in table["open"]],
        yaxis="y2",
        mode="lines",
        line={"color": theme.INK, "width": 1.5, "shape": "hv"},
        hovertemplate=f"{begin}<br>%{{y:,}} open at its end<extra></extra>",
    )
    figure.update_layout(
        barmode="stack",
        bargap=0.15,
        xaxis={
            "type": "date",
            "title": {"text": f"{unit} ({theme.zone_name(about)})"},
            "anchor": "y2",
        },
        yaxis={"domain": [0.68, 1], "title": {"text": "created"}, "tickformat": ","},
        yaxis3={
            "domain": [0.31, 0.63],
            "title": {"text": "ended"},
            "autorange": "reversed",
            "tickformat": ",",
            "gridcolor": theme.GRID,
            "automargin": True,
        },
        yaxis2={
            "domain": [0, 0.24],
            "title": {"text": "open"},
            "rangemode": "tozero",
            "gridcolor": theme.GRID,
            "automargin": True,
        },
    )
    n, devices = int(table["created"].sum()), about.get("n_devices")
    of_devices = f" on {theme.counted(devices, 'device')}" if devices else ""
    return theme.finish(
        figure,
        f"Backups created and ended per {unit}",
        [
            (
                f"{theme.counted(n, 'backup')} created{of_devices}, {theme.window(about)}, "
                f"{theme.provenance(about)}"
            ),
            "Counts over time are drawn instead of single backups.",
            "Only the last five years are drawn." if about.get("cut_at") else "",
            theme.not_drawn(about),
            theme.shown(about.get("stuck_rule", ""), 400),
        ],
        plot_px=_PLOT_PX,
        alt=f"Backups created and ended per {unit}: {n:,} records.",
    )
