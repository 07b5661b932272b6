"""What a worker process of a sweep does; `processes` starts it, and talks to it over pipes."""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
from typing import TYPE_CHECKING, Any

from koodrive_nb.fleet import arrow_memory, pieces, visits
from koodrive_nb.jobs import Service
from koodrive_nb.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOOKS_EVERY_S = 0.1


def main() -> None:
    """Visit the users that the parent deals out, until it ends or has no more."""
    # What else is printed must not get in between.
    told = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    task = pickle.load(sys.stdin.buffer)  # noqa: S301 -- of our own parent
    os.environ.update(task["environment"])
    now = task["now"]
    transport = Transport(task["endpoint"], task.pop("auth")(), task["max_workers"])
    service = Service(
        transport, task["source"], task["max_workers"], now and (lambda: now), progress=False
    )
    lots: queue.SimpleQueue[list[tuple[int, str]]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(lots,), daemon=True).start()
    stop = threading.Event()

    def tell(what: Any) -> None:
        pickle.dump(what, told)
        told.flush()

    def keep(made: list[visits.Visit]) -> None:
        for kept in pieces.keep(made, task["folder"]):
            tell(kept)

    with arrow_memory.of_system(), transport.capped(task["max_rate"]):
        try:
            tell(visits.make_all(_users(lots, stop), service, keep, stop))
        except Exception as error:  # noqa: BLE001 -- the parent raises it
            tell(error.with_traceback(None))


def _users(
    lots: queue.SimpleQueue[list[tuple[int, str]]], stop: threading.Event
) -> Iterator[tuple[int, str]]:
    while not stop.is_set():
        try:
            yield from lots.get(timeout=_LOOKS_EVERY_S)
        except queue.Empty:
            continue


def _listen(lots: queue.SimpleQueue[list[tuple[int, str]]]) -> None:
    while True:
        try:
            lots.put(pickle.load(sys.stdin.buffer))  # noqa: S301 -- of our own parent
        except (EOFError, pickle.UnpicklingError):
            # The parent is gone, or wants no more: what is kept is whole at any time.
            os._exit(0)


if __name__ == "__main__":
    main()
