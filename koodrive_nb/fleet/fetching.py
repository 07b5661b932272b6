"""Many users in memory: the records and devices of all of them, and how each user went.

Source: "Listing Backup Records", "Listing Bound Devices", once for each X-User-Id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from koodrive_nb import decode, device_labels, privacy
from koodrive_nb.client import Client
from koodrive_nb.columns import MODULES
from koodrive_nb.device_labels import DeviceLabels
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.fetching import Fetch, brought, told, untraced
from koodrive_nb.fleet import users
from koodrive_nb.snapshots import layouts
from koodrive_nb.streams import ATTRS, Stream, keep
from koodrive_nb.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Literal

    from koodrive_nb.jobs import Job

__all__ = ["Fleet", "fetch"]


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Fleet:
    """What many users have: `records` and `devices` as `kd.schema` describes them, and `users`.

    `users` has one row a user, in the order asked: `user_id`, `outcome` (complete; partial, where
    only part of it came; failed, where nothing did), `n_devices` and `n_records` (missing where a
    listing failed and nothing came of it), `fetched_at` (when the first of it came), `error`
    (missing without one), then the columns that the list of users came with.
    """

    records: pd.DataFrame
    devices: pd.DataFrame
    users: pd.DataFrame

    def __repr__(self) -> str:
        counts = self.users["outcome"].value_counts()
        lost = [f"{counts[name]:,} {name}" for name in layouts.OUTCOMES[1:] if counts[name]]
        state = f"incomplete: {', '.join(lost)}" if lost else "complete"
        return (
            f"Fleet({counted(len(self.users), 'user')}, {counted(len(self.devices), 'device')}, "
            f"{counted(len(self.records), 'record')}, {state})"
        )


def fetch(
    client: Client,
    user_ids: Iterable[str] | pd.DataFrame,
    *,
    errors: Literal["raise", "collect"] = "raise",
) -> Fleet:
    """Fetch the devices and every backup record of many users, all over the client's connections.

    `user_ids` is a list or a column of ids, or a DataFrame with a column `user_id`, whose other
    columns (region, plan) are carried into `users`; those named as a column of `users` are left
    out. An id that is repeated counts once, with its first row. A user who is refused or fails
    stops nobody else: with `errors="raise"` the others are in the error's `frame`, a `Fleet`, and
    with "collect" they are returned. Only after more than fifty refused users in a row, none
    answered in between, the credentials are taken to be refused, and no more is asked.

    Source: "Listing Backup Records", GET /koodrive/ose/v1/backup/record, and "Listing Bound
    Devices", GET /koodrive/ose/v1/backup/device.

    Raises:
        InvalidParameterError: An id is missing, not text, or not fit for a header.
        ConfigurationError: The client has a token, which sees only its own user.
        IncompleteError: Part of it failed.
        ConnectionFailedError: Nothing came, since the service did not answer.
        ServiceError: Nothing came, since the service refused.
        ProtocolError: Nothing came, since the answers are not what the API documents.
    """
    if not isinstance(client, Client):
        raise InvalidParameterError(
            "fetch() takes a client first, as in kd.fleet.fetch(kd.connect(), user_ids)."
        )
    asked = _asked(client, users.listed(user_ids, "fetch"), errors)
    return asked.begin(client._service)  # noqa: SLF001 -- not for users, but for this


@dataclass(slots=True, repr=False)
class _FleetFetch(Fetch[Fleet]):
    """What is asked for one fleet. `listed` is the table of its users, each once."""

    listed: pd.DataFrame = field(kw_only=True)

    def whole(self, *, is_last: bool) -> Fleet:
        """Make the fleet of what came."""
        records = self._frame("records", is_last=is_last)
        devices = self._frame("devices", is_last=is_last)
        return Fleet(records, devices, self._users(records, devices))

    def protected(self, whole: Fleet) -> Fleet:
        """Protect the three frames."""
        return Fleet(
            privacy.protect(whole.records),
            privacy.protect(whole.devices),
            privacy.protect_users(whole.users),
        )

    def size(self, whole: Fleet) -> str:
        """Tell the records and devices."""
        return f"{counted(len(whole.records), 'record')}, {counted(len(whole.devices), 'device')}"

    def _frame(self, dataset: str, *, is_last: bool) -> pd.DataFrame:
        jobs = [job for job in self.jobs if job.stream.dataset == dataset]
        # Without users there is nothing to ask, and yet a frame.
        nothing = Stream(self.source, "", dataset, ended="single answer")
        parts = brought(jobs, is_last=is_last) or [(nothing, [])]
        frame = decode.to_frame(parts, dataset)
        streams = [stream for stream, _ in parts]
        if dataset == "records":
            device_labels.put_on(frame, self.labels)
            streams += [stream for one in self.labels for stream in one.streams()]
        frame.attrs[ATTRS] = keep(streams)
        return frame

    def _users(self, records: pd.DataFrame, devices: pd.DataFrame) -> pd.DataFrame:
        jobs: dict[str, list[Job]] = {user_id: [] for user_id in self.listed["user_id"]}
        for job in self.asked():
            jobs[job.stream.user_id].append(job)
        n_devices, n_records = (
            frame["user_id"].value_counts().to_dict() for frame in (devices, records)
        )
        rows = [
            _row(user_id, mine, n_devices.get(user_id, 0), n_records.get(user_id, 0))
            for user_id, mine in jobs.items()
        ]
        found = pd.DataFrame(rows, columns=list(layouts.USER_TYPES)).astype(layouts.USER_TYPES)
        others = self.listed.drop(columns=[*layouts.USER_TYPES], errors="ignore")
        table = pd.concat([found, others], axis=1)
        is_complete = bool((table["outcome"] == "complete").all())
        table.attrs = {ATTRS: {"source": self.source, "complete": is_complete}}
        return table


def _asked(client: Client, listed: pd.DataFrame, errors: str) -> _FleetFetch:
    # Apart from who begins it, whose variables tracebacks may show.
    jobs: list[Job] = []
    labels = []
    for user_id in listed["user_id"]:
        account = client.for_user(user_id)._account  # noqa: SLF001 -- as above
        mine = [account.devices(), *map(account.records, MODULES)]
        jobs += mine
        labels.append(DeviceLabels(account, mine))
    what = f"backups of {counted(len(listed), 'user')}"
    return _FleetFetch(jobs, what, errors, labels, listed=listed)


def _row(user_id: str, jobs: Sequence[Job], n_devices: int, n_records: int) -> tuple[object, ...]:
    """Tell how one user went, in the order of the columns."""
    failures = [failure for job in jobs for failure in job.stream.failures]
    came = any(job.stream.pages for job in jobs)
    times = [job.stream.fetched_at for job in jobs if job.stream.fetched_at is not None]
    has_all = {
        dataset: all(job.is_done for job in jobs if job.stream.dataset == dataset)
        for dataset in ("devices", "records")
    }
    return (
        user_id,
        ("partial" if came else "failed") if failures else "complete",
        n_devices if n_devices or has_all["devices"] else None,
        n_records if n_records or has_all["records"] else None,
        min(times, default=None),
        told([untraced(failure) for failure in failures], 1) if failures else None,
    )
