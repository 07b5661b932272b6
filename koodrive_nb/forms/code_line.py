"""The line of code that gives what a form shows."""

from __future__ import annotations

import html

import ipywidgets as widgets


class CodeLine(widgets.HTML):  # type: ignore[misc]  # ipywidgets has no types
    """Shows a line of code with a button that copies it; a click selects the whole line."""

    code = ""
    """The line that is shown; empty: nothing is."""

    def __init__(self) -> None:
        super().__init__()
        self.add_class("koodrive-code")

    def show(self, code: str) -> None:
        """Show another line."""
        self.code = code
        self.layout.display = None if code else "none"
        # The button copies what is written before it.
        self.value = (
            f'<div><code>{html.escape(code)}</code><button class="jupyter-button" '
            'title="Copy this line" onclick="navigator.clipboard.writeText('
            'this.previousElementSibling.textContent)">Copy</button></div>'
        )
