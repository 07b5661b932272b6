"""The calls of the API that are used here, all of them GET, each as a job to be done.

Source: "Viewing Backup Records", "Listing Backup Records", "Listing Bound Devices", "Listing Backup
Files", "Listing Backup Scopes", "Listing Configurations".
"""

from __future__ import annotations

from dataclasses import dataclass

from koodrive_nb import privacy
from koodrive_nb.columns import MAX_PAGE_SIZE, MODULES
from koodrive_nb.jobs import Job
from koodrive_nb.streams import Stream
from koodrive_nb.text import one_line

_BASE = "/koodrive/ose/v1/backup"


@dataclass(frozen=True, slots=True, repr=False)
class Account:
    """Whose account is asked for, at which service."""

    source: str
    user_id: str

    def record(self, record_id: str) -> Job:
        """Ask for one record."""
        path = f"{_BASE}/record/{record_id}"
        return Job(self._stream("records"), f"record {record_id}", path, record_id=record_id)

    def records(
        self,
        code: str,
        device_id: str | None = None,
        *,
        is_filtered: bool = False,
        max_pages: int | None = None,
    ) -> Job:
        """Ask for the records of a module.

        With `is_filtered`, rows of another module are an error.
        """
        job = Job(
            self._stream("records", code),
            f"module {MODULES[code]}",
            f"{_BASE}/record",
            {"moduleCode": code, "pageSize": MAX_PAGE_SIZE},
            expected={"module_code": code} if is_filtered else {},
            max_pages=max_pages,
        )
        if device_id is not None:
            job.parameters["deviceId"] = job.expected["device_id"] = device_id
        return job

    def labels(self, code: str, device_id: str) -> Job:
        """Ask for the records of a module once more, only to learn which are of that device."""
        job = self.records(code, device_id)
        job.stream.labels = True
        # Of a sweep they would be as many as its devices.
        name = privacy.pseudonym(device_id, "device", remember=False)
        job.what = f"{job.what} of device {one_line(name, 40)}"
        job.expected = {}
        return job

    def devices(self) -> Job:
        """Ask for the bound devices."""
        return Job(self._stream("devices"), "devices", f"{_BASE}/device")

    def files(self, record_id: str) -> Job:
        """Ask for the files of one record."""
        return Job(
            self._stream("files", given={"record_id": record_id}),
            f"files of record {record_id}",
            f"{_BASE}/record/{record_id}/files",
            {"pageSize": MAX_PAGE_SIZE},
        )

    def scopes(self, device_id: str, code: str, *, is_filtered: bool = False) -> Job:
        """Ask for what a device backs up of a module."""
        job = self._of_device("scopes", device_id, code, "scope")
        job.expected = {"module_code": code} if is_filtered else {}
        return job

    def configs(self, device_id: str, code: str, *, is_filtered: bool = False) -> Job:
        """Ask for the settings of a module on a device."""
        job = self._of_device("configs", device_id, code, "configs")
        job.expected = {"device_id": device_id} | ({"module_code": code} if is_filtered else {})
        return job

    def _of_device(self, dataset: str, device_id: str, code: str, ending: str) -> Job:
        given = {"device_id": device_id, "module_code": code}
        return Job(
            self._stream(dataset, code, given),
            f"{dataset} of module {MODULES[code]}",
            f"{_BASE}/device/{device_id}/{ending}",
            {"moduleCode": code},
        )

    def _stream(
        self, dataset: str, code: str | None = None, given: dict[str, str] | None = None
    ) -> Stream:
        module = None if code is None else MODULES[code]
        return Stream(self.source, self.user_id, dataset, module, given=given or {})
