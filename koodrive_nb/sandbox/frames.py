"""The synthetic fleet as DataFrames, as the client would hand it over, without HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from koodrive_nb import privacy
from koodrive_nb.columns import DATASETS, DEVICE_SOURCES, MODULES, SOURCES, STATUSES, STRING, TIME
from koodrive_nb.sandbox import habits, properties
from koodrive_nb.sandbox.fleet import DIRT, NO_STATUS, NO_TIME, draw
from koodrive_nb.sandbox.ids import checked_as_of
from koodrive_nb.sandbox.owners import LATER, draw_users, milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from koodrive_nb.sandbox.fleet import Fleet
    from koodrive_nb.sandbox.habits import Preset
    from koodrive_nb.sandbox.owners import Users

_UNKNOWN_STATUS = len(STATUSES)


@dataclass(frozen=True, slots=True)
class Frames:
    """A synthetic fleet, and the truth about it that no service tells.

    `records` and `devices` have the columns of `kd.schema`. `users`: `user_id`, `region`, `plan`.
    `truth`, in the order of the records: `record_id`, `really_stuck` (it will never complete),
    `attempt_no` (of this device and module, from 0, purged ones counted), `incident` (which planted
    one befell it: A an outage, B a release of one system, C a device that turned slow, D a slow
    week of one module, or ""), `dirt` (what is wrong with the record on purpose, or "").
    `device_truth`, unbound devices included: `user_id`, `device_id`, `class`, `system`, `rhythm`,
    `dropped_at` (the end of its backups, missing while they go on), `never`, `unbound`.
    """

    records: pd.DataFrame
    devices: pd.DataFrame
    users: pd.DataFrame
    truth: pd.DataFrame
    device_truth: pd.DataFrame


def frames(
    preset: str | Preset = "small", seed: int = 0, *, as_of: str | datetime | None = None
) -> Frames:
    """Draw a synthetic fleet, the same for the same preset and seed, as of the fixed instant.

    Presets: small has 200 users (8 000 records), medium 10 000 (420 000), large 25 000 (a million).
    `records` and `devices` are what fetching every user from `Sandbox(preset=..., seed=...)` with
    `clock=kd.sandbox.as_of` brings, but carry no ledger.

    `as_of`, with its zone, is an earlier instant of the last 60 days: what began or was bound later
    is not there, what ended or was dropped later is still as it was, and what has been purged since
    is back. The latter has no dirt but names that are missing; a record created in the future by a
    client's clock is so at every instant.

    Raises:
        InvalidParameterError: There is no such preset, the seed is no whole number, or `as_of` is
            no such instant.
    """
    fleet = draw(
        habits.preset_of(preset), habits.checked_seed(seed), milliseconds(checked_as_of(as_of))
    )
    records = fleet.records
    # Ids all have 19 digits, so that they sort alike as numbers and as text.
    order = np.lexsort((records.ids, records.start))
    devices = fleet.devices
    by_age = np.lexsort((devices.ids, devices.bound_at))
    drawn = (
        _records(fleet, order),
        _frame("devices", fleet, _devices(fleet, by_age[~devices.unbound[by_age]])),
        _users(fleet.users),
        pd.DataFrame(
            {
                "record_id": _digits(records.ids[order]),
                "really_stuck": records.stuck[order],
                "attempt_no": records.attempt[order],
                "incident": _named(habits.INCIDENTS, records.incident[order]),
                "dirt": _named(DIRT, records.dirt[order]),
            }
        ),
        pd.DataFrame(
            {
                "user_id": _digits(fleet.users.ids[devices.user[by_age]]),
                "device_id": _digits(devices.ids[by_age]),
                "class": _named(list(habits.CLASSES), devices.kind[by_age]),
                "system": _named(habits.SYSTEMS, devices.system[by_age]),
                "rhythm": _named(list(habits.RHYTHMS), devices.rhythm[by_age]),
                "dropped_at": _times(
                    np.where(devices.dropped_at == LATER, NO_TIME, devices.dropped_at)[by_age]
                ),
                "never": devices.never[by_age],
                "unbound": devices.unbound[by_age],
            }
        ),
    )
    return Frames(*map(privacy.protect, drawn))


def users(preset: str | Preset = "small", seed: int = 0) -> pd.DataFrame:
    """List the users of a synthetic fleet, one row each: `user_id`, `region`, `plan`.

    It is what a carrier's own list of users carries, in the order of that list. The fleet itself is
    not drawn.

    Raises:
        InvalidParameterError: There is no such preset, or the seed is no whole number.
    """
    drawn = draw_users(habits.preset_of(preset), habits.checked_seed(seed))
    return privacy.protect(_users(drawn))


def _users(drawn: Users) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "user_id": _digits(drawn.ids),
            "region": _named(list(habits.REGIONS), drawn.regions),
            "plan": _named(list(habits.PLANS), drawn.plans),
        }
    )


def _records(fleet: Fleet, order: NDArray[np.int64]) -> pd.DataFrame:
    records = fleet.records
    device = records.device[order]
    start, end, status = records.start[order], records.end[order], records.status[order]
    names_device = records.names_device[order]
    is_lost = ~names_device & fleet.devices.unbound[device]
    record, query, missing = (DEVICE_SOURCES.index(name) for name in ("record", "query", "missing"))
    return _frame(
        "records",
        fleet,
        {
            **_devices(fleet, device, is_lost),
            "record_id": _digits(records.ids[order]),
            "module": records.module[order],
            "module_code": _named(list(MODULES), records.module[order]),
            "status": np.where(np.isin(status, list(STATUSES)), status, _UNKNOWN_STATUS),
            "status_code": pd.arrays.IntegerArray(status.astype(np.int64), status == NO_STATUS),
            "create_time": _times(start),
            "end_time": _times(end),
            "duration_s": np.where(end == NO_TIME, np.nan, (end - start) / 1000),
            "device_source": np.select([names_device, is_lost], [record, missing], query),
            "version": pd.array(np.ones(len(order), np.int64), "Int64"),
            "properties": _series(properties.texts(fleet, order)),
        },
    )


def _devices(
    fleet: Fleet, rows: NDArray[np.int64], is_lost: NDArray[np.bool_] | None = None
) -> dict[str, Any]:
    """Give the columns of these devices, all missing where one is lost."""
    devices = fleet.devices
    bound_at = devices.bound_at[rows]
    return {
        "user_id": _digits(fleet.users.ids[devices.user[rows]]),
        "device_id": _text(pa.array(devices.ids).cast(pa.string()), rows, is_lost),
        "device_name": _text(pa.array(devices.name, pa.string()), rows, is_lost),
        "device_os": _text(pa.array(devices.spelling, pa.string()), rows, is_lost),
        "machine_code": _text(pa.array(devices.machine_code, pa.string()), rows, is_lost),
        "device_create_time": _times(
            bound_at if is_lost is None else np.where(is_lost, NO_TIME, bound_at)
        ),
    }


def _frame(dataset: str, fleet: Fleet, values: Mapping[str, Any]) -> pd.DataFrame:
    """Put the columns of a dataset in their order, and add what every row of the fleet shares."""
    size = len(values["user_id"])
    shared = {
        "extra": _series(pa.nulls(size, pa.string())),
        "source": np.full(size, SOURCES.index("sandbox")),
        "fetched_at": pd.Series(pd.Timestamp(fleet.as_of, unit="ms", tz="UTC"), range(size), TIME),
    }
    made = {}
    for column in DATASETS[dataset]:
        value = {**values, **shared}[column.name]
        if column.kind == "category":
            value = pd.Categorical.from_codes(value, dtype=column.dtype)
        made[column.name] = pd.Series(value, dtype=column.dtype)
    frame = pd.DataFrame(made, copy=False)
    # What charts say of a frame, as the client leaves it there.
    frame.attrs["koodrive"] = {"source": "sandbox", "complete": True}
    return frame


def _series(values: pa.Array) -> pd.Series[Any]:
    series: pd.Series[Any] = values.to_pandas(types_mapper={pa.string(): STRING}.get)
    return series


def _digits(numbers: NDArray[np.int64]) -> pd.Series[Any]:
    return _series(pa.array(numbers).cast(pa.string()))


def _named(names: Sequence[str], places: NDArray[Any]) -> pd.Series[Any]:
    return _text(pa.array(list(names), pa.string()), places)


def _text(
    values: pa.Array, places: NDArray[Any], is_missing: NDArray[np.bool_] | None = None
) -> pd.Series[Any]:
    return _series(values.take(pa.array(places, mask=is_missing)))


def _times(milliseconds: NDArray[np.int64]) -> pd.Series[Any]:
    return pd.Series(milliseconds.view("M8[ms]")).dt.tz_localize("UTC")
