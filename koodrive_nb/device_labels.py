"""The device of records that do not name theirs, learnt from listings by device.

The listing filters by device, so what it brings for one belongs to it. Whether it does filter is
not taken on trust: a device that cannot exist is asked for first.

Source: "Listing Backup Records", query parameter deviceId.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from koodrive_nb import decode
from koodrive_nb.columns import columns
from koodrive_nb.errors import NotFoundError, ProtocolError, ServiceError
from koodrive_nb.jobs import run_all
from koodrive_nb.streams import Stream, merged

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import pyarrow as pa

    from koodrive_nb.calls import Account
    from koodrive_nb.jobs import Job, Service

_NO_DEVICE = "0"
_UNPROVEN = {"filter ignored", "filter unproven"}


@dataclass(slots=True)
class DeviceLabels:
    """What has been learnt about the devices of one user's records, and what is left to ask.

    `only` is the device that the records themselves were asked for by, if they were.
    """

    account: Account
    only: str | None
    devices: Job | None = None
    probes: list[Job] = field(default_factory=list)
    jobs: list[Job] | None = None
    owners: dict[str, str] = field(default_factory=dict)

    def learn(self, wanted: Sequence[Job], service: Service) -> None:
        """Find out the device of every record that lacks it, in what these jobs brought."""
        lacking = {
            str(job.parameters["moduleCode"]): found
            for job in wanted
            if (found := _without_device(job.tables))
        }
        if not lacking:
            return
        if self.devices is None:
            self.devices = self.account.devices()
            self.probes = [self.account.labels(code, _NO_DEVICE) for code in lacking]
            for probe in self.probes:
                probe.only_if_any = True
        run_all([self.devices, *self.probes], service, threading.Event(), "devices")
        for probe in self.probes:
            _take_refusal(probe)
        if not (self.devices.is_done and all(probe.is_done for probe in self.probes)):
            return
        if any(probe.stream.ended in _UNPROVEN for probe in self.probes):
            if self.only is not None:
                raise ProtocolError(
                    f"Asked for device {self.only}, the service brought records that name none, "
                    "and it did not filter, or does not show that it does: fetch without "
                    "device_id= and select afterwards."
                )
        elif self.only is not None:
            self.owners = dict.fromkeys(set().union(*lacking.values()), self.only)
        else:
            self._ask_for_each(lacking, service)

    def _ask_for_each(self, lacking: dict[str, set[str]], service: Service) -> None:
        if self.jobs is None and self.devices is not None:
            self.jobs = [
                self.account.labels(code, device_id)
                for device_id in _column(self.devices.tables, "device_id")
                for code in lacking
            ]
        run_all(self.jobs or [], service, threading.Event(), "records by device")
        missing = set().union(*lacking.values())
        claims: dict[str, set[str]] = {}
        for job in self.jobs or []:
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

    def put_on(self, frame: pd.DataFrame) -> None:
        """Write the devices that were learnt into the frame of records."""
        if not self.owners or self.devices is None:
            return
        devices = decode.to_frame([(self.devices.stream, [*self.devices.tables])], "devices")
        by_id = devices.set_index("device_id")
        rows = frame["device_id"].isna() & frame["record_id"].isin(list(self.owners))
        owner = frame.loc[rows, "record_id"].map(self.owners)
        for column in columns("devices"):
            # The others, such as when the devices were fetched, are the record's own.
            if column.api_field and column.name != "device_id":
                known = by_id[column.name].reindex(owner).set_axis(owner.index)
                frame.loc[rows, column.name] = known
        frame.loc[rows, "device_id"] = owner
        frame.loc[rows, "device_source"] = "query"

    def asked(self) -> list[Job]:
        """Give the jobs that were needed, none where every record named its device."""
        return [self.devices, *self.probes, *(self.jobs or [])] if self.devices else []

    def streams(self) -> list[Stream]:
        """Give one line for the devices, and one for all listings by device of a module."""
        lines: dict[tuple[str, str | None], list[Stream]] = {}
        for job in self.asked():
            lines.setdefault((job.stream.dataset, job.stream.module), []).append(job.stream)
        return [merged(line) for line in lines.values()]


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
