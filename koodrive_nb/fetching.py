"""All that one call asks for: the whole of it, or an error that keeps what came and can go on."""

from __future__ import annotations

import copy
import re
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pandas as pd
import pyarrow as pa

from koodrive_nb import decode, device_labels, privacy
from koodrive_nb.columns import STRING
from koodrive_nb.errors import (
    AuthenticationError,
    ConnectionFailedError,
    IncompleteError,
    InvalidParameterError,
    KooDriveError,
    NotFoundError,
)
from koodrive_nb.jobs import run_all
from koodrive_nb.streams import ATTRS, Failure, Stream, keep, merged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from koodrive_nb.device_labels import DeviceLabels
    from koodrive_nb.jobs import Job, Service

_NAMED_IN_MESSAGE = 3
# It may have been cut.
_TRACE_ID = re.compile(r" \(trace id [^)]*\)?$")

Whole = TypeVar("Whole")


@dataclass(slots=True, repr=False)
class Fetch(ABC, Generic[Whole]):
    """Everything that one call asks for, of one user or of many.

    What it makes of the answers is for the classes below: a frame, or a fleet.
    """

    jobs: list[Job]
    what: str
    errors: str = "raise"
    labels: list[DeviceLabels] = field(default_factory=list)
    service: Service | None = None
    source: str = ""

    @abstractmethod
    def whole(self, *, is_last: bool) -> Whole:
        """Make what the call returns of what came.

        With `is_last`, nothing of it is needed to go on later.
        """

    @abstractmethod
    def protected(self, whole: Whole) -> Whole:
        """Give the whole as `KOODRIVE_PRIVACY` lets it be handed over."""

    @abstractmethod
    def size(self, whole: Whole) -> str:
        """Tell how much that is, in a few words."""

    def begin(self, service: Service) -> Whole:
        """Check how errors are wanted, and run.

        Raises:
            InvalidParameterError: `errors` is neither "raise" nor "collect".
            KooDriveError: As `run`.
        """
        if self.errors not in {"raise", "collect"}:
            raise InvalidParameterError('errors= takes "raise" or "collect".')
        try:
            # Unfit settings of privacy shall not be noticed after an hour.
            privacy.protect(pd.DataFrame())
            return self.run(service)
        except KooDriveError as error:
            # What happened in between helps nobody who reads the message, and fills notebooks.
            raise error.with_traceback(None) from None

    def run(self, service: Service) -> Whole:
        """Ask for all that is not there yet, and return the whole.

        Raises:
            KooDriveError: Nothing came, for this reason.
            IncompleteError: Part of it failed, and `errors` is "raise".
        """
        self.service, self.source = service, service.source
        stop = threading.Event()
        run_all(self.jobs, service, stop, self.what)
        device_labels.learn(self.labels, service, stop)
        failed = []
        for job in self.asked():
            job.stream.failures = [] if job.is_done else [job.failure()]
            if not job.is_done:
                job.stream.ended = type(job.error).__name__ if job.error else "stopped"
                failed.append(job)
        # Whatever is handed over comes this way.
        whole = self.protected(self.whole(is_last=not failed))
        if not failed:
            return whole
        reason = self._reason(failed)
        if self.errors == "collect":
            # Nothing at all is no partial frame: it would pass for an account without backups.
            if isinstance(reason, (AuthenticationError, ConnectionFailedError)):
                raise reason
            return whole
        raise reason or self._incomplete(failed, whole)

    def asked(self) -> list[Job]:
        """Give every job, those included that turned out to be needed on the way."""
        needed = (job for one in self.labels for job in one.asked())
        # The listing of devices may be wanted anyway.
        return [*{id(job): job for job in (*self.jobs, *needed)}.values()]

    def users(self) -> list[str]:
        """Give the ids of the users that are asked for, each once."""
        return [*dict.fromkeys(job.stream.user_id for job in self.jobs)]

    def _reason(self, failed: Sequence[Job]) -> KooDriveError | None:
        """Give the one error that says it all, where nothing came."""
        if any(job.stream.pages for job in self.jobs):
            return None
        errors = [job.error for job in failed if job.error is not None]
        graver = [error for error in errors if not isinstance(error, NotFoundError)]
        if graver:
            # Stopped for its sake, others may have failed in other ways.
            return min(graver, key=_rank)
        # Of many ids, each that is not there has to be told.
        is_one = len({job.record_id for job in self.jobs}) == 1
        return errors[0] if errors and is_one else None

    def _incomplete(self, failed: Sequence[Job], whole: Whole) -> IncompleteError:
        failures = [failure for job in failed for failure in job.stream.failures]
        what = told(failures, _NAMED_IN_MESSAGE, with_user=len(self.users()) > 1)
        return IncompleteError(
            f"Incomplete: {what}. What came is in .frame ({self.size(whole)}), what "
            "failed in .failures; .resume() asks for these parts alone, and "
            'errors="collect" returns what came instead of this error.',
            whole,
            failure_table(failures),
            self if privacy.mode() == "names" else _Unpickled(self),
        )

    def finish(self, client: Any) -> Whole:
        """Go on where it failed: with the client that began, or with another one.

        Raises:
            InvalidParameterError: There is no client left, or the other one is of another service
                or user.
        """
        if client is None and self.service is None:
            raise InvalidParameterError(
                "This error left its client behind when it was pickled: pass one, as in "
                "error.resume(kd.connect())."
            )
        if client is not None and not hasattr(client, "_service_for"):
            raise InvalidParameterError(
                "resume() takes a client, as in error.resume(kd.connect())."
            )
        service: Any = self.service
        if client is not None:
            service = client._service_for(self.users(), self.source)  # noqa: SLF001 -- not for users
        # On a copy: workers that Ctrl-C left behind may still be at this one's jobs.
        tables = {id(table): table for job in self.asked() for table in job.tables}
        return copy.deepcopy(self, tables).run(service)

    def __getstate__(self) -> dict[str, Any]:
        # The service holds connections and credentials.
        return {one.name: getattr(self, one.name) for one in fields(self)} | {"service": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


class _Unpickled:
    """What is left of a fetch whose answers have names, which no pickle takes along."""

    def __init__(self, fetch: Fetch[Any] | None = None) -> None:
        self._fetch = fetch

    def finish(self, client: Any) -> Any:
        if self._fetch is None:
            raise InvalidParameterError(
                "This error left what it asked for behind when it was pickled, since "
                "KOODRIVE_PRIVACY forbids names: fetch it again."
            )
        return self._fetch.finish(client)

    def __reduce__(self) -> tuple[object, ...]:
        return _Unpickled, ()


@dataclass(slots=True, repr=False)
class FrameFetch(Fetch[pd.DataFrame]):
    """What is asked for one frame. `ids` are record ids in the order they were asked for."""

    dataset: str = field(kw_only=True)
    user_id: str = field(kw_only=True)
    ids: list[str] | None = None

    def whole(self, *, is_last: bool) -> pd.DataFrame:
        """Make the frame of what came."""
        parts = self._parts(is_last=is_last)
        frame = decode.to_frame(parts, self.dataset)
        device_labels.put_on(frame, self.labels)
        streams = [stream for stream, _ in parts]
        streams += [stream for one in self.labels for stream in one.streams()]
        if self.ids is not None:
            places = {identity: place for place, identity in enumerate(frame["record_id"])}
            order = [places[identity] for identity in self.ids if identity in places]
            frame = frame.iloc[order].reset_index(drop=True)
        frame.attrs[ATTRS] = keep(streams)
        return frame

    def protected(self, whole: pd.DataFrame) -> pd.DataFrame:
        """Protect the frame."""
        return privacy.protect(whole)

    def size(self, whole: pd.DataFrame) -> str:
        """Tell the rows."""
        return f"{len(whole):,} rows"

    def _parts(self, *, is_last: bool) -> list[tuple[Stream, list[pa.Table]]]:
        if self.ids is None:
            return brought(self.jobs, is_last=is_last)
        answered = [job for job in self.jobs if job.is_done]
        nothing = Stream(self.source, self.user_id, self.dataset, ended="single answer")
        stream = merged([job.stream for job in self.jobs] or [nothing])
        rows = [job.waiting[0] for job in answered]
        if not rows:
            return [(stream, [])]
        table = decode.read_rows(rows, stream)
        if len(table) == len(rows):
            times = [job.stream.fetched_at for job in answered]
            place = table.column_names.index("fetched_at")
            table = table.set_column(place, "fetched_at", pa.array(times, table["fetched_at"].type))
        return [(stream, [table])]


def _rank(error: KooDriveError) -> int:
    """Rank what the service said before that it was not reached, or not asked any more."""
    if isinstance(error, AuthenticationError):
        return 0
    return 2 if isinstance(error, ConnectionFailedError) else 1


def brought(jobs: Sequence[Job], *, is_last: bool) -> list[tuple[Stream, list[pa.Table]]]:
    """Give what the jobs brought: with `is_last` handed over, not copied."""
    return [(job.stream, job.tables if is_last else [*job.tables]) for job in jobs]


def failure_table(failures: Sequence[Failure]) -> pd.DataFrame:
    """Give what failed as an error tells it, one row for each part that did not come."""
    return pd.DataFrame(failures, columns=list(Failure.__annotations__)).astype(
        {"user_id": STRING, "what": STRING, "error": STRING, "retry_after_s": "float64"}
    )


def untraced(failure: Failure) -> Failure:
    """Give a failure without its trace id, so that those of one cause are the same."""
    return {**failure, "error": _TRACE_ID.sub("", failure["error"])}


def told(failures: Sequence[Failure], most: int, *, with_user: bool = False) -> str:
    """Tell on one line what failed and why, `most` of them in full."""
    named = []
    for one in failures[:most]:
        whose = f"user {one['user_id']}, " if with_user else ""
        named.append(f"{whose}{one['what']} ({one['error']})")
    more = len(failures) - len(named)
    return f"{'; '.join(named)}{f'; and {more:,} more' if more else ''}"
