"""Every backup that the devices of the synthetic fleet attempt, before the service drops any."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from koodrive_nb.columns import MODULES
from koodrive_nb.sandbox import habits
from koodrive_nb.sandbox.calendars import DAY, HOUR, SECOND, Calendar
from koodrive_nb.sandbox.chance import sample, stream
from koodrive_nb.sandbox.owners import NOW
from koodrive_nb.sandbox.schedule import draw_lanes, draw_starts

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from koodrive_nb.sandbox.habits import Preset
    from koodrive_nb.sandbox.owners import Devices
    from koodrive_nb.sandbox.schedule import Lanes

_OF_MODULE = [habits.MODULE_HABITS[code] for code in MODULES]
_A, _B, _C, _D = (np.int8(habits.INCIDENTS.index(name)) for name in "ABCD")


@dataclass(frozen=True, slots=True)
class Runs:
    """One place per attempt, in the order of lanes and time.

    `start` and `end` are milliseconds since 1970; the `end` of a run that is `stuck` would have
    been. `attempt` counts from the first since the device was bound. `incident` is a position in
    INCIDENTS, set for all runs that it befell, whatever became of them.
    """

    lane: NDArray[np.int64]
    device: NDArray[np.int64]
    module: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    stuck: NDArray[np.bool_]
    attempt: NDArray[np.int64]
    incident: NDArray[np.int8]

    def only(self, rows: NDArray[Any]) -> Runs:
        """Give these runs alone."""
        return Runs(*(getattr(self, name)[rows] for name in Runs.__slots__))


def draw_runs(preset: Preset, seed: int, devices: Devices) -> Runs:
    """Draw all runs up to the fleet's instant, one at a time in each lane."""
    lanes = draw_lanes(seed, devices)
    lane, start = draw_starts(preset, seed, lanes, devices)
    device, module = lanes.device[lane], lanes.module[lane]
    is_first = lanes.is_new[lane] & (np.diff(lane, prepend=-1) != 0)
    incident = _incidents(preset, devices, device, module, start)
    seconds = _seconds(seed, devices, device, module, is_first)
    stuck = _stuck(seed, devices, device, module, is_first, incident)
    slow = _slow_device(seed, devices, lanes, lane, stuck)
    incident[slow] = _C
    seconds *= np.select(
        [incident == _C, incident == _D], [habits.C_SLOWER_X, habits.D_SLOWER_X], 1
    )
    end = start + np.maximum(seconds * SECOND, SECOND).astype(np.int64)
    runs = Runs(lane, device, module, start, end, stuck, np.zeros_like(lane), incident)
    runs = runs.only(_one_at_a_time(runs))
    return replace(runs, attempt=_attempts(lanes, devices, runs.lane))


def _incidents(
    preset: Preset,
    devices: Devices,
    device: NDArray[np.int64],
    module: NDArray[np.int64],
    start: NDArray[np.int64],
) -> NDArray[np.int8]:
    """Tell which incident befalls each run; C, which befalls one device only, is not among them."""
    calendar = Calendar(preset.zone, NOW - 30 * DAY, NOW)
    day = calendar.day(np.array([NOW])) - habits.A_DAYS_AGO
    outage = int(calendar.at(day, np.array([habits.A_FROM_HOUR]))[0])
    found = np.zeros(len(start), np.int8)
    in_a = (start >= outage) & (start < outage + int(habits.A_HOURS * HOUR))
    system = habits.SYSTEMS.index(habits.B_SYSTEM)
    in_b = _between(start, habits.B_DAYS_AGO) & (devices.system[device] == system)
    in_d = _between(start, habits.D_DAYS_AGO) & (module == list(MODULES).index(habits.D_MODULE))
    for incident, befallen in ((_D, in_d), (_B, in_b), (_A, in_a)):
        found[befallen] = incident
    return found


def _slow_device(
    seed: int,
    devices: Devices,
    lanes: Lanes,
    lane: NDArray[np.int64],
    stuck: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Choose one lane that has gone well every day up to now, and give its newest runs."""
    fits = (
        (lanes.rhythm == list(habits.RHYTHMS).index("daily"))
        & (lanes.module == list(MODULES).index(habits.C_MODULE))
        & (devices.system[lanes.device] == habits.SYSTEMS.index(habits.C_SYSTEM))
        & (lanes.until == NOW)
        & (np.bincount(lane, minlength=len(lanes.device)) >= habits.C_LEAST_RUNS)
    )
    fits[lane[stuck]] = False
    chosen = sample(stream(seed, "slow device"), 0, np.flatnonzero(fits))
    # The very newest may still be running, and would not show.
    return np.flatnonzero(np.isin(lane, chosen))[-habits.C_RUNS - 1 : -1]


def _between(start: NDArray[np.int64], days_ago: tuple[float, float]) -> NDArray[np.bool_]:
    early, late = (NOW - int(days * DAY) for days in days_ago)
    return (start >= early) & (start < late)


def _of_module(name: str, module: NDArray[np.int64]) -> NDArray[np.float64]:
    values = [float(getattr(habit, name)) for habit in _OF_MODULE]
    return np.take(values, module)


def _seconds(
    seed: int,
    devices: Devices,
    device: NDArray[np.int64],
    module: NDArray[np.int64],
    is_first: NDArray[np.bool_],
) -> NDArray[np.float64]:
    chance = stream(seed, "durations")
    slowness = np.array(habits.SYSTEM_SLOWNESS)[devices.system] * np.exp(
        habits.DEVICE_SLOWNESS_SIGMA * chance.standard_normal(len(devices.ids))
    )
    spread = _of_module("sigma", module) * chance.standard_normal(len(device))
    seconds = _of_module("median_s", module) * np.exp(spread) * slowness[device]
    seconds[is_first] *= _of_module("first_x", module[is_first])
    capped: NDArray[np.float64] = np.minimum(seconds, habits.MOST_HOURS * HOUR / SECOND)
    return capped


def _stuck(  # noqa: PLR0913, PLR0917 -- each is a property of the runs
    seed: int,
    devices: Devices,
    device: NDArray[np.int64],
    module: NDArray[np.int64],
    is_first: NDArray[np.bool_],
    incident: NDArray[np.int8],
) -> NDArray[np.bool_]:
    chance = stream(seed, "stuck")
    shape = habits.FRAILTY_SHAPE
    frailty = chance.standard_gamma(shape, len(devices.ids)) / shape
    usual = np.where(is_first, _of_module("first_stuck", module), _of_module("stuck", module))
    usual[incident == _B] *= habits.B_STUCK_X
    usual[incident == _A] = habits.A_STUCK
    likely = np.minimum(usual * frailty[device], habits.MOST_STUCK)
    return chance.random(len(device)) < likely


def _one_at_a_time(runs: Runs) -> NDArray[np.bool_]:
    """Tell which runs start when no earlier one of their lane holds its lock."""
    lock = int(habits.LOCK_S * SECOND)
    free = np.where(runs.stuck, runs.start + lock, runs.end)
    origin = runs.start.min(initial=NOW)
    # With lanes further apart than all runs last, the latest end so far is of the run's own lane.
    apart = runs.lane * (free.max(initial=NOW) - origin + 1) - origin
    latest = np.maximum.accumulate(free + apart)
    is_free = np.ones(len(free), bool)
    is_free[1:] = (runs.start + apart)[1:] >= latest[:-1]
    return is_free


def _attempts(lanes: Lanes, devices: Devices, lane: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the attempts of each lane since its device was bound."""
    first = np.flatnonzero(np.diff(lane, prepend=-1) != 0)
    place = np.arange(len(lane)) - np.repeat(first, np.diff(np.append(first, len(lane))))
    gap = np.array([habits.GAP_DAYS[name] for name in habits.RHYTHMS])[lanes.rhythm]
    before = np.ceil((lanes.since - devices.bound_at[lanes.device]) / (gap * DAY))
    attempts: NDArray[np.int64] = place + before.astype(np.int64)[lane]
    return attempts
