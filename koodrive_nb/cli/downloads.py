"""What to fetch for a file, unit by unit, so that it can go on after whatever stopped it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from koodrive_nb import privacy, progress
from koodrive_nb.cli.failures import Interrupted
from koodrive_nb.columns import MODULES
from koodrive_nb.device_labels import DeviceLabels
from koodrive_nb.errors import AuthenticationError, ConnectionFailedError, KooDriveError
from koodrive_nb.fetching import FrameFetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from koodrive_nb.cli.parts import Parts
    from koodrive_nb.client import Client
    from koodrive_nb.jobs import Job

# What a kill costs at most, and enough for all workers to have something to do.
_UNITS_AT_A_TIME = 20
# Where nothing came of so many users in a row, the reason is not theirs.
_MOST_IN_A_ROW = 3


@dataclass(slots=True)
class Unit:
    """What is fetched as a whole or not at all: a user, a module of the only one, or a record."""

    number: int
    jobs: list[Job]
    labels: list[DeviceLabels] = field(default_factory=list)

    def is_done(self) -> bool:
        """Whether all of it came, and whatever was needed to label it."""
        return all(job.is_done for job in [*self.jobs, *self._asked()])

    def failures(self) -> list[str]:
        """Tell what did not come, and why."""
        failed = (job.failure() for job in [*self.jobs, *self._asked()] if not job.is_done)
        return [f"user {one['user_id']}, {one['what']}: {one['error']}" for one in failed]

    def _asked(self) -> Iterator[Job]:
        return (job for one in self.labels for job in one.asked())


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for: a dataset of these users, or the files of these records of one user."""

    dataset: str
    users: Sequence[str]
    code: str | None = None
    device_id: str | None = None
    record_ids: Sequence[str] = ()

    def facts(self, client: Client) -> dict[str, str]:
        """Tell in plain words what is asked, without naming anybody."""
        module = MODULES[self.code] if self.code else "all"
        where = client._facts()  # noqa: SLF001 -- not for users, but for this
        return {
            "dataset": self.dataset,
            "users": f"{len(self.users):,}",
            "module": module,
            "source": where.get("endpoint", where["source"]),
            "privacy": privacy.mode(),
        }

    def names(self) -> list[object]:
        """Give who and what is asked for in particular, as far as frames may name them."""
        users = [privacy.pseudonym(user_id, "user") for user_id in self.users]
        return [users, privacy.pseudonym(self.device_id or "", "device"), [*self.record_ids]]

    def units(self, client: Client) -> list[Unit]:
        """Give all units in their order.

        Raises:
            ConfigurationError: The client sees only its own user.
        """
        accounts = [client.for_user(user_id)._account for user_id in self.users]  # noqa: SLF001 -- as above
        if self.dataset == "files":
            of_records = enumerate(self.record_ids)
            return [Unit(number, [accounts[0].files(each)]) for number, each in of_records]
        if self.dataset == "devices":
            return [Unit(number, [account.devices()]) for number, account in enumerate(accounts)]
        codes = [self.code] if self.code else [*MODULES]
        # The only user comes module by module, many come user by user.
        groups = [[code] for code in codes] if len(accounts) == 1 else [codes]
        found: list[Unit] = []
        for account in accounts:
            for group in groups:
                jobs = [
                    account.records(code, self.device_id, is_filtered=self.code is not None)
                    for code in group
                ]
                labels = [DeviceLabels(account, jobs, self.device_id)]
                found.append(Unit(len(found), jobs, labels))
        return found


def run(client: Client, question: Question, parts: Parts) -> list[str]:
    """Fetch into the parts whatever they lack, and tell what failed.

    Raises:
        KooDriveError: Nothing came at all.
        Interrupted: Ctrl-C; what came is kept.
    """
    units = question.units(client)
    done = parts.finished()
    left = [unit for unit in units if unit.number not in done]
    size = 1 if len(question.users) == 1 and question.dataset == "records" else _UNITS_AT_A_TIME
    batches = [left[start : start + size] for start in range(0, len(left), size)]
    failures: list[str] = []
    error: KooDriveError | None = None
    in_a_row = 0
    try:
        with _bar(
            client, question, len(units), done, is_one=len(batches) == 1 or size == 1
        ) as tick:
            for batch in batches:
                error = _fetch(client, question, batch, parts, done)
                tick()
                failed = [text for unit in batch for text in unit.failures()]
                failures += failed or ([str(error)] if error else [])
                in_a_row = in_a_row + 1 if error else 0
                if in_a_row == _MOST_IN_A_ROW or _concerns_all(error, question):
                    break
    except KeyboardInterrupt:
        raise Interrupted(
            f"Interrupted: {len(done):,} of {len(units):,} parts are in {parts.folder}, and the "
            "same command goes on from there."
        ) from None
    if error and not done:
        raise error
    return failures or (["not asked for any more"] if len(done) < len(units) else [])


@contextmanager
def _bar(
    client: Client, question: Question, total: int, done: set[int], *, is_one: bool
) -> Iterator[Callable[[], None]]:
    """Show one bar for all, unless there is one for the pages of each module anyway."""
    if is_one:
        yield lambda: None
        return
    wanted = client._service.progress  # noqa: SLF001 -- as above
    what = f"backup {question.dataset}"
    with progress.bar(wanted, what, "", total, lambda: len(done)) as tick, progress.hidden():
        yield tick


def _concerns_all(error: KooDriveError | None, question: Question) -> bool:
    is_refused = isinstance(error, AuthenticationError) and len(question.users) == 1
    return is_refused or isinstance(error, ConnectionFailedError)


def _fetch(
    client: Client, question: Question, batch: list[Unit], parts: Parts, done: set[int]
) -> KooDriveError | None:
    """Ask for these units, keep those that came, and give the error if nothing did."""
    what = f"backup {question.dataset}"

    def frame_of(chosen: list[Unit]) -> FrameFetch:
        return FrameFetch(
            [job for unit in chosen for job in unit.jobs],
            what,
            "collect",
            [one for unit in chosen for one in unit.labels],
            dataset=question.dataset,
            user_id="",
        )

    service = client._service  # noqa: SLF001 -- as above
    try:
        frame = frame_of(batch).begin(service)
    except KooDriveError as error:
        return error
    whole = [unit for unit in batch if unit.is_done()]
    if whole:
        # Of a user of whom a part failed, nothing is kept: what is in the file is whole.
        kept = frame if len(whole) == len(batch) else frame_of(whole).begin(service)
        parts.add(kept, [unit.number for unit in whole])
        done.update(unit.number for unit in whole)
    return None
