"""The device of records that do not name theirs, learnt from listings by device.

The listing filters by device, so what it brings for one belongs to it. Whether it does filter is
not taken on trust: a device that cannot exist is asked for first.

Source: "Listing Backup Records", query parameter deviceId.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import pandas as pd

from koodrive_nb import decode, privacy
from koodrive_nb.columns import STRING, columns
from koodrive_nb.errors import NotFoundError, ProtocolError, ServiceError
from koodrive_nb.jobs import run_all
from koodrive_nb.streams import Stream, merged

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Sequence

    import pyarrow as pa

    from koodrive_nb.calls import Account
    from koodrive_nb.jobs import Job, Service

_NO_DEVICE = "0"


class _Device(msgspec.Struct):
    id: int | str | None = msgspec.field(default=None, name="deviceId")


class _Owned(msgspec.Struct):
    device: _Device | None = msgspec.field(default=None, name="deviceInfo")


_OWNED = msgspec.json.Decoder(_Owned)
_UNPROVEN = {"filter ignored", "filter unproven"}


@dataclass(slots=True, repr=False)
class DeviceLabels:
    """What has been learnt about the devices of one user's records, and what is left to ask.

    `wanted` are the listings of these records, and that of the devices where it is wanted anyway.
    `only` is the device that the records themselves were asked for by, if they were.
    """

    account: Account
    wanted: list[Job]
    only: str | None = None
    devices: Job | None = None
    probes: list[Job] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    owners: dict[str, str] = field(default_factory=dict)

    def lacking(self) -> dict[str, set[str]]:
        """Give the records without a device by module, once all records have come."""
        listings = [job for job in self.wanted if job.stream.dataset == "records"]
        if not all(job.is_done for job in listings):
            return {}
        return {
            str(job.parameters["moduleCode"]): found
            for job in listings
            if (found := _without_device(job.tables))
        }

    def proof(self, codes: Sequence[str]) -> list[Job]:
        """Ask for the devices, and for one that cannot exist, in the modules of these codes."""
        if self.devices is None:
            listed = (job for job in self.wanted if job.stream.dataset == "devices")
            self.devices = next(listed, None) or self.account.devices()
            self.probes = [self.account.labels(code, _NO_DEVICE) for code in codes]
            for probe in self.probes:
                probe.only_if_any = True
        return [self.devices, *self.probes]

    def listings(self, lacking: dict[str, set[str]]) -> list[Job]:
        """Ask for the records of each device, if it is proven that the service filters by it.

        Raises:
            ProtocolError: It is not, though the records were asked for by device.
        """
        for probe in self.probes:
            _take_refusal(probe)
        if self.devices is None or not all(job.is_done for job in (self.devices, *self.probes)):
            return []
        if any(probe.stream.ended in _UNPROVEN for probe in self.probes):
            if self.only is not None:
                name = privacy.pseudonym(self.only, "device")
                raise ProtocolError(
                    f"Asked for device {name}, the service brought records that name none, and it "
                    "did not filter, or does not show that it does: fetch without device_id= and "
                    "select afterwards."
                )
        elif self.only is not None:
            self.owners = dict.fromkeys(set().union(*lacking.values()), self.only)
        else:
            self.jobs = self.jobs or [
                self.account.labels(code, device_id)
                for device_id in _column(self.devices.tables, "device_id")
                for code in lacking
            ]
        return self.jobs

    def conclude(self, lacking: dict[str, set[str]]) -> None:
        """Take from the listings by device which record is of which device."""
        if not self.jobs:
            return
        missing = set().union(*lacking.values())
        claims: dict[str, set[str]] = {}
        for job in self.jobs:
            if isinstance(job.error, NotFoundError):
                # A device without backups, said in another way.
                job.error = None
                job.stream.ended = "no cursor"
            device_id = str(job.parameters["deviceId"])
            named = zip(
                _column(job.tables, "record_id"), _column(job.tables, "device_id"), strict=True
            )
            for identity, owner in named:
                if identity in missing and owner in {None, device_id}:
                    claims.setdefault(identity, set()).add(device_id)
        # What two devices claim is of none of them for sure.
        self.owners = {
            identity: owners.pop() for identity, owners in claims.items() if len(owners) == 1
        }

    def asked(self) -> list[Job]:
        """Give the jobs that were needed, none where every record named its device."""
        return [self.devices, *self.probes, *self.jobs] if self.devices else []

    def streams(self) -> list[Stream]:
        """Give one line for the devices, and one for all listings by device of a module."""
        lines: dict[tuple[str, str | None], list[Stream]] = {}
        for job in self.asked():
            lines.setdefault((job.stream.dataset, job.stream.module), []).append(job.stream)
        return [merged(line) for line in lines.values()]


def names_devices(rows: Iterable[bytes]) -> bool:
    """Tell whether each row of JSON names its device for sure, without reading all of it."""
    try:
        return all((device := _OWNED.decode(row).device) and device.id is not None for row in rows)
    except (msgspec.DecodeError, RecursionError):
        return False


def learn(labels: Sequence[DeviceLabels], service: Service, stop: threading.Event) -> None:
    """Find out the device of every record that lacks it, of all these users at once.

    Raises:
        ProtocolError: As `DeviceLabels.listings`.
    """
    needed = [(one, found) for one in labels if (found := one.lacking())]
    if not needed:
        return
    proofs = [job for one, lacking in needed for job in one.proof([*lacking])]
    run_all(proofs, service, stop, "devices")
    listings = [job for one, lacking in needed for job in one.listings(lacking)]
    run_all(listings, service, stop, "records by device")
    for one, lacking in needed:
        one.conclude(lacking)


def put_on(frame: pd.DataFrame, labels: Sequence[DeviceLabels]) -> None:
    """Write the devices that were learnt into the frame of records."""
    learnt = [(one, one.devices) for one in labels if one.owners and one.devices is not None]
    if not learnt:
        return
    owners = pd.DataFrame(
        [
            (one.account.user_id, identity, owner)
            for one, _ in learnt
            for identity, owner in one.owners.items()
        ],
        columns=["user_id", "record_id", "device_id"],
        dtype=STRING,
    )
    devices = decode.to_frame([(job.stream, [*job.tables]) for _, job in learnt], "devices")
    # What else is told of devices, such as when they were fetched, is not the record's own.
    told = [column.name for column in columns("devices") if column.api_field]
    nameless = frame.loc[frame["device_id"].isna(), ["user_id", "record_id"]]
    known = nameless.merge(owners, "left").merge(devices[["user_id", *told]], "left")
    known = known.set_axis(nameless.index).dropna(subset="device_id")
    for name in told:
        frame.loc[known.index, name] = known[name]
    frame.loc[known.index, "device_source"] = "query"


def _take_refusal(probe: Job) -> None:
    """Take a refusal of the device that does not exist for what it tells.

    Not found is as good as no rows. Any other refusal proves nothing about the filter.
    """
    error = probe.error
    if isinstance(error, ServiceError) and not error.retryable:
        probe.error = None
        is_not_found = isinstance(error, NotFoundError)
        probe.stream.ended = "no cursor" if is_not_found else "filter unproven"


def _without_device(tables: Sequence[pa.Table]) -> set[str]:
    found: set[str] = set()
    for table in tables:
        if table["device_id"].null_count:
            rows = table.filter(table["device_id"].is_null())
            found.update(rows["record_id"].to_pylist())
    return found


def _column(tables: Sequence[pa.Table], name: str) -> list[str]:
    return [value for table in tables for value in table[name].to_pylist()]
