"""A progress bar for what lasts, where somebody is watching."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_AFTER_S = 1.0
_hidden: ContextVar[bool] = ContextVar("hidden", default=False)


@contextmanager
def bar(
    wanted: bool | None,  # noqa: FBT001 -- the value of a setting, passed through
    what: str,
    unit: str,
    total: int | None,
    count: Callable[[], int],
) -> Iterator[Callable[[], None]]:
    """Give a function that brings a progress bar up to date; it appears after a second.

    `wanted` is True, False, or None for: if somebody is watching. `count` tells how much is done.
    """
    if _hidden.get() or not (is_watched() if wanted is None else wanted):
        yield lambda: None
        return
    from tqdm.auto import tqdm  # noqa: PLC0415 -- it imports ipywidgets, in a notebook

    is_widget = any(kind.__name__ == "tqdm_notebook" for kind in tqdm.__mro__)
    how: dict[str, Any] = {"display": False} if is_widget else {"delay": _AFTER_S, "leave": False}
    # With miniters the clock of the bar goes on while nothing comes.
    # What was done before tells nothing of the pace.
    how["initial"] = count()
    with tqdm(desc=what, unit=unit, total=total, miniters=0, **how) as shown:
        widget = _Widget(shown) if is_widget else None

        def update() -> None:
            shown.update(count() - shown.n)
            if widget:
                widget.show()

        try:
            yield update
        finally:
            if widget:
                widget.hide()


@contextmanager
def hidden() -> Iterator[None]:
    """Show no bar meanwhile: something else tells how far it is."""
    token = _hidden.set(True)
    try:
        yield
    finally:
        _hidden.reset(token)


class _Widget:
    """A bar in a notebook, of which nothing is left in the saved file.

    tqdm leaves an output there that names a widget which no longer exists.
    """

    def __init__(self, shown: Any) -> None:
        self._shown = shown
        self._since = time.monotonic()
        self._output: Any = None

    def show(self) -> None:
        if self._output is None and time.monotonic() - self._since >= _AFTER_S:
            from IPython.display import display  # noqa: PLC0415 -- there is one in a notebook

            show: Any = display  # It has no annotations.
            self._output = show(self._shown.container, display_id=True)

    def hide(self) -> None:
        if self._output is not None:
            self._output.update({"text/plain": ""}, raw=True)


def is_watched() -> bool:
    """Tell whether a person sees what this process prints now.

    In a notebook that is so where the front end could also ask a question: one that runs in CI
    cannot. Elsewhere it is a terminal.
    """
    kernel = _kernel()
    if kernel is None:
        return sys.stderr is not None and sys.stderr.isatty()
    try:
        return bool(kernel.get_parent("shell")["content"]["allow_stdin"])
    except (AttributeError, KeyError, TypeError):
        return False


def _kernel() -> Any:
    # A kernel that runs has imported IPython; importing it here would only cost time.
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None)
