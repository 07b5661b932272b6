"""A bounded pool of threads that Ctrl-C leaves at once.

The pools of the standard library wait for their threads when Python exits, so that after Ctrl-C a
script would hang until the last request was answered or timed out. These are daemons instead: they
see `stop` after the request that they are in, and nobody waits for them.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_Job = TypeVar("_Job")
_TICK_S = 0.1


def run(
    jobs: Iterable[_Job],
    work: Callable[[_Job], None],
    *,
    max_workers: int,
    stop: threading.Event,
    tick: Callable[[], None],
) -> None:
    """Do the work of each job, in the order given, until all are done or `stop` is set.

    `tick` is called in the calling thread, about every tenth of a second. What `work` raises stops
    the others and is raised here.
    """
    waiting = deque(jobs)
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def take() -> None:
        try:
            while waiting and not stop.is_set():
                try:
                    job = waiting.popleft()
                except IndexError:
                    break  # Another worker was faster.
                work(job)
        except BaseException as error:  # noqa: BLE001 -- it is raised in the calling thread
            stop.set()
            ended.put(error)
        else:
            ended.put(None)

    running = min(max_workers, len(waiting))
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
