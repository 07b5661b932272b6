"""A bounded pool of threads that Ctrl-C leaves at once.

The pools of the standard library wait for their threads when Python exits, so that after Ctrl-C a
script would hang until the last request was answered or timed out. These are daemons instead: they
see `stop` after the request that they are in, and nobody waits for them.
"""

from __future__ import annotations

import operator
import queue
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_Job = TypeVar("_Job")
_TICK_S = 0.1
_NONE: Any = object()


def run(
    jobs: Iterable[_Job],
    work: Callable[[_Job], None],
    *,
    max_workers: int,
    stop: threading.Event,
    tick: Callable[[], None],
) -> None:
    """Do the work of each job, in the order given, until all are done or `stop` is set.

    Jobs are taken from an iterator as workers come free, by one worker at a time. `tick` is called
    in the calling thread, about every tenth of a second. What `work` raises stops the others and is
    raised here.
    """
    waiting = iter(jobs)
    taking = threading.Lock()
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def take() -> None:
        try:
            while not stop.is_set():
                with taking:
                    job = next(waiting, _NONE)
                if job is _NONE:
                    break
                work(job)
        except BaseException as error:  # noqa: BLE001 -- it is raised in the calling thread
            stop.set()
            ended.put(error)
        else:
            ended.put(None)

    running = min(max_workers, operator.length_hint(jobs, max_workers))
    try:
        for number in range(running):
            threading.Thread(target=take, name=f"koodrive-{number}", daemon=True).start()
        _wait(ended, running, tick)
    except BaseException:
        # Ctrl-C arrives here.
        stop.set()
        raise
    tick()


def _wait(
    ended: queue.SimpleQueue[BaseException | None], running: int, tick: Callable[[], None]
) -> None:
    while running:
        try:
            error = ended.get(timeout=_TICK_S)
        except queue.Empty:
            tick()
            continue
        if error is not None:
            raise error
        running -= 1
