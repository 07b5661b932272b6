"""When the devices of the synthetic fleet back up.

What one device backs up of one module is a lane. Its runs follow the rhythm of the device, over
the last 90 days in which it was in use: a device that has been silent for longer has its old
copies all the same, since the service keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from koodrive_nb.columns import MODULES
from koodrive_nb.sandbox import habits
from koodrive_nb.sandbox.calendars import DAY, HOUR, Calendar
from koodrive_nb.sandbox.chance import choose, stream
from koodrive_nb.sandbox.owners import NOW

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from koodrive_nb.sandbox.habits import Hours, Preset
    from koodrive_nb.sandbox.owners import Devices

_RHYTHMS = list(habits.RHYTHMS)
_DAILY, _WEEKLY, _MANUAL = (_RHYTHMS.index(name) for name in ("daily", "weekly", "manual"))
_MOST_MANUAL = 60


@dataclass(frozen=True, slots=True)
class Lanes:
    """One place per device and module that is backed up; runs lie in [`since`, `until`)."""

    device: NDArray[np.int64]
    module: NDArray[np.int64]
    rhythm: NDArray[np.integer[Any]]
    since: NDArray[np.int64]
    until: NDArray[np.int64]
    is_new: NDArray[np.bool_]


def draw_lanes(seed: int, devices: Devices) -> Lanes:
    """Draw what each device backs up."""
    chance = stream(seed, "modules")
    adoption = np.array([habits.MODULE_HABITS[code].adoption for code in MODULES]).T[devices.kind]
    adopted = (chance.random(adoption.shape) < adoption) & ~devices.never[:, None]
    device, module = np.nonzero(adopted)
    until = np.minimum(devices.dropped_at, NOW)[device]
    bound_at = devices.bound_at[device]
    rhythm = devices.rhythm[device]
    days = np.array([habits.HISTORY_DAYS[name] for name in _RHYTHMS])[rhythm]
    since = np.maximum(bound_at, until - days * DAY)
    return Lanes(device, module, rhythm, since, until, since == bound_at)


def draw_starts(
    preset: Preset, seed: int, lanes: Lanes, devices: Devices
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw when runs start: their lanes, and the instants, in order."""
    chance = stream(seed, "starts")
    calendar = Calendar(preset.zone, int(lanes.since.min(initial=NOW)), NOW)
    lane, day = _days(chance, lanes, calendar)
    skip = np.array([habits.SKIPS[name] for name in _RHYTHMS])[lanes.rhythm[lane]]
    is_weekend = calendar.is_weekend(day)
    due = chance.random(len(lane)) < (1 - skip) * np.where(is_weekend, habits.WEEKEND_X, 1.0)
    lane, day, is_weekend = lane[due], day[due], is_weekend[due]
    hours = _hours(chance, lanes, lane) + is_weekend * habits.WEEKEND_LATER_HOURS
    start = calendar.at(day, hours)
    new = np.flatnonzero(lanes.is_new)
    wait = habits.FIRST_AFTER_HOURS * HOUR * chance.standard_exponential(len(new))
    first = lanes.since[new] + HOUR // 60 + wait.astype(np.int64)
    # What the rhythm would have had before the first run, it has not.
    begins = lanes.since.copy()
    begins[new] = first + HOUR
    pause_from, pause_to = _pauses(seed, len(devices.ids))
    of = lanes.device[lane]
    inside = (start >= begins[lane]) & ((start < pause_from[of]) | (start >= pause_to[of]))
    lane, start = np.append(lane[inside], new), np.append(start[inside], first)
    inside = start < lanes.until[lane]
    lane, start = lane[inside], start[inside]
    order = np.lexsort((start, lane))
    return lane[order], start[order]


def _days(
    chance: np.random.Generator, lanes: Lanes, calendar: Calendar
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw the local days that each lane's rhythm puts a run on."""
    first, last = calendar.day(lanes.since), calendar.day(lanes.until)
    pieces = []
    daily = np.flatnonzero(lanes.rhythm == _DAILY)
    lane, turn = _repeated(daily, last[daily] - first[daily] + 1)
    pieces.append((lane, first[lane] + turn))
    weekly = np.flatnonzero(lanes.rhythm == _WEEKLY)
    lane, turn = _repeated(weekly, (last[weekly] - first[weekly]) // 7 + 1)
    phase = np.zeros(len(first), np.int64)
    phase[weekly] = chance.random(len(weekly)) * 7
    phase[lanes.is_new] = 7  # A week after the first run.
    pieces.append((lane, first[lane] + phase[lane] + 7 * turn))
    manual = np.flatnonzero(lanes.rhythm == _MANUAL)
    scale = habits.MANUAL_MEAN_DAYS * (1 - habits.SKIPS["manual"]) / habits.MANUAL_SHAPE
    gaps = scale * chance.standard_gamma(habits.MANUAL_SHAPE, (len(manual), _MOST_MANUAL))
    # A window opens in the middle of a gap.
    gaps[:, 0] *= np.where(lanes.is_new[manual], 1.0, chance.random(len(manual)))
    turns = gaps.cumsum(axis=1).astype(np.int64)
    pieces.append((np.repeat(manual, _MOST_MANUAL), (first[manual][:, None] + turns).ravel()))
    lane, day = (np.concatenate(values) for values in zip(*pieces, strict=True))
    inside = (day >= first[lane]) & (day <= last[lane])
    return lane[inside], day[inside]


def _repeated(
    lanes: NDArray[np.int64], times: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Repeat each lane, and count its turns from zero."""
    ends = np.cumsum(times)
    return np.repeat(lanes, times), np.arange(times.sum()) - np.repeat(ends - times, times)


def _hours(
    chance: np.random.Generator, lanes: Lanes, lane: NDArray[np.int64]
) -> NDArray[np.float64]:
    usual, other = (_parts(chance, lanes.rhythm[rows]) for rows in (slice(None), lane))
    part = np.where(chance.random(len(lane)) < habits.KEEPS_HOUR, usual[lane], other)
    is_manual = (lanes.rhythm[lane] == _MANUAL).astype(int)

    def of(name: str) -> NDArray[np.float64]:
        table = [
            [getattr(hours, name) for hours in parts]
            for parts in (habits.AUTO_HOURS, habits.MANUAL_HOURS)
        ]
        return np.array(table)[is_manual, part]  # type: ignore[no-any-return]  # as typed above

    drawn = of("middle") + of("sd") * chance.standard_normal(len(lane))
    drawn += of("low") + of("width") * chance.random(len(lane))
    is_weekly = lanes.rhythm[lane] == _WEEKLY
    drawn[is_weekly] += habits.WEEKLY_SD_HOURS * chance.standard_normal(is_weekly.sum())
    return drawn


def _parts(
    chance: np.random.Generator, rhythm: NDArray[np.integer[Any]]
) -> NDArray[np.integer[Any]]:
    def draw(parts: tuple[Hours, ...]) -> NDArray[np.integer[Any]]:
        return choose(chance, [hours.share for hours in parts], len(rhythm))

    return np.where(rhythm == _MANUAL, draw(habits.MANUAL_HOURS), draw(habits.AUTO_HOURS))


def _pauses(seed: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    chance = stream(seed, "pauses")
    pauses = chance.random(size) < habits.PAUSE_SHARE
    short, long = habits.PAUSE_DAYS
    lasts = (short + (long - short) * chance.random(size)) * DAY * pauses
    begins = NOW - (habits.WINDOW_DAYS * DAY * chance.random(size)).astype(np.int64)
    return begins, begins + lasts.astype(np.int64)
