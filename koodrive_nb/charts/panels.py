"""The panels of an activity: created and ended, open, and the share that completed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb.analysis.rules import STATES, word
from koodrive_nb.charts import theme

if TYPE_CHECKING:
    from koodrive_nb.charts.sketch import Sketch
    from koodrive_nb.charts.time_axis import TimeAxis

_CREATED_PX, _OPEN_PX, _SHARE_PX, _GAP_PX = 200, 90, 130, 30
_GROUP_PX, _GROUP_GAP_PX = 96, 40
_LEFT, _RIGHT = (0.0, 0.62), (0.73, 1.0)
_ENOUGH = 20
_LIGHT = 0.45
_SHADE = "#EDF0F3"
_SHARE_AXIS = {
    "range": [-4, 104],
    "tickmode": "array",
    "tickvals": [0, 50, 100],
    "ticktext": ["0 %", "50 %", "100 %"],
}
_FEW_BINS = 70
_INSET_SHARE = 0.08
_FEW = 5


def draw_one(figure: Sketch, table: pd.DataFrame, axis: TimeAxis, unit: str) -> int:
    """Draw all panels of one group, one below the other, and give their height in pixels."""
    drawing = _Drawing(figure, axis, unit)
    heights = (_CREATED_PX, _OPEN_PX, _SHARE_PX)
    whole = sum(heights) + _GAP_PX * (len(heights) - 1)
    bottom = whole
    for number, (height, title) in enumerate(
        zip(heights, ("created", "open", "settled share"), strict=True), 1
    ):
        bottom -= height
        more = _SHARE_AXIS if number == len(heights) else {"rangemode": "tozero"}
        drawing.y_axis(number, (bottom, bottom + height), whole, more | {"title": {"text": title}})
        bottom -= _GAP_PX
    drawing.created(table, "x", 1)
    drawing.open(table, 2)
    drawing.share(table, "x", 3)
    figure.lay_out(
        xaxis={"type": "date", "anchor": "y3"} | axis.span(table, unit, 12),
        shapes=drawing.shapes,
    )
    return whole


def draw_groups(
    figure: Sketch, groups: list[tuple[str, pd.DataFrame]], axis: TimeAxis, unit: str
) -> int:
    """Draw what was created and the share of each group side by side, and give their height."""
    drawing = _Drawing(figure, axis, unit)
    whole = max(1, len(groups)) * (_GROUP_PX + _GROUP_GAP_PX)
    notes = []
    for place, (name, table) in enumerate(groups):
        left, right = 2 * place + 1, 2 * place + 2
        bottom = whole - (place + 1) * (_GROUP_PX + _GROUP_GAP_PX)
        edges = (bottom, bottom + _GROUP_PX)
        drawing.y_axis(left, edges, whole, {"rangemode": "tozero", "nticks": 4})
        drawing.y_axis(right, edges, whole, _SHARE_AXIS | {"anchor": "x2"})
        drawing.created(table, "x", left)
        drawing.share(table, "x2", right)
        words = f"<b>{name}</b>  {theme.counted(int(table['created'].sum()), 'backup')} created"
        for text, x in ((words, _LEFT[0]), ("settled share", _RIGHT[0])):
            notes.append(heading(text, x, edges[1] / whole))
    # Free of the last panel, which need not have any share to draw.
    bottom_axis = {"type": "date", "anchor": "free", "position": 0}
    paint = {"gridcolor": theme.GRID, "linecolor": theme.GRID, "automargin": True}
    shown = groups[0][1] if groups else pd.DataFrame()
    figure.lay_out(
        xaxis=bottom_axis | axis.span(shown, unit, 9) | {"domain": _LEFT},
        xaxis2=bottom_axis | paint | axis.span(shown, unit, 3) | {"domain": _RIGHT},
        annotations=notes,
        shapes=drawing.shapes,
    )
    return whole


class _Drawing:
    """A figure to which panels are added, with each word once in its legend."""

    def __init__(self, figure: Sketch, axis: TimeAxis, unit: str) -> None:
        self._figure, self._axis, self._unit = figure, axis, unit
        self._named: set[str] = set()
        self.shapes: list[dict[str, Any]] = []

    def y_axis(self, number: int, edges: tuple[int, int], whole: int, more: dict[str, Any]) -> None:
        """Place an axis at so many pixels from the bottom."""
        axis = {"domain": [edge / whole for edge in edges], "tickformat": ",", "automargin": True}
        paint = dict.fromkeys(("gridcolor", "linecolor", "zerolinecolor"), theme.GRID)
        self._figure.layout[axis_name("yaxis", number)] = axis | paint | more

    def _whole_ticks(self, number: int, counts: pd.Series[Any]) -> None:
        # There is no half backup.
        if len(counts) and counts.max() <= _FEW:
            self._figure.layout[axis_name("yaxis", number)]["dtick"] = 1

    def created(self, table: pd.DataFrame, x: str, number: int) -> None:
        """Draw what was created by its state, and over it what ended."""
        self._whole_ticks(number, table[["created", "ended"]].max(axis=1))
        self._shade(table, x, number)
        start, end = (self._axis.local(table[name]) for name in ("bin_start", "bin_end"))
        widths = [int(1000 * width) for width in (end - start).dt.total_seconds()]
        inset = int(_INSET_SHARE * min(widths, default=0)) if len(table) <= _FEW_BINS else 0
        widths = [width - 2 * inset for width in widths]
        begin = self._begin()
        for state in STATES:
            if not table[state].any():
                continue
            paint: dict[str, Any] = theme.fill(state)
            paint["line"] = {"width": 0}
            if table["is_partial"].any():
                paint["opacity"] = [_LIGHT if cut else 1 for cut in table["is_partial"]]
            self._figure.add_bar(
                x=self._axis.text(start),
                y=[int(count) for count in table[state]],
                offset=inset,
                width=widths[0] if len(set(widths)) == 1 else widths,
                marker=paint,
                customdata=[int(count) for count in table["created"]],
                hovertemplate=f"{begin}<br>%{{y:,}} of %{{customdata:,}} created: {word(state)}"
                "<extra></extra>",
                **self._in_legend(word(state)),
                **_axes(x, number),
            )
        self._steps(
            table,
            "ended",
            f"{begin}<br>%{{y:,}} ended, %{{customdata:,}} presumed stuck<extra></extra>",
            {"color": theme.INK, "width": 1},
            customdata=[int(count) for count in table["presumed_stuck"]],
            **self._in_legend("ended"),
            **_axes(x, number),
        )

    def open(self, table: pd.DataFrame, number: int) -> None:
        """Draw what was under way at the end of each bin."""
        self._whole_ticks(number, table["open"])
        self._shade(table, "x", number)
        self._steps(
            table,
            "open",
            f"{self._begin()}<br>%{{y:,}} open at its end<extra></extra>",
            {"color": theme.COLOURS["in_progress"], "width": 1.5},
            fill="tozeroy",
            fillcolor="rgba(34,165,161,0.15)",
            **self._in_legend("open at the end"),
            **_axes("x", number),
        )

    def share(self, table: pd.DataFrame, x: str, number: int) -> None:
        """Draw the share of settled backups that completed, where there are any."""
        self._shade(table, x, number)
        is_many = table["settled"] >= _ENOUGH
        for name, part, colour, symbol in (
            ("settled share", table[is_many], theme.INK, "circle"),
            (
                f"settled share of fewer than {_ENOUGH}",
                table[~is_many & (table["settled"] > 0)],
                theme.QUIET,
                "circle-open",
            ),
        ):
            if part.empty:
                continue
            start, end = (self._axis.local(part[name]) for name in ("bin_start", "bin_end"))
            share, low, high = (
                (100 * part[f"settled_share{which}"]).round(2) for which in ("", "_lo", "_hi")
            )
            self._figure.add_scatter(
                mode="markers",
                x=self._axis.text(start + (end - start) / 2),
                y=list(share),
                error_y={
                    "type": "data",
                    "array": list((high - share).round(2)),
                    "arrayminus": list((share - low).round(2)),
                    "width": 0,
                    "thickness": 1,
                    "color": colour if colour == theme.INK else theme.FAINT,
                },
                marker={"color": colour, "symbol": symbol, "size": 6 if x == "x" else 4},
                cliponaxis=False,
                customdata=self._share_words(part, start),
                hovertemplate="%{customdata}<extra></extra>",
                **self._in_legend(name),
                **_axes(x, number),
            )

    def _begin(self) -> str:
        return f"{self._unit} from %{{x|%a %d %b %Y %H:%M}}"

    def _share_words(self, part: pd.DataFrame, start: pd.Series[Any]) -> list[str]:
        return [
            f"{self._unit} from {stamp:%a %d %b %Y %H:%M}<br>{100 * share:.1f} % of {settled:,} "
            f"settled completed ({100 * low:.1f} to {100 * high:.1f} %)"
            for stamp, share, settled, low, high in zip(
                start,
                part["settled_share"],
                part["settled"],
                part["settled_share_lo"],
                part["settled_share_hi"],
                strict=True,
            )
        ]

    def _steps(
        self, table: pd.DataFrame, column: str, hover: str, line: dict[str, Any], **more: Any
    ) -> None:
        """Draw counts as a line that is level over each bin."""
        edges = pd.concat([table["bin_start"], table["bin_end"].tail(1)])
        counts = [int(count) for count in table[column]]
        self._figure.add_scatter(
            mode="lines",
            x=self._axis.text(self._axis.local(edges)),
            y=counts + counts[-1:],
            line=line | {"shape": "hv"},
            hovertemplate=hover,
            **more,
        )

    def _shade(self, table: pd.DataFrame, x: str, number: int) -> None:
        """Shade the bins whose share may still change."""
        young = table[~table["is_settled"]]
        if young.empty:
            return
        begin, end = self._axis.ends(young)
        place = {"xref": x, "x0": begin, "x1": end, "y0": 0, "y1": 1}
        paint = {"fillcolor": _SHADE, "line": {"width": 0}, "layer": "below"}
        self.shapes.append(
            {"type": "rect", "yref": f"{axis_name('y', number)} domain"} | place | paint
        )

    def _in_legend(self, name: str) -> dict[str, Any]:
        is_new = name not in self._named
        self._named.add(name)
        known = [word(state) for state in STATES]
        # In the order of the states, whichever the first group lacks.
        rank = known.index(name) if name in known else len(known)
        return {"name": name, "legendgroup": name, "showlegend": is_new, "legendrank": 1 + rank}


def heading(words: str, x: float, y: float) -> dict[str, Any]:
    """Write words above a panel, from where it begins."""
    where = {"x": x, "xref": "paper", "xanchor": "left", "y": y, "yref": "paper"}
    return {"text": words, "showarrow": False, "yanchor": "bottom", "font": {"size": 12}} | where


def axis_name(kind: str, number: int) -> str:
    """Name an axis as plotly does: the first one has no number."""
    return kind if number == 1 else f"{kind}{number}"


def _axes(x: str, number: int) -> dict[str, str]:
    return {"xaxis": x, "yaxis": axis_name("y", number)}
