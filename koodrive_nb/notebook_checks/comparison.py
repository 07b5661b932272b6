"""What differs between the outputs that a cell stores and those that it makes now."""

from __future__ import annotations

import base64
import difflib
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.io as pio

from koodrive_nb.notebook_checks.reading import WIDGET_VIEW
from koodrive_nb.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nbformat import NotebookNode

FIGURE = "application/vnd.plotly.v1+json"

_PIXELS = {"image/png", "image/jpeg"}
_UID = re.compile(r"'uid': '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'")
_OF_OLDER_TEMPLATES = {("type", "scattermapbox"), ("style", "light")}
_MOST_LINES = 40
_VALUE_CHARACTERS = 100


def differences(
    stored: Sequence[NotebookNode],
    new: Sequence[NotebookNode],
    sanitize: Callable[[str], str] = str,
) -> list[str]:
    """List how new outputs of a cell differ from the stored ones; empty when they are the same.

    Outputs of one kind are compared in their order, with what was printed taken together. Figures
    are compared as decoded JSON, path by path, without the random ids of their traces and plotly's
    own template, which is another one in each of its versions. Of pixels only the presence counts.
    `sanitize` is applied to all text.
    """
    before, after = _by_kind(stored), _by_kind(new)
    found = []
    for kind in dict.fromkeys((*before, *after)):
        was, now = before.get(kind, []), after.get(kind, [])
        if len(was) != len(now):
            found.append(f"{one_line(kind, _VALUE_CHARACTERS)}: {len(was)} stored, {len(now)} now")
            found += [f"  now: {_shown(value)}" for value in now[len(was) :]]
            found += [f"  stored: {_shown(value)}" for value in was[len(now) :]]
        for one, other in zip(was, now, strict=False):
            found += _of_values(kind, one, other, sanitize)
    return found


def comparable(figure: Any) -> Any:
    """Give a figure's JSON with arrays decoded, without random ids and plotly's own template."""
    decoded = _decoded(figure)
    if not isinstance(decoded, dict):
        return decoded
    for trace in decoded.get("data") or ():
        if isinstance(trace, dict):
            trace.pop("uid", None)
    layout = decoded.get("layout")
    if isinstance(layout, dict) and _is_plotlys(layout.get("template")):
        del layout["template"]
    return decoded


def settled(text: str) -> str:
    """Give a text without the random ids that the text of a `FigureWidget` holds."""
    return _UID.sub("'uid': 'UID'", text)


def _by_kind(outputs: Sequence[NotebookNode]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for output in outputs:
        if output.output_type == "stream":
            printed = found.setdefault(output.name, [""])
            printed[0] += output.text
        elif output.output_type == "error":
            found.setdefault("error", []).append(f"{output.ename}: {output.get('evalue', '')}")
        else:
            for mime, value in output.data.items():
                if mime != WIDGET_VIEW:
                    found.setdefault(mime, []).append("pixels" if mime in _PIXELS else value)
    return found


def _of_values(kind: str, was: Any, now: Any, sanitize: Callable[[str], str]) -> list[str]:
    if isinstance(was, str) and isinstance(now, str):
        lines = list(_lines(sanitize(settled(was)), sanitize(settled(now))))
    else:
        if kind == FIGURE:
            was, now = comparable(was), comparable(now)
        lines = [f"  {line}" for line in _paths("figure" if kind == FIGURE else "", was, now)]
    if not lines:
        return []
    more = len(lines) - _MOST_LINES
    rest = [f"  and {more:,} more"] if more > 0 else []
    return [f"{one_line(kind, _VALUE_CHARACTERS)} (stored -, now +):", *lines[:_MOST_LINES], *rest]


def _lines(was: str, now: str) -> Iterator[str]:
    if was == now:
        return
    before, after = was.splitlines(keepends=True), now.splitlines(keepends=True)
    for line in list(difflib.unified_diff(before, after, lineterm="", n=0))[2:]:
        # The position of a change is of no use to a reader of such short texts.
        if not line.startswith("@@"):
            yield f"  {line[0]} {_shown(line[1:])}"


def _paths(path: str, was: Any, now: Any) -> Iterator[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*was, *now)):
            name = one_line(key, _VALUE_CHARACTERS)
            inner = f"{path}.{name}" if path else name
            if key not in now:
                yield f"{inner}: stored {_shown(was[key])}, now missing"
            elif key not in was:
                yield f"{inner}: not stored, now {_shown(now[key])}"
            else:
                yield from _paths(inner, was[key], now[key])
    elif isinstance(was, list) and isinstance(now, list):
        if len(was) != len(now):
            yield f"{path}: stored {len(was):,} items, now {len(now):,}"
        for position, (one, other) in enumerate(zip(was, now, strict=False)):
            yield from _paths(f"{path}[{position}]", one, other)
    elif not _is_same(was, now):
        yield f"{path}: stored {_shown(was)}, now {_shown(now)}"


def _is_same(was: Any, now: Any) -> bool:
    if isinstance(was, bool) is not isinstance(now, bool):
        return False
    is_nan = was != was and now != now  # noqa: PLR0124 -- NaN
    return bool(was == now) or is_nan


def _shown(value: Any) -> str:
    return one_line(repr(value), _VALUE_CHARACTERS)


def _decoded(node: Any) -> Any:
    if isinstance(node, dict):
        if {"bdata", "dtype"} <= set(node):
            values = np.frombuffer(base64.b64decode(node["bdata"]), np.dtype(node["dtype"]))
            shape = [int(size) for size in str(node.get("shape", len(values))).split(",")]
            return values.reshape(shape).tolist()
        return {key: _decoded(value) for key, value in node.items()}
    return [_decoded(value) for value in node] if isinstance(node, list) else node


def _is_plotlys(template: Any) -> bool:
    """Tell plotly's default template, of any version, by the colours that it is known by.

    A text, a range or anything else that no version has would show in each figure.
    """
    layout = template.get("layout") if isinstance(template, dict) else None
    if not isinstance(layout, dict):
        return False
    first = (layout.get("colorway") or [None])[0]
    if (first, layout.get("plot_bgcolor")) != ("#636efa", "#E5ECF6"):
        return False
    own = pio.templates["plotly"].to_plotly_json()
    return {*_leaves(template)} <= {*_leaves(own), *_OF_OLDER_TEMPLATES}


def _leaves(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, key)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _leaves(value, name)
    else:
        yield name, node
