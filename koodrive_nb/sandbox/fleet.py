"""The synthetic fleet as the service holds it: users, devices, and the records it has kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from koodrive_nb.columns import MODULES
from koodrive_nb.sandbox import habits
from koodrive_nb.sandbox.calendars import SECOND
from koodrive_nb.sandbox.chance import choose, sample, stream
from koodrive_nb.sandbox.owners import LATER, NOW, draw_devices, draw_users, minted
from koodrive_nb.sandbox.retention import draw_fates
from koodrive_nb.sandbox.runs import draw_runs

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from koodrive_nb.sandbox.habits import Preset
    from koodrive_nb.sandbox.owners import Devices, Users
    from koodrive_nb.sandbox.retention import Fates
    from koodrive_nb.sandbox.runs import Runs

NO_TIME = np.iinfo(np.int64).min
"""A time that is missing, as numpy and pandas have it."""
NO_STATUS = np.int8(-1)
DIRT = ("", *habits.DIRT, "nameless")
_DIRT_OF_THE_END = [
    DIRT.index(name) for name in ("ends_before_start", "status_3", "status_null", "no_end")
]
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

    def only(self, rows: NDArray[Any]) -> Records:
        """Give these records alone."""
        return Records(*(getattr(self, name)[rows] for name in Records.__slots__))


@dataclass(frozen=True, slots=True)
class Fleet:
    """Who has which devices, and which records the service has of them, at `as_of`.

    `as_of` is in milliseconds since 1970.
    """

    users: Users
    devices: Devices
    records: Records
    as_of: int = NOW


def draw(preset: Preset, seed: int, as_of: int = NOW) -> Fleet:
    """Draw a fleet, the same for the same preset and seed, as it was at an instant up to NOW."""
    users = draw_users(preset, seed)
    devices = draw_devices(preset, seed, users)
    runs = draw_runs(preset, seed, devices)
    fates = draw_fates(seed, devices, runs)
    is_kept = fates.purged_at > NOW
    status = fates.status(NOW)
    records = _written(preset, seed, devices, runs.only(is_kept), status[is_kept])
    _soil(seed, devices, records)
    _round_times(records)
    if as_of == NOW:
        return Fleet(users, devices, records)
    # What has been purged since is drawn apart, so that it changes nothing of what was kept.
    gone = _written(preset, seed, devices, runs.only(~is_kept), status[~is_kept], " of purged")
    _round_times(gone)
    records = _in_order(records, gone, is_kept)
    if preset.device_info == "given":
        # Records name a device until it is unbound.
        named = devices.is_nameless & (devices.unbound_at > as_of)
        records.names_device[named[records.device]] = True
    _take_back(records, fates, as_of)
    records = records.only((runs.start <= as_of) & (fates.purged_at > as_of))
    place = np.cumsum(devices.bound_at <= as_of) - 1
    records = replace(records, device=place[records.device])
    return Fleet(users, _devices_at(devices, as_of), records, as_of)


def _in_order(kept: Records, gone: Records, is_kept: NDArray[np.bool_]) -> Records:
    """Put what was kept and what was purged in the order of their runs."""
    place = np.argsort(np.argsort(~is_kept, kind="stable"))
    columns = ((getattr(kept, name), getattr(gone, name)) for name in Records.__slots__)
    return Records(*(np.append(*both)[place] for both in columns))


def _take_back(records: Records, fates: Fates, as_of: int) -> None:
    """Undo what became of records after an earlier instant."""
    status = fates.status(as_of)
    is_changed = status != fates.status(NOW)
    records.status[is_changed] = status[is_changed]
    is_open = fates.ended_at > as_of
    records.end[is_open] = NO_TIME
    records.dirt[is_open & np.isin(records.dirt, _DIRT_OF_THE_END)] = 0


def _devices_at(devices: Devices, as_of: int) -> Devices:
    """Give the devices that were bound by an earlier instant, without what befell them later."""
    found = devices.only(devices.bound_at <= as_of)
    for befell_at in (found.dropped_at, found.unbound_at):
        befell_at[befell_at > as_of] = LATER
    return replace(found, is_nameless=found.is_nameless & found.unbound)


def _written(  # noqa: PLR0913, PLR0917 -- each is drawn or given for the runs
    preset: Preset,
    seed: int,
    devices: Devices,
    runs: Runs,
    status: NDArray[np.int8],
    of: str = "",
) -> Records:
    """Write down what clients say of these runs."""
    chance = stream(seed, f"properties{of}")
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
            stream(seed, f"clocks{of}"),
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
