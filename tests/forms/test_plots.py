"""A figure in a form: clicked, selected in, drawn anew, and plain where it has to be."""

import plotly.graph_objects as go
import pytest
from ipywidgets.widgets.widget import _instances

from koodrive_nb.forms.form import close_tree
from koodrive_nb.forms.plots import Plot


def bars(*names, **layout):
    traces = [
        go.Bar(x=["2026-01-01", "2026-01-02"], y=[f"{name}1", 2], name=name) for name in names
    ]
    return go.Figure(traces, layout)


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


def test_a_click_tells_the_trace_the_point_and_its_y():
    told = []
    plot = Plot(on_click=lambda *what: told.append(what))
    plot.show(bars("a", "b"))
    happens(plot, "plotly_click", 1, [0])
    happens(plot, "plotly_click", 0, [1])
    assert told == [(1, 0, "b1"), (0, 1, 2)]


def test_a_selection_of_several_traces_is_told_once():
    told = []
    plot = Plot(on_span=lambda *span: told.append(span))
    plot.show(bars("a", "b"))
    span = ["2026-01-01 06:00", "2026-01-02 00:00"]
    selector = {"type": "box", "selector_state": {"xrange": span, "yrange": [0, 1]}}
    happens(plot, "plotly_selected", 0, [1], selector)
    assert told == [tuple(span)]
    assert (plot._shown.layout.dragmode, plot._shown.layout.selectdirection) == ("select", "h")


def test_a_figure_without_listeners_can_be_clicked():
    plot = Plot()
    plot.show(bars("a"))
    happens(plot, "plotly_click", 0, [0])
    assert plot._shown.layout.dragmode is None


def test_another_figure_leaves_nothing_of_the_former():
    plot = Plot(on_click=print)
    plot.show(bars("a", "b", title={"text": "one"}, shapes=[{"type": "line"}], bargap=0.5))
    second = bars("c", title={"text": "two"})
    plot.show(second)
    shown = plot._shown
    assert [trace.name for trace in shown.data] == ["c"]
    # plotly keeps an empty list where there was one.
    wanted = second.layout.to_plotly_json() | {"shapes": []}
    assert shown.layout.to_plotly_json() == wanted
    assert shown._widget_layout == wanted
    assert [trace["name"] for trace in shown._widget_data] == ["c"]
    assert plot.figure is second


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
    assert told == [(0, 0, "b1")]


@pytest.mark.parametrize("missing", ["anywidget", None])
def test_without_figure_widget_the_figure_is_plain_and_a_line_says_so(monkeypatch, missing):
    class Missing:
        def __init__(self):
            raise ImportError("no", name=missing)

    monkeypatch.setattr(go, "FigureWidget", Missing)
    plot = Plot(on_click=print)
    assert not plot.is_linked
    notice, output = plot.children
    assert "needs anywidget (pip install anywidget)" in notice.text
    for figure in (bars("a", title={"text": "one"}), bars("b", title={"text": "two"})):
        plot.show(figure)
        (shown,) = output.outputs
        assert shown["data"]["text/plain"] == figure.layout.title.text
        assert shown["data"]["application/vnd.plotly.v1+json"] == figure.to_plotly_json()


def test_closing_frees_the_figure_too():
    before = set(_instances)
    plot = Plot(on_click=print)
    plot.show(bars("a"))
    close_tree(plot)
    assert set(_instances) == before
