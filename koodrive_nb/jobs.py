"""What is asked of the service for one frame: each listing to its end, several at once.

A job keeps all that it has and all that it still wants in plain values, so that it can go on after
a failure, also in another process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING

import msgspec
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from koodrive_nb import decode, envelope, privacy, progress, workers
from koodrive_nb.errors import AuthenticationError, KooDriveError, ProtocolError, ServiceError
from koodrive_nb.streaks import Streak
from koodrive_nb.text import one_line

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from koodrive_nb.streams import Failure, Stream
    from koodrive_nb.transport import Transport

# Rows are decoded this many at a time, so that a long listing is never held as JSON text.
_CHUNK_ROWS = 10_000
# The longest listings have millions of rows; one that gives fresh cursors for ever has no end.
_MOST_PAGES = 100_000
_MOST_EMPTY_PAGES = 1_000
_LONGEST_CURSOR = 1_000
_ERROR_CHARACTERS = 500


class _Named(msgspec.Struct):
    id: int | str | None = msgspec.field(default=None, name="recordId")


_NAMED = msgspec.json.Decoder(_Named)


@dataclass(frozen=True, slots=True)
class Service:
    """The service as a client reaches it. `source` is what the client was connected to."""

    transport: Transport
    source: str
    max_workers: int
    clock: Callable[[], datetime] | None
    progress: bool | None

    def now(self) -> pd.Timestamp:
        """Tell the time that rows are stamped with, in UTC and whole milliseconds."""
        now = (self.clock or self.transport.clock.now)()
        now = now.replace(tzinfo=UTC) if now.tzinfo is None else now.astimezone(UTC)
        # pandas would take ten times as long to do the same, for every request.
        return pd.Timestamp(now.replace(microsecond=now.microsecond // 1000 * 1000)).as_unit("ms")


@dataclass(slots=True, repr=False)
class Job:
    """One listing, or one single answer: what to ask, and what came so far.

    `what` names it in messages. With `only_if_any` it ends at the first row. `expected` are values
    that every row must have where it has any. With `is_read_later` rows stay the text that came,
    for whoever asked to read them together with others.
    """

    stream: Stream
    what: str
    path: str
    parameters: dict[str, str | int] = field(default_factory=dict)
    record_id: str | None = None
    expected: dict[str, str] = field(default_factory=dict)
    max_pages: int | None = None
    only_if_any: bool = False
    is_read_later: bool = False
    tables: list[pa.Table] = field(default_factory=list)
    waiting: list[bytes] = field(default_factory=list)
    cursors: set[str] = field(default_factory=set)
    empty_pages: int = 0
    error: KooDriveError | None = None

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to ask."""
        return self.error is None and (self.stream.is_complete or self.stream.ended == "max_pages")

    def run(self, service: Service, stop: threading.Event) -> None:
        """Ask until the end, or until `stop` is set; keep what came if something fails.

        Raises:
            KooDriveError: A page got no answer, was refused or breaks the contract.
        """
        if isinstance(self.error, ProtocolError):
            self._begin_again()
        self.error = None
        self.stream.fetched_at = None
        gone_on_at = self.stream.pages
        try:
            while not self.is_done and not stop.is_set():
                try:
                    self._page(service, stop)
                except ServiceError as error:
                    is_final = error.retryable or isinstance(error, AuthenticationError)
                    if is_final or not gone_on_at or self.stream.pages > gone_on_at:
                        raise
                    # The cursor from before the failure has become worthless since.
                    self._begin_again()
                    gone_on_at = 0
        finally:
            # One thing is decoded by whoever asked for it, together with others.
            if self.record_id is None and not self.is_read_later:
                self.read()

    def attempt(self, service: Service, stop: threading.Event) -> KooDriveError | None:
        """Run, and note the error that it failed with, if it did, telling no more than may be."""
        try:
            self.run(service, stop)
        except KooDriveError as error:
            # Its frames would keep whole answers in memory.
            device_id = self.parameters.get("deviceId") or self.stream.given.get("device_id")
            self.error = privacy.without_names(
                error.with_traceback(None), user=self.stream.user_id, device=device_id
            )
        return self.error

    def _begin_again(self) -> None:
        self.stream.begin_again()
        self.tables.clear()
        self.waiting.clear()
        self.cursors.clear()
        self.empty_pages = 0
        self.parameters.pop("cursor", None)

    def _page(self, service: Service, stop: threading.Event) -> None:
        stream = self.stream
        answer = service.transport.get(
            self.path,
            self.parameters,
            user_id=stream.user_id,
            is_listing=self.record_id is None,
            stop=stop,
        )
        stream.source = "sandbox" if "sandbox" in {answer.source, service.source} else "live"
        stream.fetched_at = stream.fetched_at or service.now()
        if self.record_id is not None:
            self._check_named(answer)
        stream.pages += 1
        stream.rows += len(answer.rows)
        stream.coerced += answer.repaired
        self.waiting += answer.rows
        cursor = answer.next_cursor
        if self.only_if_any and answer.rows:
            stream.ended = "filter ignored"
        elif "pageSize" not in self.parameters:
            if cursor:
                raise ProtocolError(
                    f"The answer with {self.what} has a cursor, though this call has no pages: "
                    "report it to the service."
                )
            stream.ended = "single answer"
        elif not cursor:
            stream.ended = "no cursor"
        else:
            self._follow(cursor, has_rows=bool(answer.rows))
        if len(self.waiting) >= _CHUNK_ROWS:
            self.read()

    def _follow(self, cursor: str, *, has_rows: bool) -> None:
        stream = self.stream
        if len(cursor) > _LONGEST_CURSOR:
            raise ProtocolError(
                f"The listing of {self.what} gave a cursor of {len(cursor):,} characters, which "
                f"cannot be sent: the API takes {_LONGEST_CURSOR:,}. Report it to the service."
            )
        if cursor in self.cursors:
            raise ProtocolError(
                f"The listing of {self.what} gave a cursor twice on page {stream.pages}: it would "
                "never end. Try again, and report it to the service if it lasts."
            )
        self.cursors.add(cursor)
        self.parameters["cursor"] = cursor
        if stream.pages == self.max_pages:
            stream.ended = "max_pages"
        self.empty_pages = 0 if has_rows else self.empty_pages + 1
        if stream.pages >= _MOST_PAGES or self.empty_pages >= _MOST_EMPTY_PAGES:
            raise ProtocolError(
                f"The listing of {self.what} has no end: {stream.pages:,} pages, of which the last "
                f"{self.empty_pages:,} were empty. Report it to the service; max_pages= stops "
                "earlier."
            )

    def _check_named(self, answer: envelope.Answer) -> None:
        """Check that one thing is the one that was asked for.

        Raises:
            NotFoundError: There is nothing.
            ProtocolError: It is another.
        """
        if not answer.rows:
            raise envelope.not_found(self.path, answer.trace_id)
        try:
            found = _NAMED.decode(answer.rows[0]).id
        except (msgspec.DecodeError, RecursionError):
            found = None
        if str(found) != self.record_id:
            raise ProtocolError(
                f"{self.path} was answered with something else than that record: report it to the "
                "service."
            )

    def read(self) -> None:
        """Read the rows that are still text.

        Raises:
            ProtocolError: Some are not what was asked for.
        """
        if not self.waiting:
            return
        table = decode.read_rows(self.waiting, self.stream)
        self.waiting.clear()
        odd = ""
        for name, value in self.expected.items():
            others = set(table[name].unique().to_pylist()) - {value, None}
            if others:
                other = min(others)
                shown = privacy.pseudonym(other, "device") if name == "device_id" else other
                odd = f"{name} {one_line(shown, 40)}"
                table = table.filter(pc.invert(pc.is_in(table[name], pa.array(list(others)))))
        # To learn which device records are of, their ids are enough.
        self.tables.append(
            table.select(["record_id", "device_id"]) if self.stream.labels else table
        )
        if odd:
            raise ProtocolError(
                f"The listing of {self.what} brought rows of {odd}, so the service did not filter: "
                "fetch without the filter and select afterwards."
            )

    def failure(self) -> Failure:
        """Tell what did not come, and why, in plain values."""
        error = self.error
        return {
            "user_id": privacy.pseudonym(self.stream.user_id, "user"),
            "what": self.what,
            "error": f"{type(error).__name__}: {one_line(error, _ERROR_CHARACTERS)}"
            if error
            else "stopped, because others failed",
            "retryable": error is None or error.retryable,
            "retry_after_s": error.retry_after_s if error else None,
        }


def run_all(jobs: Sequence[Job], service: Service, stop: threading.Event, what: str) -> None:
    """Run the jobs that are not done, several at once; what fails is noted on its job.

    A failure that concerns all ends it, see `Streak`.
    """
    # Those that failed before come last, lest they end it again for the others.
    left = sorted((job for job in jobs if not job.is_done), key=lambda job: job.error is not None)
    has_users = len({job.stream.user_id for job in left}) > 1
    streak = Streak(service.max_workers, has_users=has_users)
    done: list[Job] = []

    def work(job: Job) -> None:
        error = job.attempt(service, stop)
        if streak.ends_with(error, job.stream.user_id):
            stop.set()
        if error is None:
            done.append(job)

    many = len(left) > service.max_workers
    with progress.bar(
        service.progress,
        what,
        unit="" if many else " pages",
        total=len(left) if many else None,
        count=lambda: len(done) if many else sum(job.stream.pages for job in left),
    ) as tick:
        workers.run(left, work, max_workers=service.max_workers, stop=stop, tick=tick)
