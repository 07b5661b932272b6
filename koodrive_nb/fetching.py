"""A frame from all its jobs: whole, or an error that keeps what came and can go on."""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from koodrive_nb import decode
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


@dataclass(slots=True)
class Fetch:
    """Everything that one call asks for. `ids` are record ids in the order they were asked for."""

    dataset: str
    user_id: str
    jobs: list[Job]
    errors: str = "raise"
    ids: list[str] | None = None
    labels: DeviceLabels | None = None
    service: Service | None = None
    source: str = ""

    def run(self, service: Service) -> pd.DataFrame:
        """Ask for all that is not there yet, and return the frame.

        Raises:
            KooDriveError: Nothing came, for this reason.
            IncompleteError: Part of it failed, and `errors` is "raise".
        """
        self.service, self.source = service, service.source
        run_all(self.jobs, service, threading.Event(), f"backup {self.dataset}")
        failed = [job for job in self.jobs if not job.is_done]
        if self.labels is not None and not failed:
            self.labels.learn(self.jobs, service)
            failed = [job for job in self.labels.asked() if not job.is_done]
        for job in failed:
            job.stream.ended = type(job.error).__name__ if job.error else "stopped"
        failures = [job.failure() for job in failed]
        frame = self._frame(failures)
        if not failed:
            return frame
        reason = self._reason(failed, frame)
        if self.errors == "collect":
            # Nothing at all is no partial frame: it would pass for an account without backups.
            if isinstance(reason, (AuthenticationError, ConnectionFailedError)):
                raise reason
            return frame
        raise reason or self._incomplete(failures, frame)

    def _frame(self, failures: list[Failure]) -> pd.DataFrame:
        parts = self._parts(is_last=not failures)
        frame = decode.to_frame(parts, self.dataset)
        streams = [stream for stream, _ in parts]
        if self.labels is not None:
            self.labels.put_on(frame)
            streams += self.labels.streams()
        streams[0].failures = failures
        if self.ids is not None:
            places = {identity: place for place, identity in enumerate(frame["record_id"])}
            order = [places[identity] for identity in self.ids if identity in places]
            frame = frame.iloc[order].reset_index(drop=True)
        frame.attrs[ATTRS] = keep(streams)
        return frame

    def _parts(self, *, is_last: bool) -> list[tuple[Stream, list[pa.Table]]]:
        if self.ids is None:
            # What is not needed to go on later is handed over, not copied.
            return [(job.stream, job.tables if is_last else [*job.tables]) for job in self.jobs]
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

    def _reason(self, failed: Sequence[Job], frame: pd.DataFrame) -> KooDriveError | None:
        """Give the one error that says it all, where nothing came."""
        if len(frame) or any(job.stream.pages for job in self.jobs):
            return None
        errors = [job.error for job in failed if job.error is not None]
        graver = [error for error in errors if not isinstance(error, NotFoundError)]
        if graver:
            # Stopped for its sake, others may have failed in other ways.
            return min(graver, key=lambda error: not isinstance(error, AuthenticationError))
        # Of many ids, each that is not there has to be told.
        return errors[0] if errors and (self.ids is None or len(self.jobs) == 1) else None

    def _incomplete(self, failures: Sequence[Failure], frame: pd.DataFrame) -> IncompleteError:
        named = [f"{one['what']} ({one['error']})" for one in failures[:_NAMED_IN_MESSAGE]]
        more = len(failures) - len(named)
        table = pd.DataFrame(failures, columns=list(Failure.__annotations__)).astype(
            {"user_id": STRING, "what": STRING, "error": STRING, "retry_after_s": "float64"}
        )
        return IncompleteError(
            f"Incomplete: {'; '.join(named)}{f'; and {more:,} more' if more else ''}. What came is "
            f"in .frame ({len(frame):,} rows), what failed in .failures; .resume() asks for these "
            'parts alone, and errors="collect" returns what came instead of this error.',
            frame,
            table,
            self,
        )

    def finish(self, client: Any) -> pd.DataFrame:
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
            service = client._service_for(self.user_id, self.source)  # noqa: SLF001 -- not for users
        # On a copy: workers that Ctrl-C left behind may still be at this one's jobs.
        jobs = [*self.jobs, *(self.labels.asked() if self.labels else [])]
        again = copy.deepcopy(self, {id(table): table for job in jobs for table in job.tables})
        return again.run(service)

    def __getstate__(self) -> dict[str, Any]:
        # The service holds connections and credentials.
        return {name: getattr(self, name) for name in self.__slots__} | {"service": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
