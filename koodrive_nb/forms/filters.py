"""The fields of the explorer: what they ask for, and what is wrong with it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from koodrive_nb.analysis import rules
from koodrive_nb.forms.finder import Finder
from koodrive_nb.forms.form import Field, described, row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from koodrive_nb.analysis.selection import Question
    from koodrive_nb.forms.selector import Selector

_WORDS = {
    "module": rules.MODULE_LABELS,
    "state": rules.STATES,
    "os_family": rules.OS_FAMILIES,
    "protection": rules.PROTECTION,
    "cause": rules.CAUSES,
}
_TITLES = {"os_family": "system"}
_FOUND = {"device_id": "device", "user_id": "user"}
_TYPED = {
    "since": ("2025-12-01, or 14D", "Created since: a date, or a length of time such as 14D"),
    "until": ("2025-12-17", "Created until: a date"),
    "text": ("name, id, property", "Text to look for in names, ids and properties"),
}


class Filters(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """One field for each keyword of `kd.analysis.select`.

    `on_ask` is told the keyword and its value, None for nothing, whenever a hand or code changes a
    field; `show` does not call it.
    """

    def __init__(self, selector: Selector, on_ask: Callable[[str, Any], None]) -> None:
        self._on_ask = on_ask
        self._is_showing = False
        self._rooms: dict[str, Field] = {}
        lists = [self._list(name, words) for name, words in _WORDS.items()]
        known = _known(selector)
        found = [self._finder(name, known[name]) for name in _FOUND]
        if len(known["user_id"]) < 2:  # noqa: PLR2004 -- of one there is no choice
            found[-1].layout.display = "none"
        typed = [self._text(name, *words) for name, words in _TYPED.items()]
        choices, searches = row(*lists), row(*found, *typed)
        choices.add_class("koodrive-choices")
        searches.add_class("koodrive-searches")
        super().__init__([choices, searches])

    def __getitem__(self, name: str) -> widgets.Widget:
        """Give the field of a keyword, whose `value` can be set from code."""
        return self._rooms[name].field

    def show(self, question: Question, view: Mapping[str, Any]) -> None:
        """Show in all fields what is asked for, as text where it was typed, and no complaint."""
        self._is_showing = True
        try:
            for name in (*_WORDS, *_FOUND):
                self[name].value = tuple(question.chosen.get(name, ()))
            for name in _TYPED:
                self[name].value = str(view.get(name) or "")
        finally:
            self._is_showing = False
        for room in self._rooms.values():
            room.complain("")

    def clear_searches(self) -> None:
        """Forget what devices and users were searched for, not which are chosen."""
        for name in _FOUND:
            self[name].search.value = ""

    def complain(self, name: str, text: str) -> None:
        """Say what is wrong with a field, right below it."""
        self._rooms[name].complain(text)

    def complaint(self, name: str) -> str:
        """Give what is said to be wrong with a field."""
        return self._rooms[name].notice.text

    def _ask(self, name: str, value: Any) -> None:
        if self._is_showing:
            return
        asked = list(value) if isinstance(value, tuple) else value.strip()
        self._on_ask(name, asked or None)

    def _list(self, name: str, words: tuple[str, ...]) -> Field:
        title = _TITLES.get(name, name)
        chooser = widgets.SelectMultiple(
            options=[(rules.word(value), value) for value in words], rows=5, description=title
        )
        return self._room(name, chooser, f"Show only these: {title}. None chosen: all")

    def _text(self, name: str, hint: str, meaning: str) -> Field:
        typed = widgets.Text(placeholder=hint, description=name, continuous_update=False)
        return self._room(name, typed, meaning)

    def _room(self, name: str, widget: widgets.Widget, meaning: str) -> Field:
        described(widget, meaning)
        widget.observe(lambda change: self._ask(name, change["new"]), "value")
        self._rooms[name] = Field(widget)
        return self._rooms[name]

    def _finder(self, name: str, known: Mapping[str, str]) -> Field:
        self._rooms[name] = Field(Finder(_FOUND[name], known, partial(self._ask, name)))
        return self._rooms[name]


def _known(selector: Selector) -> dict[str, dict[str, str]]:
    users = [*selector.narrow["user_id"].cat.categories, *selector.devices["user_id"].dropna()]
    return {"device_id": selector.labels(), "user_id": {str(user): str(user) for user in users}}
