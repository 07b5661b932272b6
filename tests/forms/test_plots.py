"""A figure in a form: clicked, selected in, drawn anew, and plain where it has to be."""

import json

import plotly.graph_objects as go
import pytest
from ipywidgets.widgets.widget import _instances
from plotly.basedatatypes import Undefined

from koodrive_nb.charts import theme
from koodrive_nb.charts.sketch import Sketch
from koodrive_nb.forms.form import close_tree
from koodrive_nb.forms.plots import Plot


def bars(*names, title="one", subtitle=("first", "second"), **layout):
    traces = [
        {"x": ["2026-01-01", "2026-01-02"], "y": [f"{name}1", 2], "name": name} for name in names
    ]
    sketch = Sketch()
    for trace in traces:
        sketch.add_bar(**trace)
    sketch.lay_out(**layout)
    return theme.finish(sketch, title, subtitle, plot_px=100, alt=f"Bars of {', '.join(names)}.")


def happens(plot, event, trace, points=(), selector=None):
    """Let the front end tell of what a hand does in the figure."""
    points = {
        "trace_indexes": [trace for _ in points],
        "point_indexes": list(points),
        "xs": ["2026-01-01" for _ in points],
        "ys": [plot.figure.data[trace].y[point] for point in points],
    }
    plot._shown._js2py_pointsCallback = {
        "event_type": event,
        "points": points,
        "device_state": None,
        "selector": selector,
    }


def test_a_click_tells_the_trace_the_point_and_where_it_is():
    told = []
    plot = Plot(on_click=lambda *what: told.append(what))
    plot.show(bars("a", "b"))
    happens(plot, "plotly_click", 1, [0])
    happens(plot, "plotly_click", 0, [1])
    assert told == [(1, 0, "2026-01-01", "b1"), (0, 1, "2026-01-01", 2)]


def selects(plot, first, last):
    """Let the front end tell of a box, whose path it leaves undefined."""
    box = {"type": "rect", "xref": "x", "yref": "y", "y0": 0, "y1": 1, "path": Undefined}
    plot._shown._js2py_relayout = {
        "relayout_data": {"selections": [box | {"x0": first, "x1": last}]},
        "source_view_id": "",
    }


@pytest.mark.parametrize("edges", [(0, 1), (1, 0)])
def test_a_selection_is_told_once_from_its_earlier_edge_on(edges):
    told = []
    plot = Plot(on_span=lambda *span: told.append(span))
    plot.show(bars("a", "b"))
    span = ["2026-01-01 06:00", "2026-01-02 00:00"]
    selects(plot, *(span[edge] for edge in edges))
    assert told == [tuple(span)]
    assert (plot._shown.layout.dragmode, plot._shown.layout.selectdirection) == ("select", "h")


def test_a_selection_may_change_the_figure_and_is_gone_from_the_next():
    plot = Plot(on_span=lambda *span: plot.show(bars("b")))
    plot.show(bars("a"))
    selects(plot, "2026-01-01", "2026-01-02")
    assert [trace.name for trace in plot._shown.data] == ["b"]
    plot.show(bars("c"))
    assert "selections" not in json.loads(json.dumps(plot._shown._widget_layout))


def test_no_button_uploads_a_figure_to_somebody_else():
    plot = Plot()
    plot.show(bars("a"))
    assert plot._shown._config["showSendToCloud"] is False


def test_a_figure_without_listeners_can_be_clicked():
    plot = Plot()
    plot.show(bars("a"))
    happens(plot, "plotly_click", 0, [0])
    assert plot._shown.layout.dragmode is None


def test_another_figure_leaves_nothing_of_the_former():
    plot = Plot(on_click=print)
    plot.show(bars("a", "b", shapes=[{"type": "line"}], bargap=0.5))
    second = bars("c", title="two")
    plot.show(second)
    shown = plot._shown
    # Spare ones are not seen: a click is told to as many traces as there were.
    assert [(trace.name, trace.visible) for trace in shown.data] == [("c", None), (None, False)]
    # plotly keeps an empty list where there was one.
    wanted = second.layout.to_plotly_json() | {"shapes": []}
    del wanted["title"]
    # Without the room for a title and two lines below it.
    wanted["margin"] = wanted["margin"] | {"t": wanted["margin"]["t"] - 54}
    wanted["height"] -= 54
    assert shown.layout.to_plotly_json() == wanted
    assert shown._widget_layout == wanted
    assert [trace.get("name") for trace in shown._widget_data] == ["c", None]
    assert plot.figure is second


def test_title_and_subtitle_are_written_above_the_figure_and_read_out():
    plot = Plot()
    plot.show(bars("a", title="A title", subtitle=["1 &lt; 2"]))
    heading = plot.children[0].value
    assert "<b>A title</b>" in heading
    assert "1 &lt; 2" in heading
    assert "Bars of a." in heading
    assert plot.figure.layout.title.text == "A title"


def test_the_front_end_is_told_to_drop_what_the_former_figure_had():
    plot = Plot()
    plot.show(bars("a", bargap=0.5))
    sent = []
    for name in ("_py2js_relayout", "_py2js_update"):
        plot._shown.observe(lambda change: sent.append(str(change["new"])), name)
    plot.show(bars("b"))
    assert "'bargap': None" in "".join(sent)


def test_a_click_after_another_figure_is_told_of_that_one():
    told = []
    plot = Plot(on_click=lambda *what: told.append(what))
    plot.show(bars("a"))
    plot.show(bars("b"))
    happens(plot, "plotly_click", 0, [0])
    assert told == [(0, 0, "2026-01-01", "b1")]


@pytest.mark.parametrize("missing", ["anywidget", None])
def test_without_figure_widget_the_figure_is_plain_and_a_line_says_so(monkeypatch, missing):
    class Missing:
        def __init__(self, *_):
            raise ImportError("no", name=missing)

    monkeypatch.setattr(go, "FigureWidget", Missing)
    plot = Plot(on_click=print)
    for figure in (bars("a"), bars("b", title="two")):
        plot.show(figure)
        assert not plot.is_linked
        notice, _, output = plot.children
        assert "needs anywidget (pip install anywidget)" in notice.text
        (shown,) = output.outputs
        assert shown["data"]["text/plain"] == figure.layout.title.text
        assert shown["data"]["application/vnd.plotly.v1+json"] == figure.to_plotly_json()


def test_closing_frees_the_figure_too():
    before = set(_instances)
    plot = Plot(on_click=print)
    plot.show(bars("a"))
    close_tree(plot)
    assert set(_instances) == before
