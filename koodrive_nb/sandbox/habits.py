"""The numbers that the synthetic fleet is drawn from, each with its meaning.

They are assumptions, chosen so that the fleet looks like the field of consumer backups: upload in
the evening and at night, most devices phones, rates of completion near 98 %, and many devices that
are silent all the same. Only the shares of the systems are public figures (sales in China, second
quarter of 2025).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Preset:
    """A fleet to draw: how many users it has, and which zone they live in.

    With `device_info` "absent" no record names its device, as in one of the API's own examples.
    With `strict_names` all names of devices keep to what the API allows when a device is bound.
    """

    users: int
    zone: str = "Asia/Shanghai"
    device_info: Literal["given", "absent"] = "given"
    strict_names: bool = False


PRESETS: Mapping[str, Preset] = {
    "small": Preset(200),
    "medium": Preset(10_000),
    "large": Preset(25_000),
}


def preset_of(preset: str | Preset) -> Preset:
    """Give a preset by its name, or as it is.

    Raises:
        InvalidParameterError: There is no such preset, or what it asks for cannot be drawn.
    """
    found = preset if isinstance(preset, Preset) else PRESETS.get(str(preset))
    if found is None:
        raise InvalidParameterError(
            f"There is no preset {preset!r}: choose one of {', '.join(PRESETS)}, or pass "
            "kd.sandbox.Preset(users=...)."
        )
    if found.users < 1:
        raise InvalidParameterError("A preset has at least one user: users= takes 1 or more.")
    if found.device_info not in {"given", "absent"}:
        raise InvalidParameterError("device_info= of a preset is given or absent.")
    try:
        ZoneInfo(found.zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise InvalidParameterError(
            f"There is no zone {found.zone!r}: write it like Asia/Shanghai or UTC."
        ) from None
    return found


def checked_seed(seed: int) -> int:
    """Give the seed back.

    Raises:
        InvalidParameterError: It is no whole number.
    """
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InvalidParameterError("seed= takes a whole number, the same for the same fleet.")
    return seed


WINDOW_DAYS = 90
HISTORY_DAYS: Mapping[str, float] = {"daily": 90, "weekly": 240, "manual": 240}
"""The fleet is looked at over the window. Backups are drawn over the last days in which a device
was in use, by its rhythm: the service keeps copies by their number, so that those of a device that
backs up seldom, or that has fallen silent, are older than the window."""

# --- Users and devices -----------------------------------------------------------------------

DEVICES_OF_A_USER = (0.62, 0.25, 0.09, 0.03, 0.01)
"""Shares of users with 1, 2, ... 5 devices: most have one phone."""

REGIONS: Mapping[str, float] = {
    "Guangdong": 0.26,
    "Jiangsu": 0.18,
    "Zhejiang": 0.16,
    "Sichuan": 0.15,
    "Henan": 0.14,
    "Shaanxi": 0.11,
}
PLANS: Mapping[str, float] = {"5 GB": 0.58, "50 GB": 0.22, "200 GB": 0.15, "2 TB": 0.05}
"""What a carrier's list of users says beside the id, with shares."""

CLASSES: Mapping[str, float] = {"phone": 0.78, "tablet": 0.12, "pc": 0.10}
SYSTEMS = ("android", "harmonyos", "ios", "windows", "macos")
SYSTEMS_OF_CLASS: Mapping[str, tuple[float, ...]] = {
    "phone": (0.64, 0.19, 0.17, 0, 0),
    "tablet": (0.35, 0.40, 0.25, 0, 0),
    "pc": (0, 0, 0, 0.85, 0.15),
}

BOUND_BEFORE = 0.55
BOUND_IN_PROMOTION = 0.06
"""Shares of devices bound before the window, and in one week of promotion; others spread over the
window."""
AGE_MEAN_DAYS = 240.0
AGE_MOST_DAYS = 1000.0
"""How long before the window: exponential, cut off where ids would have 18 digits."""
PROMOTION_DAYS_AGO = (45.0, 38.0)

NEVER_SHARE = 0.07
"""Devices that never back up: the permission or the wireless network was never granted."""
REBOUND_SHARE = 0.02
"""Machine codes with two device ids: bound again after a factory reset, the older id silent."""
UNBOUND_SHARE = 0.04
"""Devices unbound during the window; their completed records wait for deletion."""
UNBOUND_NAMELESS_SHARE = 0.60
"""Unbound devices whose records no longer name them."""
LIFE_SHAPE, LIFE_SCALE_DAYS = 0.75, 900.0
"""Weibull life from binding to the last backup: many drop out early."""
PAUSE_SHARE = 0.10
PAUSE_DAYS = (5.0, 21.0)
"""Devices that pause once in the window, as on a holiday."""

# --- Modules ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModuleHabit:
    """How backups of a module behave.

    `adoption` is the share of phones, tablets and PCs that back it up. Durations are log-normal
    (`median_s`, `sigma`), the first one `first_x` times as long. `stuck` is the chance that one
    never completes, `first_stuck` that of the first. The service keeps the newest `keeps` copies.
    """

    adoption: tuple[float, float, float]
    median_s: float
    sigma: float
    first_x: float
    stuck: float
    first_stuck: float
    keeps: int


MODULE_HABITS: Mapping[str, ModuleHabit] = {
    "100": ModuleHabit((0.25, 0.20, 0.95), 150, 1.2, 12, 0.015, 0.05, 10),
    "101": ModuleHabit((0.70, 0.60, 0.10), 75, 1.1, 20, 0.018, 0.08, 20),
    "102": ModuleHabit((0.85, 0.70, 0.02), 6, 0.6, 2, 0.003, 0.006, 30),
}
SYSTEM_SLOWNESS = (1.0, 1.0, 1.25, 0.8, 1.0)
"""Factor on durations, by system."""
DEVICE_SLOWNESS_SIGMA = 0.35
MOST_HOURS = 24.0
FRAILTY_SHAPE = 0.3
"""Gamma with mean 1, on the chance to get stuck: few devices have most of the trouble."""
MOST_STUCK = 0.9
LOCK_S = 600.0
"""A backup that was abandoned holds its lock so long; no other of its module starts before."""

# --- Rhythm ----------------------------------------------------------------------------------

RHYTHMS: Mapping[str, float] = {"daily": 0.55, "weekly": 0.25, "manual": 0.20}
SKIPS: Mapping[str, float] = {"daily": 0.12, "weekly": 0.10, "manual": 0.07}
"""Share of due backups left out. For manual ones, which nothing schedules, it only makes room for
the weekend's surplus, and their mean gap is shortened by as much."""
WEEKEND_X = 1.1
WEEKEND_LATER_HOURS = 0.7
"""On Saturdays and Sundays so many times the backups, and so much later."""
WEEKLY_SD_HOURS = 12.0
"""How far weekly backups stray from their time."""
MANUAL_SHAPE, MANUAL_MEAN_DAYS = 0.7, 12.0
"""Gamma gaps between manual backups: in bursts."""
GAP_DAYS: Mapping[str, float] = {"daily": 1.14, "weekly": 7.8, "manual": 12.0}
"""Mean gap, to number the attempts before the window, which are not drawn."""
FIRST_AFTER_HOURS = 12.0
"""Mean time from binding a device to the first backup of a module, exponential."""


@dataclass(frozen=True, slots=True)
class Hours:
    """A part of the day's starts: its share, and local hours around `middle`, or from `low`."""

    share: float
    middle: float = 0.0
    sd: float = 0.0
    low: float = 0.0
    width: float = 0.0


AUTO_HOURS = (Hours(0.55, 1.5, 1.9), Hours(0.25, 22.75, 1.5), Hours(0.20, low=8, width=14))
MANUAL_HOURS = (Hours(0.60, 21.5, 1.8), Hours(0.20, 12.5, 1.2), Hours(0.20, low=8, width=16))
"""At night on the charger, late in the evening, over the day; by hand in the evening and at noon.
Eleven of a hundred backups start between one and two at night, hardly one from seven to eight."""
KEEPS_HOUR = 0.8
"""Chance that a device backs up at its usual part of the day; otherwise it draws another."""

# --- Incidents -------------------------------------------------------------------------------

A_DAYS_AGO, A_FROM_HOUR, A_HOURS, A_STUCK = 20, 22.0, 5.0, 0.22
"""A: an outage of some hours; this chance to get stuck, times the frailty, for everybody. Some of
what completed is purged by now, so that 21 % of what is left is stuck."""
B_DAYS_AGO, B_SYSTEM, B_STUCK_X = (12.0, 3.0), "ios", 8.0
"""B: a release of one system; its chance to get stuck is so many times as high."""
C_SYSTEM, C_MODULE, C_RUNS, C_SLOWER_X = "android", "101", 5, 6.0
C_LEAST_RUNS = 30
"""C: on one device with that many runs, the newest are so many times as slow."""
D_DAYS_AGO, D_MODULE, D_SLOWER_X = (19.0, 12.0), "101", 1.4
"""D: one module is slower for everybody during a week."""
INCIDENTS = ("", "A", "B", "C", "D")

# --- What the service keeps ------------------------------------------------------------------

PURGE_MEAN_DAYS = 3.0
UNBOUND_PURGE_MEAN_DAYS = 60.0
"""How long a copy beyond those kept, and one of an unbound device, waits for its deletion:
exponential, with this mean. The latter wait long enough to be 3 % of all records."""
ABANDONED_AFTER_DAYS, ABANDONED_SHARE = 30.0, 0.60
"""Of the backups abandoned longer ago, this share waits for deletion too, and is not purged. (0.80
would leave too few of them open: 1.6 % of all records instead of 2 %.)"""

# --- What clients write, and dirt ------------------------------------------------------------

NO_PROPERTIES, EMPTY_PROPERTIES, MALFORMED_PROPERTIES = 0.20, 0.15, 0.003
"""Shares of records whose properties are missing, "{}", and cut off in the middle; 35 % say
nothing. Others are JSON with fileCount, totalSize (bytes), trigger and net."""
BYTES_PER_S_MEDIAN, BYTES_PER_S_SIGMA = 2.5 * 2**20, 0.8
FILE_BYTES: Mapping[str, float] = {"100": 1.5e6, "101": 3.5e6, "102": 5e7}
MOST_FILES = 2000
MOBILE_SHARE = 0.1

UTC_SECONDS, CHINA_TIME = 0.02, 0.01
"""Shares of records whose times are written in UTC without milliseconds, and with +08:00."""
NAMELESS_SHARE = 0.004
"""Records of bound devices that do not name their device."""
DIRT: Mapping[str, float] = {
    "duplicate": 0.0005,
    "ends_before_start": 0.0015,
    "status_3": 0.0001,
    "status_null": 0.0001,
    "future": 0.0002,
    "no_end": 0.001,
}
"""Shares of records: listed twice, the other copy still open; ending 1 s to 3 h before they start;
with status 3; with status null; created up to two days after the fleet's instant; completed
without an end."""
EARLY_S = (1.0, 10_800.0)
AHEAD_S = (600.0, 172_800.0)
