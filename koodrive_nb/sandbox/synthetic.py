"""Who the sandbox serves: one user with devices in every condition, one with a crowd, and a fleet.

Everything is as of one fixed instant and comes out the same on every machine. The record and the
devices that the API's pages print are served as printed.

Source: examples of "Viewing Backup Records" and "Listing Bound Devices".
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import chain
from statistics import NormalDist
from typing import TYPE_CHECKING, Protocol

from koodrive_nb.columns import MODULES
from koodrive_nb.sandbox.crowd import Crowd
from koodrive_nb.sandbox.fleet import draw
from koodrive_nb.sandbox.habits import checked_seed, preset_of
from koodrive_nb.sandbox.ids import AS_OF, compact, mint, minted_at, text
from koodrive_nb.sandbox.owners import draw_users, milliseconds
from koodrive_nb.sandbox.wire import FleetUser

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from koodrive_nb.sandbox.fleet import Fleet
    from koodrive_nb.sandbox.habits import Preset

DEFAULT_USER = "1505084218764547200"
CROWD_USER = "crowd"

_DOCUMENTED_RECORD = (
    rb'{"recordId":"1842862763295184641","moduleCode":"101","status":0,'
    rb'"properties":"{\"test\":\"123\"}","version":1,"createTime":"2025-12-17T07:59:20.752Z"}'
)


def as_of() -> datetime:
    """Give the instant that the synthetic fleet was fetched at."""
    return AS_OF


class User(Protocol):
    """What the service knows of one user: rows as JSON text."""

    def devices(self) -> Sequence[bytes]:
        """Give every bound device."""

    def device(self, device_id: str) -> bytes | None:
        """Give one device, or None."""

    def record(self, record_id: str) -> bytes | None:
        """Give one record, or None."""

    def page(
        self, module: str, device_id: str | None, start: int, stop: int
    ) -> tuple[Sequence[bytes], int]:
        """Give the records from `start` to `stop` of a listing, and how many it has in all."""


def users(
    preset: str | Preset = "small", seed: int = 0, as_of: datetime = AS_OF
) -> Mapping[str, User]:
    """Give the sandbox's users by their id, those of the fleet as they were at an instant.

    Raises:
        InvalidParameterError: There is no such preset, or the seed is no whole number.
    """
    return _Users(preset_of(preset), checked_seed(seed), milliseconds(as_of))


class _Users(Mapping[str, User]):
    """The two users who have always been there, and those of a fleet, drawn when it is needed."""

    def __init__(self, preset: Preset, seed: int, as_of: int) -> None:
        self._preset = preset
        self._seed = seed
        self._as_of = as_of
        self._known: Mapping[str, User] = {DEFAULT_USER: _Household(), CROWD_USER: Crowd()}

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        ids = draw_users(self._preset, self._seed).ids
        return {str(identity): number for number, identity in enumerate(ids)}

    @cached_property
    def _fleet(self) -> Fleet:
        return draw(self._preset, self._seed, self._as_of)

    def __getitem__(self, user_id: str) -> User:
        if user_id in self._known:
            return self._known[user_id]
        number = self._numbers[user_id]
        return FleetUser(self._fleet, number)

    def __contains__(self, user_id: object) -> bool:
        return user_id in self._known or user_id in self._numbers

    def __iter__(self) -> Iterator[str]:
        return chain(self._known, self._numbers)

    def __len__(self) -> int:
        return len(self._known) + len(self._numbers)


@dataclass(frozen=True)
class _Habit:
    """How one device backs up one module."""

    module: str
    every_days: float
    median_s: float
    since_days: float
    until_days: float = 0.0
    pause_days: tuple[float, float] | None = None
    abandons: float = 0.0
    keeps: int = 999


@dataclass(frozen=True)
class _Plan:
    """A device, when it was bound (days before the fleet's instant) and its habits."""

    name: str
    system: str
    bound_days: float
    habits: tuple[_Habit, ...]
    machine_code: str
    device_id: str | None = None


_PLANS = (
    _Plan(
        "Magic v3",
        "android",
        93.09,
        (_Habit("101", 1, 75, 92), _Habit("102", 7, 6, 92)),
        "20250911",
        "1775406005920779393",
    ),
    # Bound two hours ago: nothing is wrong yet.
    _Plan("Magic-v5", "android", 0.09, (), "20251217", "1842812272691451648"),
    # Its newest album backup has been open for three days.
    _Plan(
        "Mate 60 Pro",
        "HarmonyOS",
        80,
        (_Habit("101", 2, 110, 79, 3.4), _Habit("102", 1, 6, 79)),
        "9F2C77A0E1",
    ),
    # Silent for four weeks, then back.
    _Plan(
        "MatePad 11",
        "HarmonyOS",
        86,
        (
            _Habit("101", 1, 60, 85, pause_days=(51, 23)),
            _Habit("100", 7, 200, 70, pause_days=(51, 23)),
        ),
        "41D0B6C3FE",
    ),
    # Often gives up: a later attempt shows that the earlier one was abandoned.
    _Plan("iPhone 15", "iOS 18_2", 75, (_Habit("101", 1.5, 140, 74, abandons=0.2),), "A1B2C3D4E5"),
    # The same name again, and nothing since the end of November.
    _Plan("iPhone 15", "iOS 17_6", 88, (_Habit("101", 2, 90, 87, 18.5),), "7C61D2A9B4"),
    _Plan(
        "iPad Air",
        "iPadOS 18",
        64,
        (_Habit("101", 3, 80, 63), _Habit("102", 7, 5, 63)),
        "0E7F5A1C22",
    ),
    # Keeps the newest copies only; a backup is running.
    _Plan(
        "MateBook D16",
        "Windows 11",
        70,
        (_Habit("100", 1, 420, 69, keeps=25),),
        "5D3E9B8A10",
    ),
    _Plan("Office PC", "Windows 11", 90, (_Habit("100", 5, 900, 89, keeps=6),), "C4A8F01B77"),
    # Bound six weeks ago and never backed up.
    _Plan("nova 12", "Android 14", 43, (), "B7E2D94F60"),
    # Retired in October: every copy of it waits for deletion.
    _Plan("P40 lite", "Android 10", 92, (_Habit("102", 3, 7, 91, 60, keeps=0),), "2A9C4E6D81"),
)
_RUNNING = ("MateBook D16", timedelta(minutes=12))
_STUCK = "Mate 60 Pro"


class _Household:
    """The default user: a handful of devices, each with a story."""

    def __init__(self) -> None:
        made = [_device(plan, number) for number, plan in enumerate(_PLANS)]
        self._devices = {device["deviceId"]: compact(device) for device in made}
        self._rows: dict[str, list[tuple[str | None, bytes]]] = {code: [] for code in MODULES}
        self._by_id: dict[str, bytes] = {}
        for plan, device in zip(_PLANS, made, strict=True):
            for habit in plan.habits:
                for row in _backups(plan, habit, device):
                    self._add(habit.module, device["deviceId"], str(row["recordId"]), compact(row))
        self._add("101", None, "1842862763295184641", _DOCUMENTED_RECORD)

    def _add(self, module: str, device_id: str | None, record_id: str, row: bytes) -> None:
        self._rows[module].append((device_id, row))
        self._by_id[record_id] = row

    def devices(self) -> Sequence[bytes]:
        return list(self._devices.values())

    def device(self, device_id: str) -> bytes | None:
        return self._devices.get(device_id)

    def record(self, record_id: str) -> bytes | None:
        return self._by_id.get(record_id)

    def page(
        self, module: str, device_id: str | None, start: int, stop: int
    ) -> tuple[Sequence[bytes], int]:
        rows = [row for owner, row in self._rows[module] if device_id in {None, owner}]
        return rows[start:stop], len(rows)


def _device(plan: _Plan, number: int) -> dict[str, str]:
    bound = AS_OF - timedelta(days=plan.bound_days, seconds=2711 * number % 9000)
    device_id = plan.device_id or mint(bound, 4096 + number)
    return {
        "deviceId": device_id,
        "machineCode": plan.machine_code,
        "deviceOS": plan.system,
        "deviceName": plan.name,
        # The printed devices were bound when their ids say.
        "createTime": text(minted_at(device_id) if plan.device_id else bound),
    }


def _backups(plan: _Plan, habit: _Habit, device: Mapping[str, str]) -> list[dict[str, object]]:
    # Only random() is promised to give the same numbers on every version of Python.
    draw = random.Random(f"{plan.machine_code} {habit.module}").random  # noqa: S311 -- no secret
    starts = []
    days = habit.since_days
    while days > max(habit.until_days, 0.02):
        pause = habit.pause_days
        if pause is None or not pause[1] < days < pause[0]:
            # Most back up at night, when they lie on the charger.
            hour = (16.5 if draw() < 0.7 else 12) + 3 * draw()  # noqa: PLR2004 -- UTC, night in China
            start = (AS_OF - timedelta(days=days)).replace(hour=0, minute=0)
            start += timedelta(hours=hour, milliseconds=int(draw() * 60_000))
            starts.append(min(start, AS_OF - timedelta(minutes=40)))
        days -= habit.every_days * (0.8 + 0.4 * draw())
    if plan.name == _RUNNING[0]:
        starts.append(AS_OF - _RUNNING[1])
    rows = []
    for number, start in enumerate(starts):
        is_newest = number == len(starts) - 1
        spread = NormalDist().inv_cdf(0.02 + 0.96 * draw())
        first = 8 if number == 0 else 1
        seconds = habit.median_s * first * math.exp(0.6 * spread)
        end: datetime | None = start + timedelta(milliseconds=int(1000 * seconds))
        abandoned = draw() < habit.abandons and not is_newest
        if abandoned or (
            is_newest and plan.name in {_RUNNING[0], _STUCK} and habit.module != "102"
        ):
            end = None
        dropped = number < len(starts) - habit.keeps
        files = int(3 + 40 * draw())
        row: dict[str, object] = {
            "recordId": mint(start, number),
            "moduleCode": habit.module,
            "status": 2 if dropped else 0 if end is None else 1,
            "properties": compact({"fileCount": files, "trigger": "auto"}).decode(),
            "version": 1,
            "createTime": text(start),
        }
        if end is not None:
            row["endTime"] = text(end)
        rows.append(row | {"deviceInfo": dict(device)})
    return rows
