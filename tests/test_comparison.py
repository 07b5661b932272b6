import base64

import nbformat
import numpy as np
import plotly.graph_objects as go
import plotly.io
import pytest

from koodrive_nb.notebook_checks import differences
from koodrive_nb.notebook_checks.comparison import comparable

V4 = nbformat.v4
FIGURE = "application/vnd.plotly.v1+json"


def shown(data):
    return [V4.new_output("display_data", data)]


def figure(**layout):
    return {"data": [{"type": "bar", "x": [1, 2], "uid": "random"}], "layout": layout}


def packed(*values, dtype="f8"):
    data = base64.b64encode(np.array(values, dtype).tobytes()).decode()
    return {"dtype": dtype, "bdata": data}


@pytest.mark.parametrize(
    ("stored", "new", "says"),
    [
        ({"a": 1}, {"a": 2}, "figure.a: stored 1, now 2"),
        ({"a": 1}, {}, "figure.a: stored 1, now missing"),
        ({}, {"a": 1}, "figure.a: not stored, now 1"),
        ({"a": True}, {"a": 1}, "figure.a: stored True, now 1"),
        ({"a": [1]}, {"a": [1, 2]}, "figure.a: stored 1 items, now 2"),
        ({"a": packed(1.5)}, {"a": packed(2.5)}, "figure.a[0]: stored 1.5, now 2.5"),
        ({"a": {"b": [{"c": "x"}]}}, {"a": {"b": [{"c": "y"}]}}, "figure.a.b[0].c: stored 'x'"),
    ],
)
def test_a_difference_between_figures_is_a_path_and_two_values(stored, new, says):
    found = differences(shown({FIGURE: stored}), shown({FIGURE: new}))
    assert any(says in line for line in found), found


@pytest.mark.parametrize(
    ("stored", "new"),
    [
        ({"a": [1.5, 2.5]}, {"a": packed(1.5, 2.5)}),
        ({"a": float("nan")}, {"a": float("nan")}),
        ({"data": [{"uid": "1"}]}, {"data": [{"uid": "2"}]}),
        ({"a": [[1, 2], [3, 4]]}, {"a": packed(1, 2, 3, 4, dtype="i4") | {"shape": "2, 2"}}),
    ],
)
def test_what_means_the_same_is_the_same(stored, new):
    assert differences(shown({FIGURE: stored}), shown({FIGURE: new})) == []


def test_plotlys_own_template_is_left_out_and_any_other_compared():
    plotlys = plotly.io.templates["plotly"].to_plotly_json()
    assert comparable(figure(template=plotlys)) == comparable(figure())
    for name in ("plotly_dark", "plotly_white", "seaborn"):
        other = plotly.io.templates[name].to_plotly_json()
        assert comparable(figure(template=other)) != comparable(figure())


@pytest.mark.parametrize(
    "said",
    [
        {"layout": {"annotations": [{"name": "a", "text": "all are protected"}]}},
        {"layout": {"title": {"text": "all are protected"}}},
        {"layout": {"yaxis": {"range": [0, 1]}}},
        {"data": {"bar": [{"visible": False, "texttemplate": "100 %"}]}},
    ],
    ids=["annotation", "title", "range", "bars"],
)
def test_a_template_that_says_more_than_plotlys_own_is_compared(said):
    plotlys = plotly.io.templates["plotly"].to_plotly_json()
    changed = {part: plotlys[part] | said.get(part, {}) for part in ("data", "layout")}
    assert comparable(figure(template=changed)) != comparable(figure(template=plotlys))


def test_plotlys_own_template_of_an_older_version_is_left_out():
    older = plotly.io.templates["plotly"].to_plotly_json()
    older["layout"] |= {"mapbox": {"style": "light"}}
    older["data"] |= {"scattermapbox": [{"type": "scattermapbox"}]}
    assert comparable(figure(template=older)) == comparable(figure())


def test_a_figure_that_plotly_packed_reads_like_one_that_it_did_not():
    plain = {"data": [{"type": "scatter", "y": [3.5, 1.5]}], "layout": {}}
    made = go.Figure(go.Scatter(y=np.array([3.5, 1.5])))
    assert comparable(made.to_plotly_json()) == plain


def test_hostile_text_is_shown_escaped():
    stored = [V4.new_output("stream", text="phone\n")]
    new = [V4.new_output("stream", text="\x1b[2Jphone\n")]
    assert differences(stored, new)[1:] == [r"  - 'phone\n'", r"  + '\x1b[2Jphone\n'"]
    hostile = (
        shown({"application/\x1b[2J+json": {"\x1b[2J": 1}}),
        shown({"application/\x1b[2J+json": {"\x1b[2J": 2}}),
    )
    said = [*differences(*hostile), *differences(hostile[0], [])]
    assert said
    assert "\x1b" not in "".join(said)


def test_what_is_printed_in_pieces_is_one_text():
    pieces = [V4.new_output("stream", text=text) for text in ("a", "b\n")]
    assert differences([V4.new_output("stream", text="ab\n")], pieces) == []


def test_an_output_too_many_and_one_too_few_are_told_with_what_they_say():
    stored, new = shown({"text/plain": "a"}), [V4.new_output("stream", name="stderr", text="b")]
    assert differences(stored, new) == [
        *("text/plain: 1 stored, 0 now", "  stored: 'a'"),
        *("stderr: 0 stored, 1 now", "  now: 'b'"),
    ]


def test_pixels_must_be_there_and_widgets_random_ids_do_not_count():
    picture = shown({"image/png": "aaaa"})
    assert differences(picture, shown({"image/png": "bbbb"})) == []
    assert differences(picture, []) != []
    uids = [f"'uid': '{n}2345678-1234-1234-1234-123456789012'" for n in (1, 2)]
    one, other = (shown({"text/plain": f"FigureWidget({{{uid}}})"}) for uid in uids)
    assert differences(one, other) == []


def test_a_long_list_of_differences_is_cut_and_says_so():
    stored, new = (shown({FIGURE: {"a": [value] * 1_000}}) for value in (1, 2))
    found = differences(stored, new)
    assert len(found) == 42
    assert found[-1] == "  and 960 more"


def test_text_is_sanitized_before_it_is_compared():
    stored, new = shown({"text/plain": "at 1"}), shown({"text/plain": "at 2"})
    assert differences(stored, new, lambda text: text.translate({49: 48, 50: 48})) == []
