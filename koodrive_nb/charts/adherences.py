"""Which devices completed a backup on which local day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pandas as pd

from koodrive_nb import analysis
from koodrive_nb.analysis.adherences import CELLS
from koodrive_nb.charts import days, judgements, theme
from koodrive_nb.charts.events import draw as draw_events
from koodrive_nb.charts.sketch import Sketch
from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import plotly.graph_objects as go

_PLOT_PX = 320
_ROW_PX = 21
_MOST_ROWS = 100
_DAY_MS = 86_400_000
_WEEKS_UP_TO = 70
_MOST_CELLS = 6_000
_GLYPHS_UP_TO = 50 * 31
_GLYPHS = {"adhered": "●", "missed": "✕", "running": "◐", "not_expected": "·", "unknown": "?"}
_COLOURS = {cell: judgements.COLOURS.get(cell, theme.GRID) for cell in CELLS}
_WORDS = {
    "adhered": "completed a backup",
    "missed": "none completed",
    "running": "day is not over",
    "not_expected": "not expected: not bound all day",
    "unknown": "unknown: may be purged",
}


@theme.chart_of(analysis.adherence, {"adherence_share"}, {"cell", "bin_start"})
def adherence(table: pd.DataFrame, *, events: pd.DataFrame | None) -> go.Figure:
    """Draw on which local days devices completed a backup.

    Takes records and the options of `kd.analysis.adherence`, or its table. Per "day": the share of
    expected device-days, days hatched whose records may be purged. Per "device": one row a device
    and one cell a day, the device longest without a completed backup first; at most 100 rows and
    6 000 cells, the subtitle tells of the others. `events`, for the days, are a pandas frame with
    `start`, `end` (missing: an instant) and `label`.

    Raises:
        InvalidParameterError: It is neither, or an option is not what the analysis takes.
    """
    about = days.told(theme.facts(table))
    zone = ZoneInfo(about.get("tz", "UTC"))
    if "cell" in table.columns:
        if events is not None:
            raise InvalidParameterError("events= are marked on days: pass per='day' with them.")
        return _grid(table, about, zone)
    return _bars(table, about, zone, events)


def _bars(
    table: pd.DataFrame, about: Mapping[str, Any], zone: ZoneInfo, events: pd.DataFrame | None
) -> go.Figure:
    figure = Sketch()
    parts = {name: _WORDS[name] for name in ("adhered", "unknown", "missed")}
    is_known, most = days.stack(figure, table, parts, "expected", zone)
    purged = days.purged_before(table, about, zone)
    days.hatch(figure, table[~table["is_complete"]], purged, zone, shape="/")
    is_partial = table["bin_end"] > pd.Timestamp(about.get("as_of") or pd.Timestamp.max, tz="UTC")
    days.hatch(figure, table[is_partial], "day is not over", zone, shape=".")
    unit = {"range": [0, 100], "ticksuffix": " %"}
    figure.lay_out(
        barmode="stack",
        bargap=0.06,
        hovermode="x unified",
        xaxis=days.axis(table, zone, about),
        yaxis=unit | {"title": {"text": "share of devices expected"}}
        if is_known
        else {"title": {"text": "devices"}, "rangemode": "tozero"},
        yaxis2=days.hatched_axis(),
    )
    edges = () if table.empty else (table["bin_start"].iloc[0], table["bin_end"].iloc[-1])
    marked = draw_events(figure, events, zone, edges)
    whole = table[table["is_complete"]]
    adhered, expected = whole["adhered"].sum(), whole["expected"].sum()
    title = "Devices that completed a backup, by day"
    if is_known and expected:
        title = f"A backup completed on {judgements.percent(adhered / expected)} of device-days"
    return theme.finish(
        figure,
        title,
        [
            *_subtitle(about, about.get("n_devices", 0)),
            days.warning(purged),
            "" if about.get("devices_known", True) else judgements.NOT_COMPUTABLE,
            judgements.caution(most),
            marked,
        ],
        plot_px=_PLOT_PX,
        alt=f"{title}: bars per day, from {about.get('n_records', 0):,} records.",
    )


def _grid(table: pd.DataFrame, about: Mapping[str, Any], zone: ZoneInfo) -> go.Figure:
    n_days = max(1, int(table["bin_start"].nunique()))
    lanes = table.groupby(["user_id", "device_id"], sort=False, dropna=False).ngroup()
    most = min(_MOST_ROWS, _MOST_CELLS // n_days)
    drawn = table[lanes < most]
    n_rows = len(drawn) // n_days
    starts = drawn["bin_start"].iloc[:n_days].dt.tz_convert(zone)
    codes = [CELLS.index(cell) for cell in drawn["cell"]]
    figure = Sketch()
    told = [
        [_WORDS[cell], completed, n]
        for cell, completed, n in zip(drawn["cell"], drawn["completed"], drawn["n"], strict=True)
    ]
    has_glyphs = len(drawn) <= _GLYPHS_UP_TO
    labels = [theme.label(text) for text in drawn["device_label"].iloc[::n_days]]
    figure.add_heatmap(
        x=[f"{start:%Y-%m-%d}" for start in starts],
        y=list(range(n_rows)),
        z=_rows(codes, n_days),
        zmin=-0.5,
        zmax=len(CELLS) - 0.5,
        colorscale=_scale(),
        showscale=False,
        xgap=1 if n_days <= _WEEKS_UP_TO else 0,
        ygap=1,
        text=_rows([_GLYPHS[cell] for cell in drawn["cell"]], n_days) if has_glyphs else None,
        texttemplate="%{text}" if has_glyphs else None,
        customdata=_rows(told, n_days),
        hovertemplate="%{x|%a %d %b %Y}<br>%{customdata[0]}<br>%{customdata[1]} of "
        "%{customdata[2]} records completed<extra></extra>",
    )
    for cell in CELLS:
        # A heat map has no legend.
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            name=f"{_GLYPHS[cell]} {_WORDS[cell]}",
            marker={"symbol": "square", "size": 12, "color": _COLOURS[cell]},
            hoverinfo="skip",
        )
    figure.lay_out(
        xaxis={
            "type": "date",
            "title": {"text": f"day ({theme.zone_name(about)})"},
            "showgrid": False,
            "tickformat": "%a<br>%d %b",
            # A Monday.
            **({"tick0": "2025-01-06", "dtick": 7 * _DAY_MS} if n_days <= _WEEKS_UP_TO else {}),
        },
        yaxis={
            "autorange": "reversed",
            "tickmode": "array",
            "tickvals": list(range(n_rows)),
            "ticktext": labels,
            "showgrid": False,
            "zeroline": False,
        },
    )
    hidden = (
        about.get("n_devices_not_shown", 0) + int(lanes.max() + 1 if len(lanes) else 0) - n_rows
    )
    more = f"; {hidden:,} more devices not drawn ({theme.SILENT_FIRST})" if hidden else ""
    return theme.finish(
        figure,
        "Days on which each device completed a backup",
        [*_subtitle(about, n_rows), f"Longest without a completed backup first{more}."],
        plot_px=30 + _ROW_PX * max(2, n_rows),
        alt=f"Grid of {n_rows} devices and {n_days} days, from "
        f"{about.get('n_records', 0):,} records.",
    )


def _rows(cells: list[Any], n_days: int) -> list[list[Any]]:
    return [cells[start : start + n_days] for start in range(0, len(cells), n_days)]


def _scale() -> list[list[Any]]:
    """Give each cell one flat colour."""
    n = len(CELLS)
    return [[edge / n, _COLOURS[cell]] for at, cell in enumerate(CELLS) for edge in (at, at + 1)]


def _subtitle(about: Mapping[str, Any], n_devices: int) -> list[str]:
    out = about.get("n_devices_left_out")
    return [
        judgements.counted(about, n_devices),
        f"Left out: {theme.counted(out, 'device')} bound nobody knows when, if at all."
        if out
        else "",
        theme.shown(about.get("stuck_rule", ""), 400),
    ]
