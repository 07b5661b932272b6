"""What was created, ended and under way over time, and which share of it completed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pandas as pd

from koodrive_nb import analysis
from koodrive_nb.analysis.rules import span
from koodrive_nb.charts import caveats, panels, theme, unusual_marks
from koodrive_nb.charts.events import draw as draw_events
from koodrive_nb.charts.sketch import Sketch
from koodrive_nb.charts.time_axis import TimeAxis

if TYPE_CHECKING:
    from collections.abc import Mapping

    import plotly.graph_objects as go

_MAX_GROUPS = 12
# Twelve groups of the days of nine weeks.
_MAX_ROWS = 756
_UNITS = ("hour", "day", "week", "month")


@theme.chart_of(analysis.activity, {"bin_start", "created", "is_settled"})
def activity(
    table: pd.DataFrame, *, events: pd.DataFrame | None, anomalies: pd.DataFrame | None
) -> go.Figure:
    """Draw what was created per bin by its state by now, what ended, what was open, and the share.

    Takes records and the options of `kd.analysis.activity`, or its table. Groups are drawn one
    below the other, without what was open: the 12 largest. Only the newest bins are drawn where
    there are more than 756 in all. The subtitle tells of both. A bin that the window or "now" cuts
    is lighter, and shaded is what is so young that its share may still change. `events`, a pandas
    frame with `start`, `end` (missing: an instant) and `label`, are marked. `anomalies`, a table of
    `kd.analysis.anomalies` of the same records, `by` and `tz`, marks its unusual days; rows of it
    may be left out.

    Raises:
        InvalidParameterError: It is neither, an option is not what the analysis takes, or the
            unusual days are of other records, groups or zone.
    """
    return draw(table, events, anomalies)


def draw(
    table: pd.DataFrame, events: pd.DataFrame | None, anomalies: pd.DataFrame | None = None
) -> go.Figure:
    """Draw the table of an activity, or of a timeline in the form of a flow."""
    about = theme.facts(table)
    keys = list(about.get("by") or table.columns[: table.columns.get_loc("bin_start")])
    found = _groups(table, keys)
    largest = sorted(found, key=lambda group: -int(group[1]["created"].sum()))[:_MAX_GROUPS]
    drawn = [group for group in found if any(group is other for other in largest)]
    n_bins = max((len(part) for _, part in drawn), default=0)
    at_most = _MAX_ROWS // max(1, len(drawn))
    zone = ZoneInfo(about.get("tz", "UTC"))
    axis = TimeAxis(table[["bin_start", "bin_end"]].drop_duplicates(), zone)
    unit = _unit(about, table)
    figure = Sketch()
    parts = [(name, part.tail(at_most)) for name, part in drawn]
    if keys:
        plot_px = panels.draw_groups(figure, parts, axis, unit)
    else:
        plot_px = panels.draw_one(figure, parts[0][1], axis, unit)
    days = [part for _, part in parts]
    unusual = unusual_marks.draw(figure, anomalies, days, axis, about, keys)
    title = f"{unit} ({theme.zone_name(about)}{axis.note})"
    figure.lay_out(barmode="stack", xaxis={"title": {"text": title}})
    n = int(table["created"].sum())
    left_out = [
        f"The {len(drawn)} largest of {len(found):,} groups are drawn."
        if len(found) > len(drawn)
        else "",
        f"Only the newest {at_most:,} of {n_bins:,} bins are drawn." if n_bins > at_most else "",
    ]
    shown = pd.concat(days) if parts else table
    edges = () if shown.empty else (shown["bin_start"].min(), shown["bin_end"].max())
    marked = draw_events(figure, events, zone, edges, lambda times: axis.text(axis.local(times)))
    return theme.finish(
        figure,
        f"Backups created and ended per {unit}",
        [
            _counted(about, n),
            *left_out,
            unusual,
            *_marks(about, shown),
            caveats.not_drawn(about),
            theme.shown(about.get("stuck_rule", ""), 400),
            marked,
        ],
        plot_px=plot_px,
        alt=f"Backups created and ended per {unit}: {n:,} records, "
        f"{int(table['stuck'].sum()):,} of them stuck.",
    )


def _groups(table: pd.DataFrame, keys: list[str]) -> list[tuple[str, pd.DataFrame]]:
    if not keys:
        return [("", table)]
    named = table.groupby(keys, sort=False, dropna=False, observed=True)
    return [(theme.group(part[keys].iloc[0], keys), part) for part in (part for _, part in named)]


def _unit(about: Mapping[str, Any], table: pd.DataFrame) -> str:
    name = str(about.get("bin", "bin"))
    if name in _UNITS or table.empty:
        return name
    return span((table["bin_end"] - table["bin_start"]).max().total_seconds())


def _counted(about: Mapping[str, Any], n: int) -> str:
    devices = about.get("n_devices")
    of_devices = f" on {theme.counted(devices, 'device')}" if devices else ""
    return (
        f"{theme.counted(n, 'backup')} created{of_devices}, {theme.window(about)}, "
        f"{theme.provenance(about)}"
    )


def _marks(about: Mapping[str, Any], shown: pd.DataFrame) -> list[str]:
    """Say what the marks mean that are there."""
    told = [
        ("Counts over time are drawn instead of single backups.", about.get("form") == "flow"),
        ("Only the last five years are drawn.", bool(about.get("cut_at"))),
        ("Lighter: cut by the window or by “now”.", bool(shown["is_partial"].any())),
        ("Shaded: so young that its share may still change.", not shown["is_settled"].all()),
        ("Backups that were purged are missing from old bins.", not shown.empty),
    ]
    return [" ".join(sentence for sentence, is_true in told if is_true)]
