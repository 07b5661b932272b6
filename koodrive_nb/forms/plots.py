"""A figure inside a form, whose marks can be clicked and whose time can be selected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import plotly.graph_objects as go
from plotly.basedatatypes import BaseFigure

from koodrive_nb.forms.form import Notice

if TYPE_CHECKING:
    from collections.abc import Callable


class Plot(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Shows one figure after the other in the same place.

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
        try:
            self._shown: Any = go.FigureWidget()
            parts = [self._shown]
        except ImportError as error:
            self._shown = widgets.Output()
            notice = Notice()
            notice.say(
                f"This figure is plain: clicks in it select nothing, since FigureWidget needs "
                f"{error.name or 'anywidget'} (pip install anywidget).",
                "warning",
            )
            parts = [notice, self._shown]
        super().__init__(parts)
        self.add_class("koodrive-plot")

    @property
    def is_linked(self) -> bool:
        """Whether clicks in the figure arrive."""
        return isinstance(self._shown, BaseFigure)

    def show(self, figure: go.Figure) -> None:
        """Draw another figure in place of the one before."""
        self.figure = figure
        if not self.is_linked:
            data = {
                "application/vnd.plotly.v1+json": figure.to_plotly_json(),
                "text/plain": str(figure.layout.title.text),
            }
            output = {"output_type": "display_data", "data": data, "metadata": {}}
            self._shown.outputs = (output,)
            return
        shown = self._shown
        layout = figure.layout.to_plotly_json()
        if self._on_span is not None:
            layout |= {"dragmode": "select", "selectdirection": "h"}
        # plotly.js keeps what is not mentioned.
        gone = dict.fromkeys(set(shown.layout.to_plotly_json()) - set(layout))
        shown.data = ()
        with shown.batch_update():
            shown.layout.update(gone | layout, overwrite=True)
        shown.add_traces(figure.data)
        for number, trace in enumerate(shown.data):
            self._listen(number, trace)
        # A front end that opens the figure only now draws it from these.
        shown._widget_layout = shown.layout.to_plotly_json()  # noqa: SLF001 -- as plotly itself does
        shown._widget_data = [trace.to_plotly_json() for trace in shown.data]  # noqa: SLF001 -- as above

    def _listen(self, number: int, trace: Any) -> None:
        def clicked(_: Any, points: Any, __: Any) -> None:
            if points.point_inds and self._on_click is not None:
                self._on_click(number, points.point_inds[0], points.xs[0], points.ys[0])

        def selected(_: Any, __: Any, selector: Any) -> None:
            # plotly tells every trace of the same selection.
            if number == 0 and self._on_span is not None and getattr(selector, "xrange", None):
                first, last = selector.xrange
                self._on_span(str(first), str(last))

        trace.on_click(clicked)
        trace.on_selection(selected)
