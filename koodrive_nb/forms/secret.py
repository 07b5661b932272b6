"""A field for a secret, which never keeps in its state what was typed."""

from __future__ import annotations

from threading import RLock
from typing import Any, NoReturn

import ipywidgets as widgets
import traitlets

ONE_HAND = RLock()
"""Held while a click is handled, or a secret received: kernels may do either in its own thread."""


class _Typed:
    """What was typed, behind a name that no listing of attributes opens."""

    __slots__ = ("text",)

    def __init__(self) -> None:
        self.text = ""

    def __reduce__(self) -> NoReturn:
        raise TypeError("What was typed is not pickled.")


class _Emptied(traitlets.Unicode):  # type: ignore[type-arg]  # of old ones there are no kinds
    """A text that is handed over when it is set, and stays empty."""

    def validate(self, obj: Any, value: object) -> str:
        # traitlets calls this before it keeps or tells anything.
        obj._receive(value)  # noqa: SLF001 -- only Secret has this trait
        return ""


class Secret(widgets.Password):  # type: ignore[misc]  # ipywidgets has no types
    """A masked field whose `value` is always empty: `take` gives what was typed, once.

    The moment the kernel receives a text, the field in the front end is emptied and says so. No
    state of the widget, repr, error or saved notebook has it.
    """

    value = _Emptied().tag(sync=True, echo_update=False)

    def __init__(self, description: str, hint: str) -> None:
        self._typed = _Typed()
        self._hint = hint
        super().__init__(description=description, placeholder=hint, continuous_update=False)

    @property
    def is_filled(self) -> bool:
        """Whether there is something to take."""
        return bool(self._typed.text)

    def take(self) -> str:
        """Give what was typed and forget it; empty if nothing was."""
        text = self._typed.text
        self._receive("")
        return text

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take what the front end sends, and have it forget the secret too."""
        if "value" not in sync_data:
            super().set_state(sync_data)
            return
        with ONE_HAND:
            # Popped, since the kernel keeps the message that it handled last.
            self.value = sync_data.pop("value")
            super().set_state(sync_data)
            self.send_state("value")

    def _receive(self, text: object) -> None:
        # Anything else would be shown by the error that refuses it.
        self._typed.text = text if isinstance(text, str) else ""
        self.placeholder = "received, hidden" if self._typed.text else self._hint

    def __reduce__(self) -> NoReturn:
        raise TypeError("A field for a secret is not pickled.")
