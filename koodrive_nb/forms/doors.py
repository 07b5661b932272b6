"""The two ways to records: their ids, or a user and the devices of that user."""

from __future__ import annotations

import ipywidgets as widgets

from koodrive_nb.forms.finder import Finder
from koodrive_nb.forms.form import Field, described, row

_HINT = "Paste record ids: separated by commas, blanks or new lines, quoted or not"


class IdDoor(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Room for ids, and the button that looks them up."""

    def __init__(self) -> None:
        self.ids = Field(described(widgets.Textarea(placeholder=_HINT, rows=4), _HINT))
        self.ids.field.layout.width = "auto"
        self.button = button("Look up", "search", "Look up the records of these ids")
        super().__init__([self.ids, self.button])


class UserDoor(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A user, a search among the devices of that user, and the buttons that ask for either."""

    def __init__(self, user_id: str) -> None:
        what = "Id of the user whose devices and records are asked for"
        self.user = Field(described(widgets.Text(value=user_id, description="User id"), what))
        self.devices_button = button("Load devices", "list", "List the devices of this user")
        self.devices = Finder("device", {}, lambda _: None)
        for part in (self.devices.search, self.devices.found):
            part.layout.width = "min(480px, 100%)"
        self.records_button = button(
            "Load records", "search", "Load the records of the chosen devices, or of all"
        )
        asking = row(self.user, self.devices_button)
        asking.layout.align_items = "flex-start"
        super().__init__([asking, self.devices, self.records_button])


def button(label: str, icon: str, what: str) -> widgets.Button:
    """Make a button that says what it does."""
    return described(widgets.Button(description=label, icon=icon), what)
