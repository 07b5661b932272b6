"""Many users into a snapshot on disk, whatever happens on the way.

Source: "Listing Backup Records", "Listing Bound Devices", once for each X-User-Id.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb import privacy, progress, settings
from koodrive_nb.client import Client
from koodrive_nb.columns import STRING
from koodrive_nb.errors import IncompleteError, InvalidParameterError, SnapshotError
from koodrive_nb.fleet import arrow_memory, pieces, shortfalls, users, visits
from koodrive_nb.fleet.parts import Parts
from koodrive_nb.fleet.processes import Crew
from koodrive_nb.snapshots import Snapshots, layouts
from koodrive_nb.snapshots.drafts import writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Literal

    from koodrive_nb.errors import KooDriveError
    from koodrive_nb.snapshots import Snapshot
    from koodrive_nb.snapshots.drafts import Draft

# Longer than anybody takes to go on, and shorter than from one sweep of every day to the next.
_OF_TODAY_S = 12 * 3600


def sweep(  # noqa: PLR0913 -- each is a choice of its own, and keyword-only
    client: Client,
    user_ids: Iterable[str] | pd.DataFrame,
    snapshots: Snapshots,
    *,
    workers: int = 1,
    max_rate: float | None = None,
    sample: int | None = None,
    seed: int = 0,
    errors: Literal["raise", "collect"] = "raise",
    restart: bool | None = None,
) -> Snapshot:
    """Fetch the devices and every backup record of many users into a new snapshot on disk.

    `user_ids` is as `kd.fleet.fetch` takes it. What came is kept in the folder of the snapshots,
    about twice a second, until all of it is published at once. However it was stopped, the same
    call goes on from there: a kill costs the answers of the last half second and the users under
    way. What nothing was added to for half a day is not taken for a sweep of today: `restart=False`
    goes on with it all the same, and `restart=True` begins anew, whatever is there.

    A user of whom anything fails after its retries has no rows; at the end, those whose failure may
    pass, or is of an earlier call, are asked once more. If some are left, `errors="raise"`
    publishes nothing, and the same call, or the error's `resume()`, asks for them alone; "collect"
    publishes a snapshot that is not complete. Credentials that are refused, and a service that does
    not answer, end it early; with "collect", once all were asked, they end only the asking.

    `workers` is a number of processes, each with the client's `max_workers` requests under way;
    `max_rate` bounds the requests a second of all together. `sample` draws so many of the users by
    a hash of `seed` and their ids: whatever their order, the same, and a larger sample of the same
    seed holds the smaller.

    Source: "Listing Backup Records", GET /koodrive/ose/v1/backup/record, and "Listing Bound
    Devices", GET /koodrive/ose/v1/backup/device.

    Raises:
        InvalidParameterError: An argument or an id is not what this takes.
        ConfigurationError: The client has a token, which sees only its own user.
        SnapshotError: Nothing can be written, another sweep is at work there, or what it left is of
            another question or another day.
        IncompleteError: Some users failed. Its `frame` is None: what came is on disk.
        ConnectionFailedError: Nothing came, since the service did not answer.
        ServiceError: Nothing came, since the service refused.
        ProtocolError: Nothing came, since the answers are not what the API documents.
        KooDriveError: Nothing came, since a process died.
    """
    if not isinstance(client, Client) or not isinstance(snapshots, Snapshots):
        raise InvalidParameterError(
            "sweep() takes a client, users and snapshots, as in kd.fleet.sweep(client, user_ids, "
            "kd.snapshots.Snapshots('folder'))."
        )
    if not settings.is_whole(workers, 1):
        raise InvalidParameterError("workers= takes a whole number of processes, from 1.")
    is_number = isinstance(max_rate, int | float) and not isinstance(max_rate, bool)
    if max_rate is not None and not (is_number and 0 < max_rate < float("inf")):
        raise InvalidParameterError("max_rate= takes requests a second, above 0.")
    if errors not in {"raise", "collect"}:
        raise InvalidParameterError('errors= takes "raise" or "collect".')
    if restart is not None and not isinstance(restart, bool):
        raise InvalidParameterError("restart= takes True, False or None.")
    listed = users.listed(user_ids, "sweep")
    chosen = users.sampled(listed, sample, seed)
    if chosen.empty:
        raise InvalidParameterError("There are no users to sweep: the list is empty.")
    for user_id in chosen["user_id"][:2]:
        client.for_user(user_id)
    is_sample = len(chosen) < len(listed)
    facts = {"sampled_of": len(listed), "seed": seed} if is_sample else {}
    asked = _Sweep(client, snapshots, chosen, facts, workers, max_rate, errors == "collect")
    return asked.run(restart=restart)


@dataclass(slots=True, repr=False)
class _Sweep:
    """What one call asks for. `facts` tell of what list it is a sample, if it is one."""

    client: Client
    snapshots: Snapshots
    chosen: pd.DataFrame
    facts: dict[str, int]
    workers: int
    max_rate: float | None
    may_fail: bool

    def run(self, *, restart: bool | None = False) -> Snapshot:
        """Ask for whoever is left, and publish the snapshot.

        Raises:
            KooDriveError: As `sweep`.
        """
        ids, others, digest = self._in_order()
        service = self.client._service  # noqa: SLF001 -- not for users, but for this
        question = {
            "users": len(ids),
            **self.facts,
            "source": service.source,
            "privacy": privacy.mode(),
            "digest": digest,
            # Places in the list are of a part by it.
            "users_in_a_part": pieces.PART_USERS,
        }
        began = {"began_at": service.now().isoformat()}
        auth = self.client._settings.auth  # noqa: SLF001 -- as above
        crew = Crew(service, auth, self.workers, self.max_rate) if self.workers > 1 else None
        with (
            arrow_memory.of_system(),
            self.snapshots._draft(question, began, restart=bool(restart)) as draft,  # noqa: SLF001 -- as above
        ):
            with writing(draft.target):
                idle_s = draft.idle_s()
                parts = Parts(draft, ids, others)
            if restart is None and idle_s > _OF_TODAY_S:
                began_at = pd.Timestamp(draft.facts["began_at"])
                raise SnapshotError(
                    f"{draft.target.shown} has a sweep that began at {began_at:%Y-%m-%d %H:%M} UTC "
                    f"and is not published, with {parts.complete:,} of {len(ids):,} users, and "
                    f"nothing was added to it for {idle_s / 3600:,.0f} hours: begin anew with "
                    "restart=True (--restart), or go on with that one with restart=False "
                    "(--no-restart)."
                )
            self._ask(parts, draft, crew)
            with writing(draft.target):
                ledger = parts.finish()
            ended = {
                **self.facts,
                "ended_at": service.now().isoformat(),
                "source": parts.source() or service.source,
                "privacy": privacy.mode(),
            }
            return draft.publish(ended, ledger)

    def _in_order(self) -> tuple[pd.Series[str], pd.DataFrame, str]:
        """Give the users as they will lie there, what their list says besides, and its digest.

        Raises:
            InvalidParameterError: The list has a column whose name is taken or empty.
        """
        protected = privacy.protect(self.chosen, remember=False)
        order = protected["user_id"].argsort().to_numpy()
        others = protected.drop(columns=[*layouts.USER_TYPES], errors="ignore")
        others = others.iloc[order].astype(STRING)
        layouts.others_of(others.columns)
        shown = itertools.chain(protected["user_id"].iloc[order], [self._where()])
        return self.chosen["user_id"].iloc[order], others, users.digest(shown, others)

    def _ask(self, parts: Parts, draft: Draft, crew: Crew | None) -> None:
        """Ask for all who were not asked yet, and then for those who may come another time.

        Raises:
            KooDriveError: Nothing came.
            IncompleteError: Some are left, and it matters.
        """
        service = self.client._service  # noqa: SLF001 -- as above
        total = len(self.chosen)
        what = f"users since {draft.facts['began_at'][:16]}" if parts.complete else "users"
        with (
            progress.bar(service.progress, what, "", total, lambda: parts.complete) as tick,
            service.transport.capped(self.max_rate),
            self._asking(parts, draft, crew, tick) as ask,
        ):
            # In a row, those who failed before would end it, and nobody behind them be asked.
            again = parts.failed()
            error = ask(parts.left(lambda place: place not in again))
            again |= {place for place, one in parts.failures.items() if one["retryable"]}
            if again and error is None:
                error = ask(parts.left(again.__contains__))
                if self.may_fail and parts.complete:
                    error = None
        left = total - parts.complete
        if error and not parts.complete:
            raise error
        if error or (left and not self.may_fail):
            raise self._incomplete(parts, left, error)

    @contextmanager
    def _asking(
        self, parts: Parts, draft: Draft, crew: Crew | None, tick: Callable[[], None]
    ) -> Iterator[Callable[[Iterable[tuple[int, str]]], KooDriveError | None]]:
        """Give what asks for users, in threads of this process or in several processes."""
        if crew:
            with writing(draft.target), crew.at_work(parts.folder):
                yield lambda asked: crew.ask(asked, parts.note, tick)
            return
        service = self.client._service  # noqa: SLF001 -- as above
        stop = threading.Event()

        def keep(made: list[visits.Visit]) -> None:
            with writing(draft.target):
                for kept in pieces.keep(made, parts.folder):
                    parts.note(kept)

        yield lambda asked: visits.make_all(asked, service, keep, stop, tick)

    def _where(self) -> str:
        """Tell one service from another without naming it; the sandbox moves with every start."""
        found = self.client._settings  # noqa: SLF001 -- as above
        endpoint = found.endpoint if self.client._service.source == "live" else ""  # noqa: SLF001 -- as above
        return hashlib.sha256(endpoint.encode()).hexdigest()

    def _incomplete(self, parts: Parts, left: int, error: KooDriveError | None) -> IncompleteError:
        failures = [parts.failures[place] for place in sorted(parts.failures)]
        return shortfalls.incomplete(failures, left, len(self.chosen), error, _Rest(self))


class _Rest:
    """What is left of a sweep, which is on disk: of the error, no pickle takes it along."""

    def __init__(self, asked: _Sweep | None = None) -> None:
        self._asked = asked

    def finish(self, client: Any) -> Snapshot:
        """Go on, with the client that began or with another one."""
        if self._asked is None:
            raise InvalidParameterError(
                "This error was pickled: sweep() with the same arguments goes on where it was."
            )
        if client is not None:
            if not isinstance(client, Client):
                raise InvalidParameterError(
                    "resume() takes a client, as in error.resume(kd.connect())."
                )
            self._asked.client = client
        return self._asked.run()

    def __reduce__(self) -> tuple[object, ...]:
        return _Rest, ()
