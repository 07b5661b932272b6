"""Who has which devices: the users of the synthetic fleet, and what is theirs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from koodrive_nb.sandbox import habits, names
from koodrive_nb.sandbox.calendars import DAY, HOUR
from koodrive_nb.sandbox.chance import choose, choose_by, sample, stream
from koodrive_nb.sandbox.ids import AS_OF, ID_EPOCH, LOW_BITS

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from koodrive_nb.sandbox.habits import Preset

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def milliseconds(instant: datetime) -> int:
    """Count the milliseconds since 1970, as everything that is drawn does."""
    return (instant - _EPOCH) // timedelta(milliseconds=1)


NOW = milliseconds(AS_OF)
_ID_EPOCH = milliseconds(ID_EPOCH)
LATER = np.iinfo(np.int64).max
"""When what never happens happens."""
_CODE_LENGTHS = (8, 10, 16)


def minted(instants: NDArray[np.int64], serials: NDArray[np.int64]) -> NDArray[np.int64]:
    """Make ids as `ids.mint` does, of serial numbers that are scattered over the low bits."""
    low = serials * 2_654_435_761 % 2**LOW_BITS  # Odd, so that no two serials meet.
    ids: NDArray[np.int64] = (instants - _ID_EPOCH << LOW_BITS) | low
    return ids


@dataclass(frozen=True, slots=True)
class Users:
    """One place per user: the id, how many devices, and positions in REGIONS and PLANS."""

    ids: NDArray[np.int64]
    n_devices: NDArray[np.integer[Any]]
    regions: NDArray[np.integer[Any]]
    plans: NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Devices:
    """One place per device, those of a user side by side.

    `user` is a position among the users, `kind`, `system` and `rhythm` are positions in CLASSES,
    SYSTEMS and RHYTHMS. Times are milliseconds since 1970. `dropped_at` is the end of all backups,
    `unbound_at` may be later still; both are LATER where it has not come to that. `is_nameless`
    marks unbound devices that their records no longer name.
    """

    user: NDArray[np.int64]
    ids: NDArray[np.int64]
    kind: NDArray[np.integer[Any]]
    system: NDArray[np.integer[Any]]
    rhythm: NDArray[np.integer[Any]]
    name: NDArray[np.object_]
    spelling: NDArray[np.object_]
    machine_code: NDArray[np.object_]
    bound_at: NDArray[np.int64]
    dropped_at: NDArray[np.int64]
    never: NDArray[np.bool_]
    unbound_at: NDArray[np.int64]
    is_nameless: NDArray[np.bool_]

    @property
    def unbound(self) -> NDArray[np.bool_]:
        """Tell which devices are bound no longer."""
        unbound: NDArray[np.bool_] = self.unbound_at != LATER
        return unbound

    def only(self, rows: NDArray[Any]) -> Devices:
        """Give these devices alone."""
        return Devices(*(getattr(self, name)[rows] for name in Devices.__slots__))


def draw_users(preset: Preset, seed: int) -> Users:
    """Draw who there is, without drawing what they have."""
    chance = stream(seed, "users")
    size = preset.users
    # All signed up before the first device could be bound, and late enough for ids of 19 digits.
    joined = NOW - ((1100 + 60 * chance.random(size)) * DAY).astype(np.int64)
    return Users(
        minted(joined, np.arange(size)),
        choose(chance, habits.DEVICES_OF_A_USER, size) + 1,
        choose(chance, list(habits.REGIONS.values()), size),
        choose(chance, list(habits.PLANS.values()), size),
    )


def draw_devices(preset: Preset, seed: int, users: Users) -> Devices:
    """Draw the devices of these users, and what becomes of each."""
    chance = stream(seed, "devices")
    user = np.repeat(np.arange(len(users.ids)), users.n_devices)
    size = len(user)
    kind = choose(chance, list(habits.CLASSES.values()), size)
    system = choose_by(chance, list(habits.SYSTEMS_OF_CLASS.values()), kind)
    rhythm = choose(chance, list(habits.RHYTHMS.values()), size)
    bound_at = _bound_at(chance, size)
    life = habits.LIFE_SCALE_DAYS * chance.standard_exponential(size) ** (1 / habits.LIFE_SHAPE)
    dropped_at = bound_at + (life * DAY).astype(np.int64)
    never = chance.random(size) < habits.NEVER_SHARE
    gone = sample(chance, habits.UNBOUND_SHARE, np.arange(size))
    is_nameless = np.zeros(size, bool)
    is_nameless[gone[: max(1, round(habits.UNBOUND_NAMELESS_SHARE * len(gone)))]] = True
    since = np.maximum(bound_at[gone], NOW - habits.WINDOW_DAYS * DAY)
    unbound_at = np.full(size, LATER)
    unbound_at[gone] = since + (chance.random(len(gone)) * (NOW - since)).astype(np.int64)
    dropped_at = np.minimum(dropped_at, unbound_at)
    name, spelling = _texts(preset, seed, kind, system)
    machine_code = _machine_codes(seed, size)
    older, newer = _reset(chance, user, bound_at)
    dropped_at[older] = np.minimum(dropped_at[older], bound_at[newer])
    for shared in (kind, system, name, spelling, machine_code):
        shared[older] = shared[newer]
    dropped_at[dropped_at > NOW] = LATER
    return Devices(
        user,
        minted(bound_at, np.arange(size)),
        kind,
        system,
        rhythm,
        name,
        spelling,
        machine_code,
        bound_at,
        dropped_at,
        never,
        unbound_at,
        is_nameless,
    )


def _bound_at(chance: np.random.Generator, size: int) -> NDArray[np.int64]:
    when = chance.random(size)
    place = chance.random(size)
    mean, most = habits.AGE_MEAN_DAYS, habits.AGE_MOST_DAYS
    age = -mean * np.log1p(place * np.expm1(-most / mean))
    early, late = habits.PROMOTION_DAYS_AGO
    days_ago = np.where(
        when < habits.BOUND_BEFORE,
        habits.WINDOW_DAYS + age,
        np.where(
            when < habits.BOUND_BEFORE + habits.BOUND_IN_PROMOTION,
            late + (early - late) * place,
            habits.WINDOW_DAYS * place,
        ),
    )
    # A device is bound a moment before anybody can know of it.
    return NOW - HOUR // 60 - (days_ago * DAY).astype(np.int64)


def _reset(
    chance: np.random.Generator, user: NDArray[np.int64], bound_at: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose pairs of a user's devices that are one machine, bound again after a factory reset."""
    first = np.flatnonzero(np.diff(user, prepend=-1) != 0)
    several = first[np.append(np.diff(first), len(user) - first[-1]) > 1]
    if not len(several):
        return several, several
    # Each pair is one machine code fewer.
    share = habits.REBOUND_SHARE / (1 + habits.REBOUND_SHARE)
    chosen = sample(chance, share, several, of=len(user))
    is_first_older = bound_at[chosen] <= bound_at[chosen + 1]
    return (
        np.where(is_first_older, chosen, chosen + 1),
        np.where(is_first_older, chosen + 1, chosen),
    )


def _machine_codes(seed: int, size: int) -> NDArray[np.object_]:
    chance = stream(seed, "machine codes")
    lengths = np.take(_CODE_LENGTHS, choose(chance, [1, 2, 1], size))
    numbers = zip(chance.random(size), chance.random(size), lengths, strict=True)
    codes = (f"{int(a * 2**32):08X}{int(b * 2**32):08X}"[:length] for a, b, length in numbers)
    return np.array(list(codes), object)


def _texts(
    preset: Preset, seed: int, kind: NDArray[Any], system: NDArray[Any]
) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """Draw what each device is called, and how its system is spelt."""
    chance = stream(seed, "names")
    size = len(kind)
    name, spelling = np.full((2, size), "", object)
    classes = list(habits.CLASSES)
    for (of_class, of_system), models in names.MODELS.items():
        rows = np.flatnonzero(
            (kind == classes.index(of_class)) & (system == habits.SYSTEMS.index(of_system))
        )
        rank = choose(chance, [1 / place for place in range(1, len(models) + 1)], len(rows))
        name[rows] = np.take(np.array(models, object), rank)
        weights = names.SPELLINGS[of_class, of_system]
        spelt = choose(chance, list(weights.values()), len(rows))
        spelling[rows] = np.take(np.array(list(weights), object), spelt)
    for text, share in names.UNSPELT.items():
        spelling[sample(chance, share, np.arange(size))] = text
    given = np.flatnonzero(chance.random(size) < names.GIVEN_SHARE)
    whose = np.take(names.GIVEN, choose(chance, [1] * len(names.GIVEN), len(given)))
    name[given] = [f"{person} {classes[of]}" for person, of in zip(whose, kind[given], strict=True)]
    if not preset.strict_names:
        odd = sample(chance, names.UNICODE_SHARE + names.HOSTILE_SHARE, np.arange(size))
        hostile, other = np.split(odd, [max(1, round(names.HOSTILE_SHARE * size))])
        name[hostile] = np.resize(np.array(names.HOSTILE, object), len(hostile))
        name[other] = np.resize(np.array(names.UNICODE, object), len(other))
    return name, spelling
