"""What a timeline is drawn of: bands, gaps, backups, and the line of its "now"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb.analysis.rules import span, word
from koodrive_nb.charts import theme

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from zoneinfo import ZoneInfo

    from koodrive_nb.charts.sketch import Sketch


_BAR_ROWS = 0.5


def bands(rows: list[tuple[int, str, str]]) -> list[dict[str, Any]]:
    """Shade every other device, so that the eye keeps its row."""
    shapes = []
    for lane in sorted({lane for lane, _, _ in rows})[::2]:
        places = [place for place, row in enumerate(rows) if row[0] == lane]
        across = {"xref": "paper", "x0": 0, "x1": 1, "y0": places[0] - 0.5, "y1": places[-1] + 0.5}
        paint = {"fillcolor": theme.BAND, "line": {"width": 0}, "layer": "below"}
        shapes.append({"type": "rect"} | across | paint)
    return shapes


def draw_gaps(
    figure: Sketch,
    gaps: pd.DataFrame,
    rows: list[tuple[int, str, str]],
    zone: ZoneInfo,
    low: pd.Timestamp,
) -> None:
    """Draw the stretches without a completed backup, across all rows of their device."""
    if gaps.empty:
        return
    places = {
        lane: [place for place, row in enumerate(rows) if row[0] == lane]
        for lane in gaps["lane"].unique()
    }
    words = [span(s) for s in (gaps["shown_until"] - gaps["create_time"]).dt.total_seconds()]
    # Drawn from the edge of the window on, so that the words in it stay in sight.
    begin = gaps["create_time"].where(gaps["create_time"] > low, low)
    drawn_s = (gaps["shown_until"] - begin).dt.total_seconds()
    figure.add_bar(
        orientation="h",
        name="none completed",
        base=theme.wall(begin, zone),
        x=[int(1000 * seconds) for seconds in drawn_s],
        y=[sum(places[lane]) / len(places[lane]) for lane in gaps["lane"]],
        width=[len(places[lane]) - 0.24 for lane in gaps["lane"]],
        text=[text.rpartition(" d ")[0] + " d" if " d " in text else text for text in words],
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        textfont={"color": theme.INK, "size": 11},
        constraintext="none",
        customdata=[
            [theme.label(label), text, "so far" if is_open else "in all", _moment(start, zone)]
            for label, text, is_open, start in zip(
                gaps["device_label"],
                words,
                gaps["end_time"].isna(),
                gaps["create_time"],
                strict=True,
            )
        ],
        hovertemplate="<b>%{customdata[0]}</b><br>no completed backup for %{customdata[1]} "
        "%{customdata[2]}<br>since %{customdata[3]}<extra></extra>",
        marker={
            "color": "#FDF3E1",
            "line": {"color": theme.GAP, "width": 1},
            "pattern": {"shape": "/", "fgcolor": theme.GAP, "fgopacity": 0.35, "size": 9},
        },
    )


def draw_backups(
    figure: Sketch,
    part: pd.DataFrame,
    state: str,
    rows: list[tuple[int, str, str]],
    zone: ZoneInfo,
) -> None:
    """Draw the backups of one state: a bar from creation to end, and a mark that is always seen."""
    if part.empty:
        return
    places = {(lane, module): place for place, (lane, module, _) in enumerate(rows)}
    y = [places[key] for key in zip(part["lane"], part["module"].astype(str), strict=True)]
    starts = theme.wall(part["create_time"], zone)
    widths = (part["shown_until"] - part["create_time"]).dt.total_seconds() * 1000
    figure.add_bar(
        orientation="h",
        base=starts,
        x=[int(width) for width in widths],
        y=y,
        hoverinfo="skip",
        legendgroup=state,
        showlegend=False,
        width=_BAR_ROWS,
        marker=theme.fill(state, 6),
    )
    figure.add_scatter(
        mode="markers",
        name=word(state),
        legendgroup=state,
        x=starts,
        y=y,
        marker={
            "color": theme.COLOURS[state],
            "symbol": theme.SYMBOLS[state],
            "size": 9 if state != "completed" else 7,
            "line": {"width": 1.5 if "open" in theme.SYMBOLS[state] else 0},
        },
        customdata=_hover(part, zone),
        hovertemplate=f"<b>%{{customdata[0]}}</b><br>{word(state)}%{{customdata[1]}}"
        "<br>created %{customdata[2]}<br>%{customdata[3]}"
        "<br>record %{customdata[4]}<extra></extra>",
    )
    is_open = part["end_time"].isna() & (part["state"] != "to_be_deleted")
    if is_open.any():
        figure.add_scatter(
            mode="markers",
            legendgroup=state,
            showlegend=False,
            hoverinfo="skip",
            x=theme.wall(part["shown_until"][is_open], zone),
            y=[place for place, edge in zip(y, is_open, strict=True) if edge],
            marker={"color": theme.COLOURS[state], "symbol": "triangle-right-open", "size": 10},
        )


def _hover(part: pd.DataFrame, zone: ZoneInfo) -> list[list[str]]:
    rows: Iterable[Any] = part.itertuples()
    return [
        [
            f"{theme.label(row.device_label)} {word(str(row.module))}",
            f" ({row.stuck_reason})" if isinstance(row.stuck_reason, str) else "",
            _moment(row.create_time, zone),
            f"ended {_moment(row.end_time, zone)}, after {span(row.duration_s)}"
            if pd.notna(row.end_time)
            else "no end known",
            theme.shown(row.record_id),
        ]
        for row in rows
    ]


def _moment(stamp: pd.Timestamp, zone: ZoneInfo) -> str:
    local = stamp.tz_convert(zone)
    return f"{local.day} {local:%b %Y %H:%M:%S} {theme.offset(stamp, zone)}"


def draw_waiting(
    figure: Sketch, part: pd.DataFrame, rows: list[tuple[int, str, str]], zone: ZoneInfo
) -> None:
    """Mark when devices were bound that have no backup yet."""
    if part.empty:
        return
    places = {lane: place for place, (lane, _, _) in enumerate(rows)}
    length_s = (part["shown_until"] - part["create_time"]).dt.total_seconds()
    figure.add_scatter(
        mode="markers",
        name="bound, no backup yet",
        x=theme.wall(part["create_time"], zone),
        y=[places[lane] for lane in part["lane"]],
        marker={"color": theme.QUIET, "symbol": "circle-open-dot", "size": 9},
        customdata=[
            [theme.label(label), span(seconds)]
            for label, seconds in zip(part["device_label"], length_s, strict=True)
        ],
        hovertemplate="<b>%{customdata[0]}</b><br>bound %{customdata[1]} ago, no backup yet"
        "<extra></extra>",
    )


def now_line(about: Mapping[str, Any], zone: ZoneInfo) -> list[dict[str, Any]]:
    """Draw the instant that everything is as of."""
    if not about.get("as_of"):
        return []
    (at,) = theme.wall(pd.Series([pd.Timestamp(about["as_of"])]), zone)
    line = {"color": theme.QUIET, "width": 1, "dash": "dot"}
    return [{"type": "line", "x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1, "line": line}]


def now_words(about: Mapping[str, Any], zone: ZoneInfo) -> list[dict[str, Any]]:
    """Write the instant that everything is as of above its line."""
    if not about.get("as_of"):
        return []
    now = pd.Timestamp(about["as_of"])
    (at,) = theme.wall(pd.Series([now]), zone)
    place = {"x": at, "xanchor": "right", "yref": "paper", "y": 1, "yanchor": "bottom"}
    font = {"size": 11, "color": theme.QUIET}
    local = now.tz_convert(zone)
    text = f"as of {local.day} {local:%b %Y %H:%M}"
    return [place | {"text": text, "font": font, "showarrow": False}]
