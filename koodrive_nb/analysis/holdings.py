"""What each device holds of each module, and which devices there are: one row each.

The first step of every table about exposure: it runs on the engine, and what it leaves fits memory.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import narwhals as nw
import pandas as pd

from koodrive_nb.analysis import arguments, groups, rules
from koodrive_nb.analysis.labels import label_devices
from koodrive_nb.columns import MODULES, STRING, UNKNOWN, columns
from koodrive_nb.errors import InvalidParameterError

DEVICE = ("user_id", "device_id")
NEEDED = ("device_create_time", "module_code")
_DESCRIBED = ("device_label", "os_family")
_RAW = ("device_name", "device_os")
_MODULE = (*DEVICE, "module_code")
_SUMS = ("n", "n_completed", "n_deleting")
NEEDED_OF_DEVICES = (*DEVICE, "device_name", "device_create_time", "fetched_at")
CLOCKS_DIFFER = timedelta(minutes=5)
_SCHEMA = {column.name for column in columns("devices")}
_LISTED = {*DEVICE, *_DESCRIBED, "bound", "as_of"}
# What tables about devices call their own columns.
_TAKEN = _LISTED | {
    *("module", "state", "cause", "first", "attempt", "completed", "deleted", "unfinished"),
    *(
        "oldest_copy",
        "is_bound",
        "in_scope",
        "n",
        "n_completed",
        "n_deleting",
        "n_devices",
        "n_exposed",
    ),
    *(
        "place",
        "stuck_in_a_row",
        "rpo_age_h",
        "last_completed_time",
        "last_attempt_time",
        "bound_time",
    ),
    *("newest_module", "worst_module", "worst_module_age_h", "expected_modules"),
    *("bucket", "age_from_h", "age_to_h", "age_h", "share", "cumulative_share", "of"),
}


def placed(frame: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Add `_at`, when a record began as far as its "now" can know, and what became of it.

    What was created after a past "now" has no place, nor what claims to be created after the fetch
    itself: a wrong clock would make its device look protected for ever. Up to five minutes are
    taken for clocks that differ, and count as now.
    """
    created, now, state = nw.col("create_time"), nw.col("as_of"), nw.col("state")
    deleting, has_end = state == "to_be_deleted", ~nw.col("end_time").is_null()
    return frame.with_columns(
        _at=nw.when(created <= now)
        .then(created)
        .when((created <= now + CLOCKS_DIFFER) & (now >= nw.col("fetched_at")))
        .then(now),
        _held=state == "completed",
        _gone=deleting & has_end,
        _open=state.is_in(["stuck", "in_progress", "unknown"]) | (deleting & ~has_end),
    )


def of_devices(frame: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Leave the records of devices that have a place in time, with what is reduced below."""
    told = ("create_time", "end_time", "as_of", "fetched_at", "device_create_time")
    keys, status = (*_MODULE, *_RAW), ("state", "status_code")
    known = placed(rules.coded(frame.select(*keys, *told, *status), *keys))
    return known.filter(~nw.col("_at").is_null(), ~nw.col("device_id").is_null())


def per_module(known: nw.LazyFrame[Any]) -> pd.DataFrame:
    """Give one row for each device and module, of what `of_devices` left.

    Columns: `user_id`, `device_id`, `device_label`, `os_family`, `module`, `n` records,
    `n_completed`, `n_deleting` (completed, and to be deleted by now), the newest of each kind:
    `attempt`, `completed`, `deleted`, `unfinished`; the oldest, `first`, and the `oldest_copy`;
    `bound` and `as_of`; and `place`, a number for each device.
    """
    at = nw.col("_at")
    marked = known.with_columns(
        _completed=nw.when(nw.col("_held")).then(at),
        _deleted=nw.when(nw.col("_gone")).then(at),
        _unfinished=nw.when(nw.col("_open")).then(at),
        _copy=nw.when(nw.col("_held") | nw.col("_gone")).then(at),
        **{name: nw.col(name).cast(nw.Int64) for name in ("_held", "_gone")},
    )
    # By name and system too: a device that was renamed is put together again below, and labelled
    # only then, since text for each record takes longer than all the rest.
    table = rules.collect(
        marked.group_by(*_MODULE, *_RAW).agg(
            n=nw.len(),
            n_completed=nw.col("_held").sum(),
            n_deleting=nw.col("_gone").sum(),
            attempt=at.max(),
            completed=nw.col("_completed").max(),
            deleted=nw.col("_deleted").max(),
            unfinished=nw.col("_unfinished").max(),
            first=at.min(),
            oldest_copy=nw.col("_copy").min(),
            bound=nw.col("device_create_time").min(),
            as_of=nw.col("as_of").max(),
        )
    )
    table = label_devices(_named(table))
    table["place"] = groups.numbers(table, DEVICE)
    return _united(table, ["place", "module"])


def strikes(known: nw.LazyFrame[Any], modules: pd.DataFrame) -> pd.DataFrame:
    """Count for each device and module the stuck records since the newest completed one.

    `modules` is what `per_module` gives, as is `place`; a pair without any has no row.
    """
    keys = [*DEVICE, "module"]
    # Stuck ones are few, and were all fetched as open: no engine can tell that from their state.
    was_open = (nw.col("status_code") == 0) | (nw.col("as_of") < nw.col("fetched_at"))
    stuck = known.filter(was_open, nw.col("state") == "stuck").select(*_MODULE, "_at")
    table = _named(rules.collect(stuck)).astype(dict.fromkeys(DEVICE, STRING))
    table = table.merge(modules[[*keys, "place", "completed"]], on=keys)
    since = table[~(table["_at"] <= table["completed"])]
    counts = since.groupby(["place", "module"], as_index=False).agg(stuck_in_a_row=("_at", "size"))
    return counts.merge(modules[[*keys, "place"]], on=["place", "module"])


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """Write codes of modules as labels; those that the API does not know are one."""
    labels = table["module_code"].map(dict(MODULES)).fillna(UNKNOWN)
    return table.drop(columns="module_code").assign(module=labels.astype(STRING))


def per_device(modules: pd.DataFrame) -> pd.DataFrame:
    """Put the modules of each device together."""
    return _united(modules.drop(columns="module"), ["place"])


def _united(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Leave one row for each key, described as at its newest attempt."""
    if not table.duplicated(keys).any():
        return table.reset_index(drop=True)
    newest = ["attempt", "completed", "deleted", "unfinished", "as_of"]
    how = (
        dict.fromkeys(_SUMS, "sum")
        | dict.fromkeys(newest, "max")
        | dict.fromkeys(("first", "oldest_copy", "bound"), "min")
    )
    found = table.groupby(keys, sort=False, as_index=False, dropna=False).agg(how)
    # Sorted are places alone, since texts take longer to move than all the rest.
    order = table[keys].iloc[table["attempt"].argsort(kind="stable")]
    last = order.index[~order.duplicated(keep="last")]
    return table.drop(columns=list(how)).loc[last].merge(found, on=keys)


def bound_devices(devices: Any, as_of: object) -> pd.DataFrame:
    """Give the devices that are bound as of their "now", labelled, each once.

    Columns: `user_id`, `device_id`, `device_label`, `os_family`, `bound`, `as_of`, and whatever
    columns the frame has besides those of the schema.

    Raises:
        InvalidParameterError: Columns are missing, or have names that are taken.
    """
    table = label_devices(listed_devices(devices, as_of)).drop(columns=[*_RAW])
    table = table.rename(columns={"device_create_time": "bound", "fetched_at": "as_of"})
    return table.astype(dict.fromkeys(DEVICE, STRING)).reset_index(drop=True)


def listed_devices(devices: Any, as_of: object) -> pd.DataFrame:
    """Give the devices that are bound as of their "now", each once, with the columns of the list.

    Raises:
        InvalidParameterError: Columns are missing, or have names that are taken.
    """
    frame = rules.lazy(devices, (), "devices")
    if "record_id" in frame.collect_schema().names():
        raise InvalidParameterError(
            "devices= takes the list of devices, and this frame has records: pass what "
            "client.devices() returned; records of an earlier look are what deletion_backlog() "
            "takes as previous=."
        )
    frame = rules.lazy(devices, NEEDED_OF_DEVICES, "devices")
    names = frame.collect_schema().names()
    others = [name for name in names if name not in _SCHEMA]
    taken = sorted(set(others) & _TAKEN)
    if taken:
        raise InvalidParameterError(
            f"The devices have columns named {', '.join(taken)}, as the answer has: rename them."
        )
    if "device_os" not in names:
        frame = frame.with_columns(device_os=nw.lit(None, dtype=nw.String))
    told = (*NEEDED_OF_DEVICES, "device_os", *others)
    table = rules.collect(frame.select(*told)).sort_values("fetched_at")
    table = table.drop_duplicates(list(DEVICE), keep="last")
    if as_of is not None:
        limit = arguments.instant(as_of, "as_of")
        table = table[~(table["device_create_time"] > limit)]
        table["fetched_at"] = table["fetched_at"].where(table["fetched_at"] < limit, limit)
    # A binding in the future would keep a device out of scope for ever: it is not known.
    bound = table["device_create_time"]
    table["device_create_time"] = bound.mask(bound > table["fetched_at"] + CLOCKS_DIFFER)
    return table


def known_devices(modules: pd.DataFrame, listed: pd.DataFrame | None) -> pd.DataFrame:
    """Give each device with what it holds: those with records, and those that are bound.

    Adds `is_bound`, which is taken for granted where nobody knows.
    """
    table = per_device(modules)
    return table.assign(is_bound=True) if listed is None else with_bound(table, listed)


def with_bound(table: pd.DataFrame, devices: pd.DataFrame) -> pd.DataFrame:
    """Join what devices hold with the list of bound devices, which has the newer description.

    Adds `is_bound`. Counts of devices without records are 0.
    """
    # By a number for each device: what it joins from both sides pandas sorts, and texts slowly.
    keys = list(DEVICE)
    at = groups.numbers(pd.concat([table[keys], devices[keys]], ignore_index=True), keys)
    here, there = table.assign(_at=at[: len(table)]), devices.assign(_at=at[len(table) :])
    joined = here.merge(there, on="_at", how="outer", suffixes=("", "_d"), indicator=True)
    for name in (*keys, *_DESCRIBED, "bound"):
        if f"{name}_d" in joined:
            joined[name] = joined.pop(f"{name}_d").fillna(joined[name])
    joined["as_of"] = joined["as_of"].fillna(joined.pop("as_of_d"))
    counts = [name for name in _SUMS if name in joined.columns]
    joined[counts] = joined[counts].fillna(0).astype("int64")
    joined["is_bound"] = joined.pop("_merge") != "left_only"
    return joined.drop(columns="_at")


def others(devices: pd.DataFrame) -> list[str]:
    """Name the columns of bound devices that are not of the schema, such as a region."""
    return [name for name in devices.columns if name not in _LISTED]


def hours_between(later: pd.Series[Any], earlier: pd.Series[Any]) -> pd.Series[Any]:
    """Give elapsed hours, which no change of the clock can bend."""
    return (later - earlier).dt.total_seconds() / 3600


def complete_from(modules: pd.DataFrame, share: float = 0.99) -> pd.Timestamp | None:
    """Tell from when on history is complete; None: nothing shows that anything was purged.

    Where completed backups of a device and module wait for deletion, older ones may be gone
    already, so that nothing is known of it before the oldest copy that is left; what was abandoned
    stays for longer. History counts as complete from the instant on at which that is past for all
    but 1 % of them. `modules` has `oldest_copy` and `n_deleting`.
    """
    if modules.empty:
        return None
    purged = modules["oldest_copy"].where(modules["n_deleting"] > 0)
    known = purged.sort_values(na_position="first").reset_index(drop=True)
    edge = known.iloc[min(int(share * len(known)), len(known) - 1)]
    return edge if isinstance(edge, pd.Timestamp) else None
