"""What every form is: closed by the next run of its cell, wide or narrow, light or dark."""

from __future__ import annotations

import html
import sys
from datetime import datetime
from typing import Any

import ipywidgets as widgets
from plotly.basedatatypes import BaseFigure

from koodrive_nb.forms.front import helpers
from koodrive_nb.forms.style import STYLE

_REPR_CHARACTERS = 110
"""As many as ipywidgets puts into a notebook."""

_open: dict[str, tuple[str, list[Form]]] = {}


class Form(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A box of fields. Subclasses say by `_facts` what their repr shows."""

    def __init__(self) -> None:
        super().__init__()
        self.add_class("koodrive-form")
        _close_former_runs(self)

    def _fill(self, *parts: widgets.Widget) -> None:
        """Show these parts, in the style that all forms have."""
        self.children = (widgets.HTML(STYLE), *helpers(), *parts)

    def _facts(self) -> str:
        """Say in a few words, without anything secret or random, what the form shows."""
        return ""

    def __repr__(self) -> str:
        text = f"{type(self).__name__}({self._facts()})"
        return text if len(text) <= _REPR_CHARACTERS else f"{text[: _REPR_CHARACTERS - 2]}…)"

    def close(self) -> None:
        """Close the form with all that is in it, and free what the front end keeps of it."""
        close_tree(self)
        for cell, (run, forms) in list(_open.items()):
            left = [form for form in forms if form is not self]
            if left:
                _open[cell] = run, left
            else:
                del _open[cell]

    def __del__(self) -> None:
        # ipywidgets closes what nobody holds any more; as Python ends, nobody is left to tell.
        if not sys.is_finalizing():
            self.close()


class Notice(widgets.HTML):  # type: ignore[misc]  # ipywidgets has no types
    """A line that tells how something went; screen readers read it out when it changes."""

    def say(self, text: str, kind: str = "info") -> None:
        """Show a text, which may hold anything; `kind` is info, done, warning or error."""
        role = "alert" if kind == "error" else "status"
        marks = {"done": "✓ ", "warning": "⚠ ", "error": "✗ "}
        self.value = (
            f'<div class="koodrive-notice koodrive-{kind}" role="{role}">'
            f"{marks.get(kind, '')}{html.escape(text)}</div>"
            if text
            else ""
        )
        self.text = text

    text = ""
    """What it says, without markup."""


class Field(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """An input with room for what is wrong with it, right below."""

    def __init__(self, field: widgets.Widget) -> None:
        self.field = field
        self.notice = Notice()
        super().__init__([field, self.notice])
        self.add_class("koodrive-field")

    def complain(self, text: str) -> None:
        """Say what is wrong with the input; an empty text takes it back."""
        self.notice.say(text, "error")


def described(widget: widgets.Widget, what: str) -> widgets.Widget:
    """Say what a widget is for, to those who hover over it and to screen readers."""
    widget.tooltip = what
    return widget


def _nothing(*_: object) -> None:
    """Stand where a callback was."""


def row(*parts: widgets.Widget) -> widgets.HBox:
    """Put widgets beside each other, and below where there is no room."""
    box = widgets.HBox(parts)
    box.add_class("koodrive-row")
    return box


def close_tree(widget: widgets.Widget) -> None:
    """Close a widget and every widget that it is made of.

    ipywidgets closes only the one: its children, layouts and styles would stay for ever.
    """
    parts: list[Any] = []
    if isinstance(widget, BaseFigure):
        # anywidget keeps every figure for ever: it must not keep the form, with its records, too.
        for trace in widget.data:
            trace.on_click(None)
        widget.layout.on_change(_nothing, "selections")
    else:
        for name in widget.keys:
            value = getattr(widget, name, None)
            parts += value if isinstance(value, list | tuple) else [value]
    widgets.Widget.close(widget)
    for part in parts:
        if isinstance(part, widgets.Widget) and part.comm is not None:
            close_tree(part)


def _close_former_runs(form: Form) -> None:
    cell, run = _cell_and_run()
    if cell is None:
        return
    former, forms = _open.get(cell, (run, []))
    if former != run:
        for each in forms:
            each.close()
        forms = []
    _open[cell] = (run, [*forms, form])


def sent_at() -> datetime | None:
    """Tell when a hand at the front end sent what is handled now, None for what a cell does."""
    asked = _asked()
    try:
        sent = asked["header"]["date"]
        is_by_hand = asked["header"]["msg_type"] == "comm_msg"
    except (KeyError, TypeError):
        return None
    return sent if is_by_hand and isinstance(sent, datetime) else None


def _cell_and_run() -> tuple[str | None, str]:
    """Tell which cell runs, and which of its runs this is."""
    asked = _asked()
    try:
        if asked["header"]["msg_type"] != "execute_request":
            return None, ""
        # Front ends name the cell; of one that does not, the same text is the same cell.
        cell = asked.get("metadata", {}).get("cellId") or asked["content"]["code"]
        return str(cell), str(asked["header"]["msg_id"])
    except (AttributeError, KeyError, TypeError):
        return None, ""


def _asked() -> Any:
    """Give the message that the kernel handles now, None without a kernel."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    ask = getattr(getattr(shell, "kernel", None), "get_parent", None)
    return None if ask is None else ask("shell")
