"""What a figure draws, as the rows of a table that can be read without it."""

from __future__ import annotations

import base64
import html
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from koodrive_nb.privacy import is_few
from koodrive_nb.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MOST_ROWS = 500
_TAG = re.compile(r"<[^>]*>")
_CELL_CHARACTERS = 120
_AXES = {"x": "x", "y": "y"}


def table(figure: Mapping[str, Any]) -> tuple[list[str], list[list[str]], int]:
    """Give headings, at most 500 rows, and how many rows there are.

    The headings are the titles of the axes; places on an axis are written as their labels.
    """
    layout = figure.get("layout", {})
    traces = [trace for trace in figure.get("data", ()) if isinstance(trace, dict)]
    first = traces[0] if traces else {}
    has_z = any("z" in trace for trace in traces)
    heads = ["series", *(_heading(first, layout, name) for name in _AXES)]
    rows: list[list[str]] = []
    count = 0
    for trace in traces:
        for row in _rows(trace, layout):
            count += 1
            if count <= MOST_ROWS:
                rows.append(row if has_z else row[:3])
    return [*heads, "value"] if has_z else heads, rows, count


def alt(figure: Mapping[str, Any]) -> str:
    """Give the alternative text of a figure, else its title."""
    layout = figure.get("layout", {})
    meta = layout.get("meta")
    told = meta.get("alt") if isinstance(meta, dict) else None
    return _text(told or _title(layout) or "A figure without a title")


def says_incomplete(figure: Mapping[str, Any]) -> bool:
    """Tell whether the subtitle of a figure says that its data are incomplete."""
    title = figure.get("layout", {}).get("title")
    subtitle = title.get("subtitle") if isinstance(title, dict) else None
    return isinstance(subtitle, dict) and "INCOMPLETE" in str(subtitle.get("text"))


def has_few(figure: Mapping[str, Any]) -> bool:
    """Tell whether a figure draws, writes or shows on hover a count from 1 to 4.

    Shares, and places on an axis that has words for them, are no counts.
    """
    layout = figure.get("layout", {})
    return any(
        _is_few(value)
        for trace in figure.get("data", ())
        for name in _counting(trace, layout)
        for value in _flat(trace.get(name))
    )


def _counting(trace: Mapping[str, Any], layout: Mapping[str, Any]) -> list[str]:
    written = ["text", "customdata", "values"]
    if "z" in trace:
        return written if "text" in trace else ["z", *written]
    name = "x" if trace.get("orientation") == "h" else "y"
    axis = _axis(trace, layout, name)
    is_share = "%" in str(axis.get("ticksuffix")) or "share" in _heading(trace, layout, name)
    return written if is_share or "tickvals" in axis else [name, *written]


def _is_few(value: Any) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"[1-4](?: of .*)?", value) is not None
    return isinstance(value, int | float) and float(value).is_integer() and is_few(value)


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for each in _listed(value):
            yield from _flat(each)
    elif value is not None and not isinstance(value, bool):
        yield value


def _title(layout: Mapping[str, Any]) -> str:
    title = layout.get("title")
    return str(title.get("text") or "") if isinstance(title, dict) else str(title or "")


def _rows(trace: Mapping[str, Any], layout: Mapping[str, Any]) -> Iterator[list[str]]:
    name = _text(trace.get("name") or "")
    x, y = (_listed(trace.get(axis)) for axis in _AXES)
    labels = [_labels(trace, layout, axis) for axis in _AXES]
    if "z" in trace:
        words = _listed(trace.get("text"))
        for at, line in enumerate(_listed(trace["z"])):
            for place, value in enumerate(_listed(line)):
                if value is None:
                    continue
                said = _at(_listed(_at(words, at)), place) or value
                cells = (labels[0](_at(x, place)), labels[1](_at(y, at)), _text(said))
                yield [name, *cells]
        return
    if "labels" in trace:
        x, y = _listed(trace["labels"]), _listed(trace.get("values"))
    base = _listed(trace.get("base"))
    for at in range(max(len(x), len(y))):
        if _at(x, at) is None or _at(y, at) is None:
            continue
        start = _at(base, at)
        began = "" if start is None else f"from {_text(start)}, "
        yield [name, f"{began}{labels[0](_at(x, at))}", labels[1](_at(y, at)), ""]


def _labels(trace: Mapping[str, Any], layout: Mapping[str, Any], name: str) -> Any:
    axis = _axis(trace, layout, name)
    places, words = _listed(axis.get("tickvals")), _listed(axis.get("ticktext"))
    known = dict(zip(map(str, places), words, strict=False))
    return lambda value: _text(known.get(str(value), "" if value is None else value))


def _heading(trace: Mapping[str, Any], layout: Mapping[str, Any], name: str) -> str:
    title = _axis(trace, layout, name).get("title")
    said = title.get("text") if isinstance(title, dict) else title
    return _text(said) if said else {"x": "across", "y": "up"}[name]


def _axis(trace: Mapping[str, Any], layout: Mapping[str, Any], name: str) -> dict[str, Any]:
    number = str(trace.get(f"{name}axis", name))[1:]
    axis = layout.get(f"{name}axis{number}")
    return axis if isinstance(axis, dict) else {}


def _at(values: list[Any], place: int) -> Any:
    return values[place] if place < len(values) else None


def _listed(value: Any) -> list[Any]:
    if isinstance(value, dict) and "bdata" in value:
        # plotly packs arrays of numbers this way.
        packed = np.frombuffer(base64.b64decode(value["bdata"]), dtype=np.dtype(value["dtype"]))
        shape = [int(size) for size in str(value.get("shape", len(packed))).split(",")]
        unpacked: list[Any] = packed.reshape(shape).tolist()
        return unpacked
    return list(value) if isinstance(value, list | tuple) else []


def _text(value: Any) -> str:
    # plotly reads HTML: what it would draw is written, and escaped by whoever shows it.
    said = f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else value
    return one_line(html.unescape(_TAG.sub(" ", str(said))), _CELL_CHARACTERS)
