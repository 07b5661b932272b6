"""The synthetic fleet as the service holds it: users, devices, and the records it has kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from koodrive_nb.columns import MODULES
from koodrive_nb.sandbox import habits
from koodrive_nb.sandbox.calendars import DAY, SECOND
from koodrive_nb.sandbox.chance import choose, sample, stream
from koodrive_nb.sandbox.owners import NOW, draw_devices, draw_users, minted
from koodrive_nb.sandbox.runs import draw_runs

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from koodrive_nb.sandbox.habits import Preset
    from koodrive_nb.sandbox.owners import Devices, Users
    from koodrive_nb.sandbox.runs import Runs

NO_TIME = np.iinfo(np.int64).min
"""A time that is missing, as numpy and pandas have it."""
NO_STATUS = np.int8(-1)
DIRT = ("", *habits.DIRT, "nameless")
PROPERTIES = ("missing", "empty", "malformed", "json")
CLOCKS = ("utc", "utc_seconds", "china")


@dataclass(frozen=True, slots=True)
class Records:
    """One place per record, each once, those of a device side by side and in order of time.

    `status` is NO_STATUS where the service says null. `device` is always known here;
    `names_device` tells whether the record says it. `clock` is a position in CLOCKS, `properties`
    in PROPERTIES, `incident` in INCIDENTS, `dirt` in DIRT.
    """

    device: NDArray[np.int64]
    module: NDArray[np.int64]
    ids: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    status: NDArray[np.int8]
    names_device: NDArray[np.bool_]
    clock: NDArray[np.integer[Any]]
    properties: NDArray[np.integer[Any]]
    files: NDArray[np.int64]
    size: NDArray[np.int64]
    is_mobile: NDArray[np.bool_]
    stuck: NDArray[np.bool_]
    attempt: NDArray[np.int64]
    incident: NDArray[np.int8]
    dirt: NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Fleet:
    """Who has which devices, and which records the service has of them."""

    users: Users
    devices: Devices
    records: Records


def draw(preset: Preset, seed: int) -> Fleet:
    """Draw a fleet, the same for the same preset and seed."""
    users = draw_users(preset, seed)
    devices = draw_devices(preset, seed, users)
    runs, status = _kept(seed, devices, draw_runs(preset, seed, devices))
    records = _written(preset, seed, devices, runs, status)
    _soil(seed, devices, records)
    _round_times(records)
    return Fleet(users, devices, records)


def _kept(seed: int, devices: Devices, runs: Runs) -> tuple[Runs, NDArray[np.int8]]:
    """Drop what the service has purged, and give the status of the others."""
    chance = stream(seed, "retention")
    status = np.zeros(len(runs.lane), np.int8)
    done = np.flatnonzero(~runs.stuck & (runs.end <= NOW))
    status[done] = 1
    # A copy is one too many from the moment that so many newer ones have ended.
    keeps = np.array([habits.MODULE_HABITS[code].keeps for code in MODULES])
    newer = np.arange(len(done)) + keeps[runs.module[done]]
    place = np.minimum(newer, len(done) - 1)
    surplus = (newer < len(done)) & (runs.lane[done[place]] == runs.lane[done])
    wait = _wait(chance, habits.PURGE_MEAN_DAYS, len(done))
    is_purged = surplus & (runs.end[done[place]] + wait <= NOW)
    # All copies of a device are too many from the moment that it was unbound.
    device = runs.device[done]
    wait = _wait(chance, habits.UNBOUND_PURGE_MEAN_DAYS, len(done))
    is_purged |= devices.unbound_at[device] <= NOW - wait
    status[done[surplus | devices.unbound[device]]] = 2
    old = runs.start < NOW - habits.ABANDONED_AFTER_DAYS * DAY
    given_up = chance.random(len(status)) < habits.ABANDONED_SHARE
    status[runs.stuck & old & given_up] = 2
    kept = np.delete(np.arange(len(status)), done[is_purged])
    return runs.only(kept), status[kept]


def _wait(chance: np.random.Generator, mean_days: float, size: int) -> NDArray[np.int64]:
    return (mean_days * DAY * chance.standard_exponential(size)).astype(np.int64)


def _written(
    preset: Preset, seed: int, devices: Devices, runs: Runs, status: NDArray[np.int8]
) -> Records:
    """Write down what clients say of these runs."""
    chance = stream(seed, "properties")
    size = len(status)
    kind = choose(chance, [habits.NO_PROPERTIES, habits.EMPTY_PROPERTIES], size)
    tells = chance.random(size) >= habits.NO_PROPERTIES + habits.EMPTY_PROPERTIES
    kind[tells] = PROPERTIES.index("json")
    malformed = sample(chance, habits.MALFORMED_PROPERTIES, np.flatnonzero(tells), of=size)
    kind[malformed] = PROPERTIES.index("malformed")
    rate = habits.BYTES_PER_S_MEDIAN * np.exp(
        habits.BYTES_PER_S_SIGMA * chance.standard_normal(size)
    )
    bytes_sent = ((runs.end - runs.start) / SECOND * rate).astype(np.int64)
    of_file = np.array([habits.FILE_BYTES[code] for code in MODULES])[runs.module]
    files = np.clip(bytes_sent / of_file, 1, habits.MOST_FILES).astype(np.int64)
    is_mobile = chance.random(size) < habits.MOBILE_SHARE
    names_device = ~devices.is_nameless[runs.device]
    bound = np.flatnonzero(~devices.unbound[runs.device])
    nameless = sample(chance, habits.NAMELESS_SHARE, bound)
    dirt = np.zeros(size, np.int8)
    if preset.device_info == "absent":
        names_device[:] = False
    else:
        names_device[nameless] = False
        dirt[nameless] = DIRT.index("nameless")
    return Records(
        runs.device,
        runs.module,
        minted(runs.start, runs.lane),
        runs.start,
        np.where(runs.stuck | (runs.end > NOW), NO_TIME, runs.end),
        status,
        names_device,
        choose(
            stream(seed, "clocks"),
            [1 - habits.UTC_SECONDS - habits.CHINA_TIME, habits.UTC_SECONDS, habits.CHINA_TIME],
            size,
        ),
        kind,
        files,
        bytes_sent,
        is_mobile,
        runs.stuck,
        runs.attempt,
        runs.incident,
        dirt,
    )


def _soil(seed: int, devices: Devices, records: Records) -> None:
    """Put every kind of dirt on records of its own: completed, of bound devices, in no incident."""
    chance = stream(seed, "dirt")
    clean = (
        (records.status == 1)
        & (records.dirt == 0)
        & (records.incident == habits.INCIDENTS.index(""))
        & ~devices.unbound[records.device]
    )
    size = len(clean)
    wanted = [max(1, round(share * size)) for share in habits.DIRT.values()]
    drawn = sample(chance, 1, np.flatnonzero(clean), of=sum(wanted))
    rows = dict(zip(habits.DIRT, np.split(drawn, np.cumsum(wanted)[:-1]), strict=True))
    for name, soiled in rows.items():
        records.dirt[soiled] = DIRT.index(name)
    records.end[rows["no_end"]] = NO_TIME
    records.status[rows["status_3"]] = 3
    records.status[rows["status_null"]] = NO_STATUS
    early = rows["ends_before_start"]
    records.end[early] = records.start[early] - _spread(chance, habits.EARLY_S, len(early))
    # A client's clock that is ahead moves the end as well.
    ahead = rows["future"]
    moved = NOW + _spread(chance, habits.AHEAD_S, len(ahead)) - records.start[ahead]
    records.start[ahead] += moved
    records.end[ahead] += moved


def _spread(
    chance: np.random.Generator, seconds: tuple[float, float], size: int
) -> NDArray[np.int64]:
    """Draw milliseconds, as many short ones as long ones."""
    short, long = (float(np.log(value)) for value in seconds)
    return (np.exp(short + (long - short) * chance.random(size)) * SECOND).astype(np.int64)


def _round_times(records: Records) -> None:
    """Cut off the milliseconds where clients write none."""
    rows = np.flatnonzero(records.clock == CLOCKS.index("utc_seconds"))
    for times in (records.start, records.end):
        known = rows[times[rows] != NO_TIME]
        times[known] -= times[known] % SECOND
