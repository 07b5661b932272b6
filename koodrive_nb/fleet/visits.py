"""All requests about one user in a row, many users at once, and what came kept in bulk.

No user waits for another: a worker that is done with one takes the next. What came stays the text
that it was until it is kept, together with what others brought, since reading it user by user would
take the time that the requests leave.
"""

from __future__ import annotations

import queue
import time
from typing import TYPE_CHECKING

from koodrive_nb import device_labels, workers
from koodrive_nb.calls import Account
from koodrive_nb.columns import MODULES
from koodrive_nb.device_labels import DeviceLabels
from koodrive_nb.streaks import Streak

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from koodrive_nb.errors import KooDriveError
    from koodrive_nb.jobs import Job, Service
    from koodrive_nb.streams import Failure

# More would be in memory while a part is put together: then workers wait.
_KEPT_TOGETHER = 100
_KEPT_EVERY_S = 0.5


class Visit:
    """What is asked about one user, whose place in the list is a number."""

    __slots__ = ("jobs", "labels", "place", "user_id")

    def __init__(self, source: str, place: int, user_id: str) -> None:
        self.place = place
        self.user_id = user_id
        account = Account(source, user_id)
        self.jobs = [account.devices(), *map(account.records, MODULES)]
        for job in self.jobs:
            job.is_read_later = True
        self.labels = DeviceLabels(account, self.jobs)

    def make(self, service: Service, stop: threading.Event) -> KooDriveError | None:
        """Ask for everything, up to the first failure, which is given."""
        for job in self.jobs:
            error = job.attempt(service, stop)
            if error or not job.is_done:
                return error
        records = self.jobs[1:]
        if all(not job.tables and device_labels.names_devices(job.waiting) for job in records):
            return None
        for job in self.jobs:
            job.read()
        lacking = self.labels.lacking()
        if lacking:
            for job in self.labels.proof([*lacking]):
                if not job.is_done:
                    job.attempt(service, stop)
            for job in self.labels.listings(lacking):
                job.attempt(service, stop)
            self.labels.conclude(lacking)
        return next((job.error for job in self.asked() if job.error), None)

    def asked(self) -> list[Job]:
        """Give every job, those included that turned out to be needed on the way."""
        return [*self.jobs, *(job for job in self.labels.asked() if job is not self.jobs[0])]

    def is_whole(self) -> bool:
        """Tell whether everything came."""
        return all(job.is_done for job in self.asked())

    def failure(self) -> Failure | None:
        """Tell what failed first, if anything did."""
        return next((job.failure() for job in self.asked() if job.error), None)


def make_all(
    users: Iterable[tuple[int, str]],
    service: Service,
    keep: Callable[[list[Visit]], None],
    stop: threading.Event,
    tick: Callable[[], None] = lambda: None,
) -> KooDriveError | None:
    """Visit users, given by place and id, and give the error that ended it early, if one did.

    `keep` is handed those whose visit ended, whole or failed, many at a time, in the calling
    thread, as is `tick`. `users` is taken from as workers come free.
    """
    done: queue.Queue[Visit] = queue.Queue(_KEPT_TOGETHER)
    streak = Streak(service.max_workers, has_users=True)
    fatal: list[KooDriveError] = []

    def visit(user: tuple[int, str]) -> None:
        one = Visit(service.source, *user)
        error = one.make(service, stop)
        if stop.is_set() and not one.is_whole():
            return  # It would have gone on.
        if streak.ends_with(error, one.user_id) and error:
            fatal.append(error)
            stop.set()
        while True:
            try:
                done.put(one, timeout=_KEPT_EVERY_S)
            except queue.Full:
                if stop.is_set():
                    return
            else:
                return

    kept_at = time.monotonic()

    def look() -> None:
        nonlocal kept_at
        if done.full() or time.monotonic() - kept_at >= _KEPT_EVERY_S:
            _empty(done, keep)
            kept_at = time.monotonic()
        tick()

    workers.run(users, visit, max_workers=service.max_workers, stop=stop, tick=look)
    _empty(done, keep)
    tick()
    return fatal[0] if fatal else None


def _empty(done: queue.Queue[Visit], keep: Callable[[list[Visit]], None]) -> None:
    found = [done.get_nowait() for _ in range(done.qsize())]
    if found:
        keep(found)
