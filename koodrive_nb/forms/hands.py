"""What a hand at the front end sets off: done once, and no error of it vanishes unseen."""

from __future__ import annotations

import traceback
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koodrive_nb.errors import KooDriveError
from koodrive_nb.forms.form import sent_at
from koodrive_nb.forms.secret import ONE_HAND, Secret

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import ipywidgets as widgets

    from koodrive_nb.forms.form import Notice

_DOUBLE_CLICK = timedelta(seconds=1)


def handled(act: Callable[..., None], notice: Notice, *busy: widgets.Button) -> Callable[..., None]:
    """Make a callback of an act; Jupyter would show an error of it nowhere.

    Errors are told by the notice, an interruption too, which only goes on where code clicked. The
    buttons are disabled meanwhile.
    """

    def call(*told: Any) -> None:
        for button in busy:
            button.disabled = True
        try:
            act(*told)
        except KooDriveError as error:
            notice.say(str(error), "error")
        except KeyboardInterrupt:
            # An act that keeps a part says so itself.
            if not notice.text.startswith("Interrupted"):
                notice.say("Interrupted; what was there before is kept.", "warning")
            if sent_at() is None:
                raise  # From a cell: what comes below it must not run.
        except Exception as error:  # noqa: BLE001 -- nobody sees the traceback of a callback
            notice.say(unforeseen(error), "error")
        finally:
            for button in busy:
                button.disabled = False

    return call


def once(act: Callable[..., None]) -> Callable[..., None]:
    """Let an act pass over the second half of a double click, which arrives when it is done."""
    last: datetime | None = None
    at: tuple[Any, ...] = ()

    def call(*told: Any) -> None:
        nonlocal last, at
        sent, before, is_same_place = sent_at(), last, told == at
        last, at = sent, told
        if not (sent and before and is_same_place and sent - before < _DOUBLE_CLICK):
            act(*told)

    return call


def in_order(act: Callable[..., None], *fields: widgets.Widget) -> Callable[..., None]:
    """Let an act be done again, once what was entered before it comes in after it.

    A kernel that handles messages in several threads, as ipykernel 7.4 does, has a click overtake
    what was typed just before it.
    """
    clicked: datetime | None = None
    with_what: tuple[Any, ...] = ()

    def call(*told: Any) -> None:
        nonlocal clicked, with_what
        with ONE_HAND:
            clicked, with_what = sent_at(), told
            act(*told)

    def catch_up(_: object) -> None:
        nonlocal clicked
        sent = sent_at()
        with ONE_HAND:
            if clicked and sent and sent < clicked:
                clicked = None
                act(*with_what)

    for field in fields:
        # A field for a secret never has a value; that it received one, its placeholder tells.
        field.observe(catch_up, "placeholder" if isinstance(field, Secret) else "value")
    return call


def unforeseen(error: Exception) -> str:
    """Say where an error was raised; its own words may hold what it failed at, a secret for one."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"This error is not foreseen, please report it: {type(error).__name__} at "
        f"{Path(place.filename).name}, line {place.lineno}. What was there before is kept."
    )
