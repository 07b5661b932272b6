"""How every figure looks: colours that survive colour blindness, patterns, words, time axes."""

from __future__ import annotations

import html
import json
import re
import textwrap
import unicodedata
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pandas as pd
import plotly.graph_objects as go

from koodrive_nb.analysis.rules import word
from koodrive_nb.analysis.zones import offset_changes
from koodrive_nb.charts.options import chart_of as chart_of  # noqa: PLC0414 -- charts take it from here
from koodrive_nb.streams import ATTRS
from koodrive_nb.text import counted as counted  # noqa: PLC0414 -- as above
from koodrive_nb.text import one_line, sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from koodrive_nb.charts.sketch import Sketch

# Each at least 3:1 on white and on #111 (WCAG 1.4.11), and apart from the others under
# protanopia, deuteranopia and tritanopia; pattern and symbol say the same without colour.
COLOURS = {
    "completed": "#4172C7",
    "in_progress": "#22A5A1",
    "stuck": "#BC492F",
    "to_be_deleted": "#6C6969",
    "unknown": "#874B81",
}
PATTERNS = {"completed": "", "in_progress": "/", "stuck": "x", "to_be_deleted": ".", "unknown": "+"}
SYMBOLS = {
    "completed": "circle",
    "in_progress": "diamond",
    "stuck": "x",
    "to_be_deleted": "square-open",
    "unknown": "cross-thin-open",
}
INK = "#24292F"
QUIET = "#57606A"
GRID = "#E3E6EA"
BAND = "#F5F7F9"
FAINT = "#B6BEC6"
GAP = "#C8862B"

SILENT_FIRST = "first those without records in this window"
LABEL_CHARACTERS = 32
_IDENTIFIERS = {
    *("module", "state", "status", "stuck_reason", "os_family", "device_source"),
    *("cause", "newest_module", "worst_module"),
}
_BYTES_PER_CHARACTER = 3
_SUBTITLE_CHARACTERS = 84
_RIGHT_TO_LEFT = {"R", "AL", "AN"}
_LINE_PX = 16

# Ticks that are not seen keep the labels off the plot, and off each other in its corner.
UNSEEN_TICKS = {"ticks": "outside", "ticklen": 6, "tickcolor": "rgba(0,0,0,0)"}

TEMPLATE = go.layout.Template(
    layout={
        "colorway": list(COLOURS.values()),
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', sans-serif", "color": INK},
        "hoverlabel": {"align": "left"},
        "paper_bgcolor": "#FFFFFF",
        "plot_bgcolor": "#FFFFFF",
        "title": {"font": {"size": 17}, "subtitle": {"font": {"size": 12, "color": QUIET}}},
        "xaxis": {"gridcolor": GRID, "linecolor": GRID, "zerolinecolor": GRID, "automargin": True},
        "yaxis": {
            "gridcolor": GRID,
            "linecolor": GRID,
            "zerolinecolor": GRID,
            "automargin": True,
            **UNSEEN_TICKS,
        },
    }
)


def fill(state: str, pattern_px: int = 7) -> dict[str, Any]:
    """Give the colour and the pattern of a state's bars."""
    return patterned(COLOURS[state], PATTERNS[state], pattern_px)


def patterned(colour: str, shape: str, pattern_px: int = 7) -> dict[str, Any]:
    """Give bars a colour, and a pattern that says the same."""
    pattern = {"shape": shape, "fillmode": "overlay", "fgcolor": "#FFFFFF"}
    return {
        "color": colour,
        "pattern": pattern | {"fgopacity": 0.35, "size": pattern_px, "solidity": 0.25},
    }


def shown(text: object, limit: int = LABEL_CHARACTERS) -> str:
    """Make text of the service safe for plotly, which reads HTML, and TeX between dollars.

    It is cut to `limit` characters, and to as many bytes as three times that, so that a figure of
    many marks stays small whatever the script.
    """
    line = one_line(text, limit)
    while len(json.dumps(_escaped(line))) > _BYTES_PER_CHARACTER * limit:
        line = f"{line[:-2]}…"
    return _isolated(_escaped(line))


def _isolated(line: str) -> str:
    # Numbers beside a name that is written from right to left would end up inside it.
    is_mixed = any(unicodedata.bidirectional(letter) in _RIGHT_TO_LEFT for letter in line)
    return f"\u2068{line}\u2069" if is_mixed else line


def _escaped(line: str) -> str:
    # plotly reads no entity for quotes, and has no attribute that one could end.
    return html.escape(line, quote=False).replace("$", "&#36;").replace("%{", "%&#123;")


def label(text: object) -> str:
    """Make a device label safe and short, its name cut so that the digits of its id stay."""
    name, dot, digits = str(text).rpartition(" ·")
    return f"{shown(name, LABEL_CHARACTERS - 8)}{dot}{shown(digits, 8)}" if dot else shown(text)


def group(values: Iterable[object], keys: Iterable[str]) -> str:
    """Write what the records of a group have in common, safe and short."""
    words = (_of_group(value, key) for value, key in zip(values, keys, strict=True))
    return " · ".join(shown(text) for text in words)


def _of_group(value: Any, key: str) -> str:
    if pd.isna(value):
        return "(missing)"
    if not one_line(value, LABEL_CHARACTERS):
        return "(blank)"
    # Only our own identifiers are written as words: a device name may hold an underscore.
    return word(str(value)) if key in _IDENTIFIERS else str(value)


def facts(table: pd.DataFrame) -> Mapping[str, Any]:
    """Give what a table says of itself, where pandas has not dropped it."""
    found: Mapping[str, Any] = table.attrs.get(ATTRS, {})
    return found


def provenance(about: Mapping[str, Any]) -> str:
    """Say where the numbers come from and whether they are all there."""
    source = str(about.get("source", "source unknown"))
    shown_source = shown("sandbox (synthetic)" if source == "sandbox" else source)
    # However complete, a sample shall not pass for all users.
    drawn = sample(about.get("sampled_of"), about.get("sampled"))
    if "complete" not in about:
        whole = f"a {drawn}, completeness unknown" if drawn else "completeness unknown"
    else:
        whole = "complete" if about["complete"] else "INCOMPLETE"
        article = "a" if about["complete"] else "an"
        whole = f"{article} {whole} {drawn}" if drawn else whole
    return f"{shown_source}, {whole}"


def window(about: Mapping[str, Any]) -> str:
    """Write the span of what is drawn, in the display zone."""
    zone = ZoneInfo(about.get("tz", "UTC"))
    stamps = [stamp.tz_convert(zone) for stamp in edges(about)]
    days = [f"{stamp.day} {stamp:%b %Y}" for stamp in stamps]
    if len(days) > 1 and stamps[0].year == stamps[1].year:
        days[0] = days[0] if days[0] == days[1] else days[0][:-5]
    span = " – ".join(dict.fromkeys(days))
    return f"{span} ({zone_name(about)})" if days else "no dates"


def edges(about: Mapping[str, Any]) -> list[pd.Timestamp]:
    """Give the first and the last instant of what is drawn, where they are known."""
    first = about.get("cut_at") or about.get("since") or about.get("first")
    last = about.get("until") or about.get("as_of")
    return [pd.Timestamp(text) for text in (first, last) if text]


def zone_name(about: Mapping[str, Any]) -> str:
    """Write the display zone with the offsets that it has in the span of what is drawn."""
    zone = ZoneInfo(about.get("tz", "UTC"))
    stamps = edges(about)
    if zone.key == "UTC" or not stamps:
        return zone.key
    first, last = stamps[0].to_pydatetime(), stamps[-1].to_pydatetime()
    changes = [pd.Timestamp(change) for change in offset_changes(zone, first, last)]
    offsets = dict.fromkeys(offset(stamp, zone) for stamp in [stamps[0], *changes])
    return f"{zone.key}, UTC{'/'.join(offsets)}"


def offset(stamp: pd.Timestamp, zone: ZoneInfo) -> str:
    """Write a zone's offset at an instant, such as "+08:00"."""
    seconds = int((stamp.tz_convert(zone).utcoffset() or timedelta(0)).total_seconds())
    sign = "-" if seconds < 0 else "+"
    hours, rest = divmod(abs(seconds), 3600)
    return f"{sign}{hours:02d}:{rest // 60:02d}"


def wall(times: pd.Series[Any], zone: ZoneInfo) -> list[str | None]:
    """Write instants as wall-clock text: plotly has no zones and would drop an offset."""
    local = times.dt.tz_convert(zone).dt.tz_localize(None)
    return [None if pd.isna(stamp) else stamp.isoformat(timespec="milliseconds") for stamp in local]


def _balanced(sentence: str) -> list[str]:
    """Wrap a sentence into as few lines as it needs, of about the same length."""
    sentence = re.sub(r"(\d) (d|h|min|s|[A-Z][a-z]{2})\b", "\\1\u00a0\\2", sentence)
    lines = textwrap.wrap(sentence, _SUBTITLE_CHARACTERS, break_long_words=False)
    for width in range(_SUBTITLE_CHARACTERS - 1, 20, -1):
        narrower = textwrap.wrap(sentence, width, break_long_words=False)
        if len(narrower) > len(lines):
            break
        lines = narrower
    return lines


def finish(
    figure: Sketch, title: str, subtitle: Iterable[str], *, plot_px: int, alt: str
) -> go.Figure:
    """Give a figure its title, wrapped subtitle, legend, height and alternative text."""
    lines = [line for sentence in subtitle for line in _balanced(sentence)]
    # What is written above the plot, such as events, needs more room the higher it is.
    above = [
        note
        for note in figure.layout.get("annotations", ())
        if (note.get("yref"), note.get("y")) == ("paper", 1)
    ]
    top = (
        62 + _LINE_PX * len(lines) + max((int(note.get("yshift", 0)) for note in above), default=0)
    )
    bottom = 96
    figure.lay_out(
        template=TEMPLATE,
        title={
            "text": title,
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 14, "l": 12},
            "subtitle": {"text": "<br>".join(lines)},
        },
        height=plot_px + top + bottom,
        margin={"t": top, "b": bottom, "l": 12, "r": 16},
        legend={
            "orientation": "h",
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "y": 0,
            "yref": "container",
            "yanchor": "bottom",
            "traceorder": "normal",
        },
        meta={"alt": alt},
    )
    return figure.figure()
