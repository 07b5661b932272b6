"""How many backups ran at once over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pandas as pd

from koodrive_nb.analysis.rules import span
from koodrive_nb.charts import caveats, panels, theme
from koodrive_nb.charts.sketch import Sketch
from koodrive_nb.charts.time_axis import TimeAxis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import plotly.graph_objects as go

_MAX_ROWS = 2_100
_LEVEL_PX, _GROUP_PX, _GAP_PX = 280, 130, 44
_UNITS = ("hour", "day", "week", "month")


def draw(
    table: pd.DataFrame,
    groups: Sequence[tuple[str, pd.DataFrame]],
    about: Mapping[str, Any],
    hidden: str,
) -> go.Figure:
    """Draw one level for each group; the text `hidden` is for the subtitle."""
    figure = Sketch()
    zone = ZoneInfo(about.get("tz", "UTC"))
    axis = TimeAxis(table[["bin_start", "bin_end"]].drop_duplicates(), zone)
    unit = _unit(about, table)
    at_most = _MAX_ROWS // max(1, len(groups))
    n_bins = max((len(part) for _, part in groups), default=0)
    height = _LEVEL_PX if len(groups) == 1 else _GROUP_PX
    # Room for the name of a group.
    gap = _GAP_PX if any(name for name, _ in groups) else 0
    plot_px = max(1, len(groups)) * (height + gap)
    notes = []
    for place, (name, whole) in enumerate(groups):
        part = whole.tail(at_most)
        top = plot_px - place * (height + gap) - gap
        _level(figure, part, axis, unit, place)
        most = part["running_max"].max() if len(part) else 0
        figure.layout[panels.axis_name("yaxis", place + 1)] = {
            "domain": [(top - height) / plot_px, top / plot_px],
            "rangemode": "tozero",
            "tickformat": ",",
            "gridcolor": theme.GRID,
            "zerolinecolor": theme.GRID,
            "automargin": True,
            "title": {"text": "" if name else "running at once"},
            **({"dtick": 1} if most <= 5 else {"nticks": 5}),  # noqa: PLR2004 -- no half backup
        }
        if part.empty:
            figure.layout[panels.axis_name("yaxis", place + 1)]["visible"] = False
        if name:
            notes.append(
                panels.heading(f"<b>{name}</b>  at most {most:,} at once", 0, top / plot_px)
            )
    shown = [part.tail(at_most) for _, part in groups]
    title = {"text": f"{unit} ({theme.zone_name(about)}{axis.note})"}
    figure.lay_out(
        # Below the zero of the level, which the first label would touch.
        xaxis={"type": "date", "title": title, "anchor": "free", "position": 0, "ticklen": 10}
        | (axis.span(shown[0], unit, 10) if shown else {})
        | ({"visible": False} if table.empty else {}),
        annotations=notes,
    )
    n_records = theme.counted(about.get("n_records", 0), "record")
    purged = caveats.purged_before(about, "levels")
    words = _peak(table, groups, zone, "At least" if purged else "At most")
    return theme.finish(
        figure,
        words,
        [
            f"From {n_records}, {theme.window(about)}, {theme.provenance(about)}",
            hidden,
            f"Only the newest {at_most:,} of {n_bins:,} bins are drawn."
            if n_bins > at_most
            else "",
            caveats.seen_until(about),
            caveats.not_drawn(about),
            "One that is stuck or was abandoned runs until the stuck limit.",
            purged,
            theme.shown(about.get("stuck_rule", ""), 400),
        ],
        plot_px=plot_px,
        alt=f"{words}: the most and the mean per {unit}, from {n_records}.",
    )


def _level(figure: Sketch, part: pd.DataFrame, axis: TimeAxis, unit: str, place: int) -> None:
    """Draw counts as lines that are level over each bin."""
    x = axis.text(axis.local(pd.concat([part["bin_start"], part["bin_end"].tail(1)])))
    where = {
        "x": x,
        "mode": "lines",
        "yaxis": panels.axis_name("y", place + 1),
        "showlegend": place == 0,
    }
    begin = f"{unit} from %{{x|%a %d %b %Y %H:%M}}<br>"
    teal = theme.COLOURS["in_progress"]
    most = [int(count) for count in part["running_max"]]
    figure.add_scatter(
        y=most + most[-1:],
        line={"shape": "hv", "color": teal, "width": 1},
        fill="tozeroy",
        fillcolor="rgba(34,165,161,0.25)",
        name="most at once",
        legendgroup="most",
        hovertemplate=f"{begin}at most %{{y:,}} at once<extra></extra>",
        **where,
    )
    mean = [round(float(level), 3) for level in part["running_mean"]]
    figure.add_scatter(
        y=mean + mean[-1:],
        line={"shape": "hv", "color": theme.INK, "width": 1},
        name="mean",
        legendgroup="mean",
        hovertemplate=f"{begin}%{{y:,.3g}} on average<extra></extra>",
        **where,
    )


def _peak(
    table: pd.DataFrame,
    groups: Sequence[tuple[str, pd.DataFrame]],
    zone: ZoneInfo,
    bound: str,
) -> str:
    if table.empty or len(groups) > 1 or not table["running_max"].max():
        return "Backups running at once"
    place = int(table["running_max"].argmax())
    when = table["bin_start"].iloc[place].tz_convert(zone)
    n = theme.counted(int(table["running_max"].iloc[place]), "backup")
    return f"{bound} {n} ran at once, on {when.day} {when:%b %Y}"


def _unit(about: Mapping[str, Any], table: pd.DataFrame) -> str:
    name = str(about.get("bin") or "bin")
    if name in _UNITS or table.empty:
        return name
    return span((table["bin_end"] - table["bin_start"]).max().total_seconds())
