"""When each device backed up, and where a backup is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pandas as pd

from koodrive_nb import analysis
from koodrive_nb.analysis.rules import STATES, span, word
from koodrive_nb.charts import caveats, marks, theme
from koodrive_nb.charts.activities import draw as draw_activity
from koodrive_nb.charts.events import draw as draw_events
from koodrive_nb.charts.sketch import Sketch

if TYPE_CHECKING:
    from collections.abc import Mapping

    import plotly.graph_objects as go

_ROW_PX = 24
_DENSE_ROW_PX = 17
_DENSE_ABOVE_ROWS = 40
_PAD_SHARE = 0.02
_NO_MODULE = ""


@theme.chart_of(analysis.timeline, {"lane", "kind"}, {"bin_start", "created"})
def timeline(table: pd.DataFrame, *, events: pd.DataFrame | None) -> go.Figure:
    """Draw each device's backups from creation to end, and the gaps where one is missing.

    Takes records and the options of `kd.analysis.timeline`, or its table. One row per device and
    module, the device longest without a newer completed backup first. An open backup reaches to its
    "now" with an open edge. For a fleet, what was created, ended and under way over time is drawn
    instead, and the subtitle says so. `events`, a pandas frame with `start`, `end` (missing: an
    instant) and `label`, are marked.

    Raises:
        InvalidParameterError: It is neither, or an option is not what the analysis takes.
    """
    if "bin_start" in table.columns:
        return draw_activity(table, events)
    about = theme.facts(table)
    zone = ZoneInfo(about.get("tz", "UTC"))
    rows = rows_of(table)
    figure = Sketch()
    low, high = _span(table, about)
    marks.draw_gaps(figure, table[table["kind"] == "gap"], rows, zone, low)
    backups = table[table["kind"] == "backup"]
    for state in STATES:
        marks.draw_backups(figure, backups[backups["state"] == state], state, rows, zone)
    marks.draw_waiting(figure, table[table["kind"] == "waiting"], rows, zone)
    shapes = [*marks.bands(rows), *marks.now_line(about, zone)]
    figure.lay_out(
        # All at once: plotly checks the whole figure anew for each shape that is added.
        shapes=shapes,
        annotations=marks.now_words(about, zone),
        barmode="overlay",
        bargap=0.3,
        hoverdistance=30,
        xaxis={
            "type": "date",
            "range": theme.wall(pd.Series([low, high]), zone),
            "title": {"text": f"created – ended ({theme.zone_name(about)})"},
        },
        yaxis={
            "range": [len(rows) - 0.5, -0.5],
            "showgrid": False,
            "tickmode": "array",
            "tickvals": list(range(len(rows))),
            "ticktext": _row_labels(rows, is_cut=bool(about.get("cut_at") or about.get("since"))),
            "zeroline": False,
        },
    )
    lanes = int(table["lane"].nunique())
    marked = draw_events(figure, events, zone, (low, high))
    return theme.finish(
        figure,
        "Backups of each device over time",
        [*_subtitle(about, len(backups), lanes), marked],
        plot_px=24
        + max(2, len(rows)) * (_ROW_PX if len(rows) <= _DENSE_ABOVE_ROWS else _DENSE_ROW_PX),
        alt=f"Timeline of {len(backups):,} backups on {lanes:,} lanes, with "
        f"{int((table['kind'] == 'gap').sum()):,} gaps.",
    )


def rows_of(table: pd.DataFrame) -> list[tuple[int, str, str]]:
    """Give the rows from top to bottom: lane, module, label of the device."""
    labels = table.drop_duplicates("lane").set_index("lane")["device_label"]
    pairs = table[["lane", "module"]].drop_duplicates().sort_values(["lane", "module"])
    # A gap has no module, so of a lane with backups it needs no row of its own.
    kept = pairs[pairs["module"].notna() | ~pairs["lane"].duplicated(keep=False)]
    return [
        (int(lane), _NO_MODULE if pd.isna(module) else str(module), str(labels[lane]))
        for lane, module in zip(kept["lane"], kept["module"], strict=True)
    ]


def _row_labels(rows: list[tuple[int, str, str]], *, is_cut: bool) -> list[str]:
    nothing = "none in this window" if is_cut else "no backup"
    labels = []
    previous = None
    for lane, module, label in rows:
        name = f"<b>{theme.label(label)}</b>  " if lane != previous else ""
        labels.append(f"{name}{word(module) or nothing}")
        previous = lane
    return labels


def _span(table: pd.DataFrame, about: Mapping[str, Any]) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Span the axis over the window, or over the backups, and a little more."""
    drawn = table if (table["kind"] != "backup").all() else table[table["kind"] == "backup"]
    given = (about.get("cut_at") or about.get("since"), about.get("until") or about.get("as_of"))
    found = (drawn["create_time"].min(), table["shown_until"].max())
    low, high = (
        pd.Timestamp(text) if text else stamp for text, stamp in zip(given, found, strict=True)
    )
    if pd.isna(low) or pd.isna(high):
        # Nothing to draw: any span will do.
        low = high = pd.Timestamp(given[1] or "2025-01-01T00:00Z")
    pad = max((high - low) * _PAD_SHARE, pd.Timedelta("10min"))
    return (low - pad).as_unit("ms"), (high + pad).as_unit("ms")


def _subtitle(about: Mapping[str, Any], n_backups: int, n_lanes: int) -> list[str]:
    left_out = about.get("n_lanes_left_out", 0)
    more = f", {left_out:,} more not drawn ({theme.SILENT_FIRST})" if left_out else ""
    lanes = theme.counted(n_lanes, "lane") + more
    cut = about.get("n_marks_left_out", 0)
    gap_after_s = about.get("gap_after_s")
    return [
        (
            f"{theme.counted(n_backups, 'backup')} on {lanes}, {theme.window(about)}, "
            f"{theme.provenance(about)}"
        ),
        f"Only the newest {n_backups:,} of these lanes are drawn, {cut:,} older ones are not"
        if cut
        else "",
        "Longest exposed first"
        + (
            f"; shaded: none of these completed for over {span(gap_after_s)}" if gap_after_s else ""
        ),
        caveats.not_drawn(about),
        theme.shown(about.get("stuck_rule", ""), 400),
    ]
