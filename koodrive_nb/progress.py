"""A progress bar for what lasts, where somebody is watching."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

from contextlib import contextmanager

_AFTER_S = 1.0


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
    if not (is_watched() if wanted is None else wanted):
        yield lambda: None
        return
    from tqdm.auto import tqdm  # noqa: PLC0415 -- it imports ipywidgets, in a notebook

    with tqdm(desc=what, unit=unit, total=total, delay=_AFTER_S, leave=False) as shown:

        def update() -> None:
            shown.update(count() - shown.n)

        yield update


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
