"""A figure in the making, in plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

if TYPE_CHECKING:
    from collections.abc import Mapping


class Sketch:
    """Traces and layout of a figure to be, which plotly checks once, when all of it is there.

    Built step by step, a plotly figure is checked anew with each, which takes most of the time.
    """

    def __init__(self) -> None:
        self.traces: list[dict[str, Any]] = []
        self.layout: dict[str, Any] = {}

    def add_bar(self, **trace: Any) -> None:
        """Add bars."""
        self.traces.append({"type": "bar"} | trace)

    def add_scatter(self, **trace: Any) -> None:
        """Add lines or markers."""
        self.traces.append({"type": "scatter"} | trace)

    def add_heatmap(self, **trace: Any) -> None:
        """Add a grid of cells."""
        self.traces.append({"type": "heatmap"} | trace)

    def lay_out(self, **more: Any) -> None:
        """Add to the layout; of what is there already, only what is named is changed."""
        self.layout = _merged(self.layout, more)

    def above(self) -> list[dict[str, Any]]:
        """Give what is written above the plot."""
        notes = self.layout.get("annotations", ())
        return [note for note in notes if (note.get("yref"), note.get("y")) == ("paper", 1)]

    def figure(self) -> go.Figure:
        """Make the figure."""
        return go.Figure(self.traces, self.layout)


def _merged(former: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        name: _merged(former[name], value)
        for name, value in more.items()
        if isinstance(value, dict) and isinstance(former.get(name), dict)
    }
    return {**former, **more, **both}
