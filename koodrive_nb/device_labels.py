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
from koodrive_nb.errors import AuthenticationError, ProtocolError, ServiceError
from koodrive_nb.jobs import run_all
from koodrive_nb.streams import Stream, merged

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import pyarrow as pa

    from koodrive_nb.calls import Account
    from koodrive_nb.jobs import Job, Service

_NO_DEVICE = "0"
_DEVICE_COLUMNS = (
    "device_id",
    "device_name",
    "device_os",
    "machine_code",
    "device_create_time",
)


@dataclass(slots=True)
class DeviceLabels:
    """What has been learnt about the devices of one user's records, and what is left to ask.

    `only` is the device that the records themselves were asked for by, if they were.
    """

    account: Account
    only: str | None
    devices: Job | None = None
    probe: Job | None = None
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
        if self.devices is None or self.probe is None:
            self.devices = self.account.devices()
            self.probe = self.account.labels(next(iter(lacking)), _NO_DEVICE)
            self.probe.max_pages = 1
        run_all([self.devices, self.probe], service, threading.Event(), "devices")
        _take_refusal_for_nothing(self.probe)
        if not (self.devices.is_done and self.probe.is_done):
            return
        if any(map(len, self.probe.tables)):
            if self.only is not None:
                raise ProtocolError(
                    f"Asked for device {self.only}, the service brought records that name none, "
                    "and it does not filter: fetch without device_id= and select afterwards."
                )
            self.probe.stream.ended = "filter ignored"
            return
        self.probe.stream.ended = "no cursor"
        if self.only is not None:
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
        for job in self.jobs or []:
            for identity in missing.intersection(_column(job.tables, "record_id")):
                self.owners[identity] = str(job.parameters["deviceId"])

    def put_on(self, frame: pd.DataFrame) -> None:
        """Write the devices that were learnt into the frame of records."""
        if not self.owners or self.devices is None:
            return
        devices = decode.to_frame([(self.devices.stream, [*self.devices.tables])], "devices")
        by_id = devices.set_index("device_id", drop=False)
        rows = frame["device_id"].isna() & frame["record_id"].isin(list(self.owners))
        owner = frame.loc[rows, "record_id"].map(self.owners)
        for name in _DEVICE_COLUMNS:
            frame.loc[rows, name] = owner.map(by_id[name])
        frame.loc[rows, "device_id"] = owner
        frame.loc[rows, "device_source"] = "query"

    def asked(self) -> list[Job]:
        """Give the jobs that were needed, none where every record named its device."""
        return [job for job in (self.devices, self.probe, *(self.jobs or [])) if job is not None]

    def streams(self) -> list[Stream]:
        """Give one line for the devices, and one for all listings by device of a module."""
        lines: dict[tuple[str, str | None], list[Stream]] = {}
        for job in self.asked():
            lines.setdefault((job.stream.dataset, job.stream.module), []).append(job.stream)
        return [merged(line) for line in lines.values()]


def _take_refusal_for_nothing(probe: Job) -> None:
    """Take it as an answer if the service refuses a device that does not exist."""
    error = probe.error
    is_final = isinstance(error, ServiceError) and not error.retryable
    if is_final and not isinstance(error, AuthenticationError):
        probe.error = None
        probe.stream.ended = "no cursor"


def _without_device(tables: Sequence[pa.Table]) -> set[str]:
    found: set[str] = set()
    for table in tables:
        if table["device_id"].null_count:
            rows = table.filter(table["device_id"].is_null())
            found.update(rows["record_id"].to_pylist())
    return found


def _column(tables: Sequence[pa.Table], name: str) -> list[str]:
    return [value for table in tables for value in table[name].to_pylist()]
