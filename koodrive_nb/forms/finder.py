"""Choosing among thousands: type a part of a name, then choose from the few that hold it."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import ipywidgets as widgets

from koodrive_nb.forms.form import described
from koodrive_nb.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_MOST_LISTED = 50
_LABEL_CHARACTERS = 60


class Finder(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A search field above the list of what it finds; what is chosen stays in the list.

    `known` gives the label of each id; an id is found by its label and by itself. `on_choice` is
    told the chosen ids whenever a hand changes them.
    """

    def __init__(
        self, what: str, known: Mapping[str, str], on_choice: Callable[[tuple[str, ...]], None]
    ) -> None:
        self._what, self._on_choice = what, on_choice
        self._listing = False
        self.search = described(
            widgets.Text(placeholder=f"part of a name or id of a {what}", description=what),
            f"Search as you type among the {what}s",
        )
        self.found = described(
            widgets.SelectMultiple(rows=4), f"Choose one or several {what}s of those found"
        )
        self._count = widgets.HTML()
        self.search.observe(lambda _: self._list(), "value")
        self.found.observe(self._choose, "value")
        super().__init__([self.search, self.found, self._count])
        self.offer(known)

    def offer(self, known: Mapping[str, str]) -> None:
        """Offer other things to choose from; none of them is chosen."""
        self._labels = {
            identity: one_line(label, _LABEL_CHARACTERS) for identity, label in known.items()
        }
        self._searched = {
            identity: f"{known[identity]} {identity}".casefold() for identity in self._labels
        }
        self._chosen: tuple[str, ...] = ()
        self._list()

    @property
    def value(self) -> tuple[str, ...]:
        """The ids that are chosen; setting them does not call `on_choice`."""
        return self._chosen

    @value.setter
    def value(self, ids: Sequence[str]) -> None:
        """Choose these; one that is not known is listed by its id."""
        for identity in ids:
            self._labels.setdefault(identity, one_line(identity, _LABEL_CHARACTERS))
            self._searched.setdefault(identity, identity.casefold())
        self._chosen = tuple(ids)
        self._list()

    def _list(self) -> None:
        part = self.search.value.strip().casefold()
        found = [identity for identity, text in self._searched.items() if part in text]
        chosen = set(self._chosen)
        rest = (identity for identity in found if identity not in chosen)
        listed = [*self._chosen[:_MOST_LISTED], *islice(rest, max(0, _MOST_LISTED - len(chosen)))]
        self._listing = True
        try:
            self.found.options = [(self._labels[identity], identity) for identity in listed]
            self.found.value = self._chosen[:_MOST_LISTED]
        finally:
            self._listing = False
        more = f", the first {_MOST_LISTED} are listed" if len(found) > _MOST_LISTED else ""
        self._count.value = (
            f'<span class="koodrive-quiet">{len(found):,} of {len(self._labels):,} '
            f"{self._what}s fit{more}</span>"
        )

    def _choose(self, change: Mapping[str, Sequence[str]]) -> None:
        if not self._listing:
            self._chosen = tuple(change["new"])
            self._on_choice(self._chosen)
