"""JSON text as a tree to open and close; what is too deep, too much or too long is left out."""

from __future__ import annotations

import html
import json
from typing import Any

from koodrive_nb.forms.tables import text

_DEPTH = 8
_NODES = 300
_TEXT_CHARACTERS = 500
_NAME_CHARACTERS = 80
_PLAIN_CHARACTERS = 2_000
_MOST_READ = 5_000_000
_OPEN_NODES = 12


class _Pairs(list[tuple[str, Any]]):
    """The fields of an object in their order, those that are named twice too."""


class _Bare(str):
    """A number or constant as it was written, with all its digits."""

    __slots__ = ()


def read(source: str) -> Any:
    """Read JSON text so that nothing of it gets lost, as `tree` writes it.

    Raises:
        ValueError: It is no JSON, or it is nested more deeply than can be read.
    """
    if len(source) > _MOST_READ:
        raise ValueError("too long to be read here")
    try:
        return json.loads(
            source,
            object_pairs_hook=_Pairs,
            parse_int=_Bare,
            parse_float=_Bare,
            parse_constant=_Bare,
        )
    except RecursionError:
        raise ValueError("nested too deeply to be read here") from None
    except json.JSONDecodeError:
        raise ValueError("not JSON") from None


def tree(source: str) -> str:
    """Write JSON text as markup, at most some hundred nodes of it; other text as it stands."""
    try:
        value = read(source)
    except ValueError as error:
        return f"{_plain(source)} {_quiet(f'({error}, so shown as text)')}"
    writer = _Writer()
    body = writer.node(None, value, 0)
    notes = [f"{count:,} {what}" for what, count in writer.left_out.items() if count]
    more = _quiet(f"Left out here: {', '.join(notes)}.") if notes else ""
    return f'<div class="koodrive-tree">{body}{more}</div>'


class _Writer:
    def __init__(self) -> None:
        self._nodes = 0
        self.left_out = {
            "values beyond the first few hundred": 0,
            f"branches below level {_DEPTH}": 0,
            "ends of long texts": 0,
        }

    def node(self, name: str | None, value: Any, depth: int) -> str:
        self._nodes += 1
        is_object = isinstance(value, _Pairs)
        if not isinstance(value, list):
            return f'<div class="koodrive-leaf">{_named(name)}{self._scalar(value)}</div>'
        unit = "field" if is_object else "item"
        size = _quiet(f"{len(value):,} {unit}" + ("" if len(value) == 1 else "s"))
        if not value:
            return f'<div class="koodrive-leaf">{_named(name)}{size}</div>'
        if depth == _DEPTH:
            self._leave(f"branches below level {_DEPTH}", 1)
            return f'<div class="koodrive-leaf">{_named(name)}{size}</div>'
        inside = []
        pairs = value if is_object else [(str(place), each) for place, each in enumerate(value)]
        for place, (key, each) in enumerate(pairs):
            if self._nodes >= _NODES:
                self._leave("values beyond the first few hundred", len(pairs) - place)
                break
            inside.append(self.node(key, each, depth + 1))
        if name is None:
            return "".join(inside)
        opened = " open" if len(value) <= _OPEN_NODES and depth == 1 else ""
        return (
            f"<details{opened}><summary>{_named(name)}{size}</summary>{''.join(inside)}</details>"
        )

    def _scalar(self, value: Any) -> str:
        if isinstance(value, str) and not isinstance(value, _Bare):
            if len(value) > _TEXT_CHARACTERS:
                self._leave("ends of long texts", 1)
            return f'"{_cut(value, _TEXT_CHARACTERS)}"'
        words = {None: "null", True: "true", False: "false"}
        return _cut(value if isinstance(value, str) else words[value], _TEXT_CHARACTERS)

    def _leave(self, what: str, count: int) -> None:
        self.left_out[what] += count


def _named(name: str | None) -> str:
    return "" if name is None else f"<b>{_cut(name, _NAME_CHARACTERS)}</b>: "


def _plain(source: str) -> str:
    cut = f" … {len(source):,} characters in all" if len(source) > _PLAIN_CHARACTERS else ""
    return f"{_cut(source, _PLAIN_CHARACTERS)}{_quiet(cut)}"


def _cut(source: str, limit: int) -> str:
    # Letter by letter, a megabyte would take its time.
    return text(source[: 4 * limit], limit)


def _quiet(words: str) -> str:
    return f'<span class="koodrive-quiet">{html.escape(words)}</span>' if words else ""
