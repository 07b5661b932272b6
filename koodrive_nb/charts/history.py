"""How exposed the devices were day by day."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from koodrive_nb import analysis
from koodrive_nb.analysis.rules import span
from koodrive_nb.charts import days, judgements, theme
from koodrive_nb.charts.events import draw as draw_events
from koodrive_nb.charts.sketch import Sketch

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    import plotly.graph_objects as go

_PLOT_PX = 340


@theme.chart_of(analysis.exposure_history, {"compliance_share", "protected"})
def exposure_history(table: pd.DataFrame, *, events: pd.DataFrame | None) -> go.Figure:
    """Draw how many devices were protected on each day, and for how much of the time.

    Takes records and the options of `kd.analysis.exposure_history`, or its table. The bars are
    shares of the devices in scope at the end of the day; the lines are those that kept the RPO,
    then and over the day. Days are hatched whose records may be purged, or that are not over.
    `events`, a pandas frame with `start`, `end` (missing: an instant) and `label`, are marked.

    Raises:
        InvalidParameterError: It is neither, or an option is not what the analysis takes.
    """
    about = days.told(theme.facts(table))
    zone = ZoneInfo(about.get("tz", "UTC"))
    rpo = _rpo(about)
    figure = Sketch()
    parts = {
        "protected": f"protected: {rpo} old at most",
        "late": "late",
        "outdated": "outdated",
        "never": "never",
    }
    slack = about.get("slack")
    if slack:
        parts["late"] = f"late: {span(3600 * slack * about['rpo_h'])} at most"
        parts["outdated"] = "outdated: older"
        parts["never"] = "never: none completed"
    is_known, most = days.stack(figure, table, parts, "in_scope", zone)
    if is_known:
        _draw_lines(figure, table, zone)
    purged = days.purged_before(table, about, zone)
    days.hatch(figure, table[~table["is_complete"]], purged, zone, shape="/")
    days.hatch(figure, table[table["is_partial"]], "day is not over", zone, shape=".")
    unit = {"range": [0, 100], "ticksuffix": " %", "title": {"text": "share of devices in scope"}}
    figure.lay_out(
        barmode="stack",
        bargap=0,
        hovermode="x unified",
        xaxis=days.axis(table, zone, about),
        yaxis=unit if is_known else {"title": {"text": "devices"}, "rangemode": "tozero"},
        yaxis2=days.hatched_axis(),
    )
    edges = () if table.empty else (table["bin_start"].iloc[0], table["bin_end"].iloc[-1])
    marked = draw_events(figure, events, zone, edges)
    title = _title(table, about)
    return theme.finish(
        figure,
        title,
        [*_subtitle(about, purged), judgements.caution(most), marked],
        plot_px=_PLOT_PX,
        alt=f"{title}: bars per day, from {about.get('n_records', 0):,} records.",
    )


def _rpo(about: Mapping[str, Any]) -> str:
    return span(3600 * about["rpo_h"]) if about.get("rpo_h") else "RPO"


def _draw_lines(figure: Sketch, table: pd.DataFrame, zone: ZoneInfo) -> None:
    for column, name, dash, shape in (
        ("compliance_share", "within the RPO at the end of the day", "solid", "hvh"),
        ("compliance_time_share", "share of device-time within the RPO", "dot", "linear"),
    ):
        y = [None if math.isnan(share) else round(100 * share, 3) for share in table[column]]
        line = {"shape": shape, "color": theme.INK, "width": 2, "dash": dash}
        halo = {"shape": shape, "color": "#FFFFFF", "width": 4.5}
        where = days.places(table, zone)
        figure.add_scatter(
            **where, y=y, mode="lines", line=halo, hoverinfo="skip", showlegend=False
        )
        figure.add_scatter(
            **where,
            y=y,
            mode="lines",
            line=line,
            name=name,
            hovertemplate=f"{name}: %{{y:.1f}} %<extra></extra>",
        )


def _title(table: pd.DataFrame, about: Mapping[str, Any]) -> str:
    last = table.iloc[-1] if len(table) else None
    if last is None or math.isnan(last["compliance_share"]):
        return "Devices per day by age of their newest completed backup"
    now = f"{judgements.percent(last['compliance_share'])} of devices"
    if last["in_scope"] < judgements.FEW:
        now = f"{last['protected']} of {last['in_scope']} devices"
    # Days whose records may be purged would make it look worse than it was.
    hours = table.loc[table["is_complete"], ["exposed_h", "in_scope_h"]].sum()
    if not hours["in_scope_h"]:
        return f"{now} kept the RPO of {_rpo(about)} at the end"
    share = judgements.percent(1 - hours["exposed_h"] / hours["in_scope_h"])
    return f"{now} kept the RPO of {_rpo(about)} at the end, {share} of device-time"


def _subtitle(about: Mapping[str, Any], purged: str) -> list[str]:
    return [
        judgements.counted(about, about.get("n_devices", 0)),
        days.warning(purged),
        "" if about.get("devices_known", True) else judgements.NOT_COMPUTABLE,
        theme.shown(about.get("stuck_rule", ""), 400),
    ]
