"""A figure inside a form, whose marks can be clicked and whose time can be selected."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import plotly.graph_objects as go
from plotly.basedatatypes import BaseFigure

from koodrive_nb.forms.form import Notice

if TYPE_CHECKING:
    from collections.abc import Callable


# By itself plotly keeps the width that a figure had when it was first drawn, and offers a button
# that uploads the figure, with the names in it, to a service of its maker.
_CONFIG = {"responsive": True, "showSendToCloud": False}
# What theme.finish leaves for the title, but for the room of buttons, and for each line below it.
_TITLE_PX, _LINE_PX = 22, 16


class Plot(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Shows one figure of `kd.charts` after the other in the same place.

    `on_click` is told the number of the trace, that of the point, and the point's x and y;
    `on_span` the first and the last x of what was selected by dragging. Where FigureWidget is not
    available, the figure is a plain one, and a line says so.
    """

    def __init__(
        self,
        on_click: Callable[[int, int, Any, Any], None] | None = None,
        on_span: Callable[[str, str], None] | None = None,
    ) -> None:
        self._on_click, self._on_span = on_click, on_span
        self.figure = go.Figure()
        """The figure that is shown."""
        self._heading = widgets.HTML()
        self._shown: Any = None
        super().__init__([self._heading])
        self.add_class("koodrive-plot")

    @property
    def is_linked(self) -> bool:
        """Whether clicks in the figure arrive."""
        return isinstance(self._shown, BaseFigure)

    def show(self, figure: go.Figure) -> None:
        """Draw another figure in place of the one before."""
        self.figure = figure
        layout = figure.layout.to_plotly_json()
        self._heading.value = _take_heading(layout)
        if self._on_span is not None:
            layout |= {"dragmode": "select", "selectdirection": "h"}
        if self._shown is None:
            self._open(figure, layout)
        elif self.is_linked:
            self._change(figure, layout)
        if self.is_linked:
            for number, trace in enumerate(self._shown.data):
                self._listen(number, trace)
        else:
            data = {
                "application/vnd.plotly.v1+json": figure.to_plotly_json(),
                "text/plain": str(figure.layout.title.text),
            }
            output = {"output_type": "display_data", "data": data, "metadata": {}}
            self._shown.outputs = (output,)

    def _open(self, figure: go.Figure, layout: dict[str, Any]) -> None:
        """Begin with this figure: filled later, it stays empty where a front end is slow."""
        try:
            self._shown = go.FigureWidget(figure.data, layout)
        except ImportError as error:
            self._shown = widgets.Output()
            notice = Notice()
            notice.say(
                f"This figure is plain: clicks in it select nothing, since FigureWidget needs "
                f"{error.name or 'anywidget'} (pip install anywidget).",
                "warning",
            )
            self._heading.layout.display = "none"
            self.children = [notice, self._heading, self._shown]
            return
        self._shown._config = {**self._shown._config, **_CONFIG}  # noqa: SLF001 -- there is no other way
        self._shown.layout.on_change(self._selected, "selections")
        self.children = [self._heading, self._shown]

    def _change(self, figure: go.Figure, layout: dict[str, Any]) -> None:
        shown = self._shown
        # A box that a hand has drawn stays through updates, and plotly cannot send it.
        shown.plotly_relayout({"selections": None})
        # plotly.js keeps what is not mentioned.
        gone = dict.fromkeys(set(shown.layout.to_plotly_json()) - set(layout))
        # A click is told to one trace after the other, those included that it has just removed.
        spare = [go.Scatter(visible=False)] * (len(shown.data) - len(figure.data))
        shown.data = ()
        with shown.batch_update():
            shown.layout.update(gone | layout, overwrite=True)
        shown.add_traces([*figure.data, *spare])
        # A front end that opens the figure only now draws it from these.
        shown._widget_layout = shown.layout.to_plotly_json()  # noqa: SLF001 -- as plotly itself does
        shown._widget_data = [trace.to_plotly_json() for trace in shown.data]  # noqa: SLF001 -- as above

    def _listen(self, number: int, trace: Any) -> None:
        def clicked(_: Any, points: Any, __: Any) -> None:
            if points.point_inds and self._on_click is not None:
                self._on_click(number, points.point_inds[0], points.xs[0], points.ys[0])

        trace.on_click(clicked)

    def _selected(self, layout: Any, _: Any) -> None:
        # What traces are told of a selection gets lost where the pointer leaves a mark thereafter.
        boxes = layout.to_plotly_json().get("selections")
        if boxes and self._on_span is not None:
            first, last = sorted(str(boxes[-1][edge]) for edge in ("x0", "x1"))
            self._on_span(first, last)


def _take_heading(layout: dict[str, Any]) -> str:
    """Take title and subtitle out of a layout, and give them as markup.

    plotly.js writes them over each other when it draws one figure in place of another, and in a
    form they are read out, wrap, and have the colours around them.
    """
    title = layout.pop("title")
    subtitle = title["subtitle"]["text"]
    freed = _TITLE_PX + _LINE_PX * (subtitle.count("<br>") + 1)
    layout["margin"] = layout["margin"] | {"t": layout["margin"]["t"] - freed}
    layout["height"] -= freed
    alt = html.escape(layout["meta"]["alt"])
    # Both are written for plotly.js, which reads markup too: what came from outside is escaped.
    return (
        f'<div class="koodrive-heading"><b>{title["text"]}</b><br>'
        f'<span class="koodrive-quiet">{subtitle}</span>'
        f'<span class="koodrive-unseen">{alt}</span></div>'
    )
