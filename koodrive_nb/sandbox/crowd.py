"""A user with a million records, each computed when it is asked for."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from koodrive_nb.sandbox.ids import AS_OF, LOW_BITS, mint, text

if TYPE_CHECKING:
    from collections.abc import Sequence

_DIGITS = re.compile(r"[0-9]{1,19}")
_DEVICES = 10_000
# Backups of each device, and days between them; in all a million records.
_MODULES = {"100": (20, 4.5), "101": (45, 2.0), "102": (35, 2.5)}


class Crowd:
    """A user with a million records, each computed when it is asked for."""

    def __init__(self) -> None:
        self._first: dict[str, int] = {}
        total = 0
        for module, (backups, _) in _MODULES.items():
            self._first[module] = total
            total += backups * _DEVICES

    def devices(self) -> Sequence[bytes]:
        """Give all ten thousand devices."""
        return [self._device(number) for number in range(_DEVICES)]

    def device(self, device_id: str) -> bytes | None:
        """Give one device, computed from the serial number in its id."""
        number = self._number(device_id)
        return None if number is None else self._device(number)

    def record(self, record_id: str) -> bytes | None:
        """Give one record, computed from the serial number in its id."""
        if not _DIGITS.fullmatch(record_id):
            return None
        low = int(record_id) % 2**LOW_BITS
        for module, first in self._first.items():
            backups, _ = _MODULES[module]
            if first <= low < first + backups * _DEVICES:
                identity, row = self._row(module, low - first)
                return row if identity == record_id else None
        return None

    def page(
        self, module: str, device_id: str | None, start: int, stop: int
    ) -> tuple[Sequence[bytes], int]:
        """Give a part of a listing, and how many records the whole has."""
        backups, _ = _MODULES[module]
        if device_id is None:
            total = backups * _DEVICES
            return [self._row(module, i)[1] for i in range(start, min(stop, total))], total
        number = self._number(device_id)
        if number is None:
            return [], 0
        turns = range(start, min(stop, backups))
        return [self._row(module, turn * _DEVICES + number)[1] for turn in turns], backups

    def _device(self, number: int) -> bytes:
        bound = AS_OF - timedelta(days=100, minutes=number)
        return (
            b'{"deviceId":"%s","machineCode":"CROWD%05d","deviceOS":"%s","deviceName":"Phone %d",'
            b'"createTime":"%s"}'
        ) % (
            mint(bound, number).encode(),
            number,
            (b"android", b"HarmonyOS", b"iOS 18_2")[number % 3],
            number,
            text(bound).encode(),
        )

    def _number(self, device_id: str) -> int | None:
        if not _DIGITS.fullmatch(device_id):
            return None
        number = int(device_id) % 2**LOW_BITS
        known = number < _DEVICES
        bound = AS_OF - timedelta(days=100, minutes=number)
        return number if known and mint(bound, number) == device_id else None

    def _row(self, module: str, index: int) -> tuple[str, bytes]:
        turn, number = divmod(index, _DEVICES)
        backups, days = _MODULES[module]
        serial = self._first[module] + index
        chance = serial * 2_654_435_761 % 2**32
        start = AS_OF - timedelta(
            days=days * (backups - 1 - turn),
            minutes=30 + number % 1440,
            milliseconds=chance % 60_000,
        )
        status = 2 if turn < backups // 10 else 0 if chance % 50 == 0 else 1
        identity = mint(start, serial)
        seconds = 5 + chance % 997 / 10
        end = b'"endTime":"%s",' % text(start + timedelta(seconds=seconds)).encode()
        row = (
            b'{"recordId":"%s","moduleCode":"%s","status":%d,"properties":"{}","version":1,'
            b'"createTime":"%s",%s"deviceInfo":%s}'
        ) % (
            identity.encode(),
            module.encode(),
            status,
            text(start).encode(),
            end if status else b"",
            self._device(number),
        )
        return identity, row
