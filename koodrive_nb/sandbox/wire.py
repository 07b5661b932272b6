"""A user of the synthetic fleet as the service tells of them: rows as JSON text, dirt included."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import numpy as np

from koodrive_nb.columns import MODULES
from koodrive_nb.sandbox import properties
from koodrive_nb.sandbox.fleet import CLOCKS, DIRT, NO_STATUS, NO_TIME
from koodrive_nb.sandbox.ids import compact, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from koodrive_nb.sandbox.fleet import Fleet

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CHINA = timezone(timedelta(hours=8))
_CODES = list(MODULES)
_DUPLICATE = DIRT.index("duplicate")


class FleetUser:
    """One user, cut out of the fleet; rows are written when they are asked for.

    A listing by device finds the records that do not name it as well, unless it was unbound and
    they no longer belong to any.
    """

    def __init__(self, fleet: Fleet, number: int) -> None:
        self._fleet = fleet
        mine = np.searchsorted(fleet.devices.user, [number, number + 1])
        self._devices = np.arange(*mine)
        self._records = np.arange(*np.searchsorted(fleet.records.device, mine))

    def devices(self) -> Sequence[bytes]:
        """Give every device that is bound."""
        bound = self._devices[~self._fleet.devices.unbound[self._devices]]
        return [compact(self._device(device)) for device in bound]

    def device(self, device_id: str) -> bytes | None:
        """Give one device that is bound, or None."""
        found = self._places(device_id)
        if not len(found) or self._fleet.devices.unbound[found[0]]:
            return None
        return compact(self._device(found[0]))

    def record(self, record_id: str) -> bytes | None:
        """Give one record as it is now, or None."""
        found = self._records[self._fleet.records.ids[self._records].astype(str) == record_id]
        return self._rows(found, np.zeros(1, bool))[0] if len(found) else None

    def page(
        self, module: str, device_id: str | None, start: int, stop: int
    ) -> tuple[Sequence[bytes], int]:
        """Give a part of a listing, in order of time, and how many rows the whole has."""
        records = self._fleet.records
        rows = self._records[records.module[self._records] == _CODES.index(module)]
        if device_id is not None:
            of = records.device[rows]
            is_known = records.names_device[rows] | ~self._fleet.devices.unbound[of]
            rows = rows[is_known & np.isin(of, self._places(device_id))]
        rows = rows[np.argsort(records.start[rows], kind="stable")]
        # Of a record that is listed twice, the copy that comes first is older.
        rows = np.repeat(rows, 1 + (records.dirt[rows] == _DUPLICATE))
        is_stale = np.zeros(len(rows), bool)
        is_stale[:-1] = rows[:-1] == rows[1:]
        return self._rows(rows[start:stop], is_stale[start:stop]), len(rows)

    def _places(self, device_id: str) -> NDArray[np.int64]:
        ids = self._fleet.devices.ids[self._devices].astype(str)
        return self._devices.take(np.flatnonzero(ids == device_id))

    def _device(self, place: np.int64) -> dict[str, str]:
        devices = self._fleet.devices
        return {
            "deviceId": str(devices.ids[place]),
            "machineCode": devices.machine_code[place],
            "deviceOS": devices.spelling[place],
            "deviceName": devices.name[place],
            "createTime": _written(devices.bound_at[place], "utc"),
        }

    def _rows(self, rows: NDArray[np.int64], is_stale: NDArray[np.bool_]) -> list[bytes]:
        told = properties.texts(self._fleet, rows).to_pylist()
        return [
            self._row(row, told_of_it, is_old)
            for row, told_of_it, is_old in zip(rows, told, is_stale, strict=True)
        ]

    def _row(self, place: np.int64, told: str | None, is_stale: bool) -> bytes:  # noqa: FBT001 -- private
        records = self._fleet.records
        clock = CLOCKS[records.clock[place]]
        status = None if records.status[place] == NO_STATUS else int(records.status[place])
        row: dict[str, object] = {
            "recordId": str(records.ids[place]),
            "moduleCode": _CODES[records.module[place]],
            "status": 0 if is_stale else status,
        }
        if told is not None:
            row["properties"] = told
        row |= {"version": 1, "createTime": _written(records.start[place], clock)}
        if records.end[place] != NO_TIME and not is_stale:
            row["endTime"] = _written(records.end[place], clock)
        if records.names_device[place]:
            row["deviceInfo"] = self._device(records.device[place])
        return compact(row)


def _written(milliseconds: np.int64, clock: str) -> str:
    """Write an instant as the client's clock does."""
    instant = _EPOCH + timedelta(milliseconds=int(milliseconds))
    if clock == "china":
        return text(instant.astimezone(_CHINA))
    return text(instant) if clock == "utc" else text(instant).replace(".000Z", "Z")
