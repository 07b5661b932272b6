"""Marks what happened outside the records, such as a release or an outage, on a time axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import pandas as pd

from koodrive_nb.analysis.arguments import instant
from koodrive_nb.charts import theme
from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from zoneinfo import ZoneInfo

    from koodrive_nb.charts.sketch import Sketch


_MOST = 20
_LABEL_CHARACTERS = 24
_LINE_PX = 15
# Of the width of a plot in a narrow notebook, so that labels are apart in every other.
_SHARE_PER_CHARACTER = 0.02
_COLOUR = "#6E40A8"
_SHADE = "rgba(110,64,168,0.12)"


@dataclass(frozen=True, slots=True)
class _Event:
    start: pd.Timestamp
    end: pd.Timestamp
    label: str


def draw(
    figure: Sketch,
    events: object,
    zone: ZoneInfo,
    edges: Sequence[pd.Timestamp],
    write: Callable[[pd.Series[Any]], Sequence[str | None]] | None = None,
) -> str:
    """Mark events on the time axis of a figure, behind its data, with their labels above the plot.

    `events` is None or a pandas frame with `start`, `end` (missing, or no such column: an instant)
    and `label`; times without a zone are meant in `zone`. `edges` are the first and the last
    instant of the axis: what lies outside is not drawn, and of more than 20 the newest are. Returns
    what the subtitle has to say of that. `write` gives the places of instants on the axis, where
    it is not the wall of `zone`. Comes before `theme.finish`, which makes room for labels.

    Raises:
        InvalidParameterError: It is no such frame.
    """
    found = _read(events, zone)
    if not found or not len(edges):
        return ""
    low, high = edges[0], edges[-1]
    inside = [event for event in found if event.end >= low and event.start <= high]
    drawn = inside[-_MOST:]
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    labels = _places(drawn, low, high)
    above = [
        note
        for note in figure.layout.get("annotations", ())
        if (note.get("yref"), note.get("y")) == ("paper", 1)
    ]
    # What is written above the plot already ends at its right edge.
    taken: list[tuple[int, float, float]] = [(0, 0.5, 1.0)] if above else []
    for event, (left, right, is_right) in labels:
        rise = 1 + max((level for level, *span in taken if _meet(span, (left, right))), default=-1)
        taken.append((rise, left, right))
        ends = pd.Series([max(event.start, low), min(event.end, high)])
        x0, x1 = (str(text) for text in (write(ends) if write else theme.wall(ends, zone)))
        shapes += _shapes(x0, x1, rise * _LINE_PX)
        notes.append(_note(x0, event.label, rise * _LINE_PX, is_right=is_right))
    figure.lay_out(
        shapes=[*figure.layout.get("shapes", ()), *shapes],
        annotations=[*figure.layout.get("annotations", ()), *notes],
    )
    return _told(len(found), len(inside), len(drawn))


def _read(events: object, zone: ZoneInfo) -> list[_Event]:
    if events is None:
        return []
    if not isinstance(events, pd.DataFrame) or not {"start", "label"} <= set(events.columns):
        _refuse()
    starts = list(events["start"])
    ends = list(events["end"]) if "end" in events.columns else [None] * len(starts)
    found = []
    for start, end, label in zip(starts, ends, events["label"], strict=True):
        begin = instant(start, "start of events", zone.key)
        last = begin if pd.isna(end) else instant(end, "end of events", zone.key)
        if last < begin:
            _refuse(f" {theme.shown(label)!r} ends before it starts.")
        found.append(_Event(begin, last, theme.shown(label, _LABEL_CHARACTERS)))
    return sorted(found, key=lambda event: event.start)


def _refuse(more: str = "") -> NoReturn:
    raise InvalidParameterError(
        "events= takes a pandas frame with the columns start, end (missing: an instant) and label."
        + more
    )


def _places(
    events: Sequence[_Event], low: pd.Timestamp, high: pd.Timestamp
) -> list[tuple[_Event, tuple[float, float, bool]]]:
    """Give from where to where labels reach, as shares of the axis, and which end at their event.

    Those that begin at their event come first, from right to left, then the others from left to
    right: each one higher than those it meets, so that no line to a label crosses another.
    """
    width = (high - low) / pd.Timedelta("1s") or 1.0
    to_right, to_left = [], []
    for event in events:
        at = (max(event.start, low) - low) / pd.Timedelta("1s") / width
        length = len(event.label) * _SHARE_PER_CHARACTER
        if at + length <= 1:
            to_right.append((event, (at, at + length, False)))
        else:
            to_left.append((event, (at - length, at, True)))
    return [*reversed(to_right), *to_left]


def _meet(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _shapes(x0: str, x1: str, rise_px: int) -> list[dict[str, Any]]:
    """Shade from start to end behind the data; the start is a line up to its label."""
    line = {"type": "line", "x0": x0, "x1": x0, "yref": "paper", "y0": 0, "y1": 1}
    paint = {"color": _COLOUR, "width": 1, "dash": "dash"}
    up = {"type": "line", "x0": x0, "x1": x0, "yref": "paper", "ysizemode": "pixel", "yanchor": 1}
    shapes = [
        line | {"line": paint},
        up | {"y0": 0, "y1": rise_px + _LINE_PX, "line": {"color": _COLOUR, "width": 1}},
    ]
    if x0 == x1:
        return shapes
    band = {"type": "rect", "x0": x0, "x1": x1, "yref": "paper", "y0": 0, "y1": 1}
    shade = {"fillcolor": _SHADE, "line": {"width": 0}, "layer": "below"}
    # Behind bars as high as the plot only this is seen of its end.
    bar = {"type": "rect", "x0": x0, "x1": x1, "yref": "paper", "ysizemode": "pixel", "yanchor": 1}
    top = {"y0": 0, "y1": 3, "fillcolor": _COLOUR, "line": {"width": 0}}
    last = line | {"x0": x1, "x1": x1, "line": paint}
    return [band | shade, *shapes, bar | top, last]


def _note(x: str, label: str, rise_px: int, *, is_right: bool) -> dict[str, Any]:
    side = {"xanchor": "right", "xshift": -3} if is_right else {"xanchor": "left", "xshift": 3}
    place = {"x": x, "yref": "paper", "y": 1, "yanchor": "bottom", "yshift": rise_px + 4}
    look = {"font": {"size": 11, "color": _COLOUR}, "bgcolor": "#FFFFFF", "showarrow": False}
    return place | side | look | {"text": label}


def _told(n: int, n_inside: int, n_drawn: int) -> str:
    parts = []
    if n_inside > n_drawn:
        parts.append(f"the newest {n_drawn} of {n_inside} events are marked")
    if n > n_inside:
        parts.append(f"{theme.counted(n - n_inside, 'event')} outside this window")
    return f"Events: {', '.join(parts)}." if parts else ""
