"""What waits for deletion, and which devices have no other copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import narwhals as nw
import pandas as pd

from koodrive_nb import settings
from koodrive_nb.analysis import arguments, breakdowns, groups, holdings, looks, rules, states
from koodrive_nb.analysis.holdings import DEVICE
from koodrive_nb.columns import STRING, TIME
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from koodrive_nb.analysis.arguments import StuckAfter

_RECORDS = ("n", "copies", "to_be_deleted", "was_completed", "was_abandoned")
_DEVICES = ("n_devices", "n_last_copy_at_risk")
_SINCE = ("new_since", "purged_since")
_RESULTS = {*_RECORDS, *_DEVICES, *_SINCE, "waiting_share", "history_complete_from"}


def deletion_backlog(  # noqa: PLR0913 -- each is a question of its own, and keyword-only
    records: Any,
    devices: Any = None,
    *,
    by: str | Sequence[str] = "module",
    previous: Any = None,
    as_of: object = None,
    tz: str | None = None,
    stuck_after: StuckAfter = "auto",
) -> pd.DataFrame:
    """Count what waits for deletion, and the devices that have no other copy, one row per group.

    Columns: the group's own; `n` records; `copies`, the completed ones; `to_be_deleted`, of which
    `was_completed` and `was_abandoned`; `waiting_share` = `to_be_deleted` / `n`; `n_devices`, the
    bound ones with records in the group, and of these `n_last_copy_at_risk`: all completed copies
    wait for deletion, of that module where the groups are modules, else of any;
    `history_complete_from`, as in `exposure_history` (missing: nothing shows that anything was
    purged). Groups come in the order of `status_breakdown`.

    A single look cannot tell for how long anything has been waiting. With the records of an earlier
    one as `previous`, `new_since` counts those that are marked now and were not then, and
    `purged_since` those that were marked then and are gone: without it they are missing, not 0.
    What was marked and purged between the two looks was never seen, so both are lower bounds. Only
    users who were fetched earlier in `previous` are compared; attrs count the others
    (`n_users_left_out`). Pass both whole: users of whom `previous` lacks a record that was there
    when it was fetched are compared neither (`n_users_incomplete`), but what `records` lack looks
    purged.

    Which devices are bound takes the list of them as `devices`: without it both counts of devices
    are missing, since all records of a device that is not bound any more are marked. Records
    without a device or a creation time belong to no device. `previous` must be the same kind of
    frame as `records`; of DuckDB or Spark, of the same session.

    Raises:
        InvalidParameterError: Columns are missing, an argument is not what this takes, or
            `previous` is another kind of frame, has no user to compare, or was not fetched before.
    """
    keys = arguments.keys(by, _RESULTS)
    zone = settings.display_zone(tz).key
    groups.check_keys(records, keys)
    classified = states.classify(records, as_of=as_of, stuck_after=stuck_after)
    counted = breakdowns.status_breakdown(classified, by=keys, tz=zone)
    table = counted.rename(columns={"completed": "copies"})[[*keys, *_RECORDS]]
    frame = rules.lazy(rules.spelled(classified, keys), (*holdings.NEEDED, *looks.KEYS, *keys))
    since, users = looks.since(frame, previous, keys)
    if since is not None:
        table = _with_vanished(table, since, keys)
    table["waiting_share"] = (table["to_be_deleted"] / table["n"]).where(table["n"] > 0)
    held = _held(frame, keys)
    counts, n_unbound = None, None
    if devices is not None:
        bound, n_unbound = _bound(held, devices, as_of)
        counts = _of_devices(bound, keys)
    table = _with_counts(table, counts, keys, _DEVICES)
    table = table.merge(_complete_from(held, keys), on=keys, how="left")
    table = _with_counts(table, since, keys, _SINCE)
    about = counted.attrs[ATTRS]
    made = {"table": "deletion_backlog", "by": keys}
    made |= arguments.plain(as_of=as_of, tz=zone, stuck_after=stuck_after)
    whole = holdings.complete_from(held)
    table.attrs[ATTRS] = (
        about
        | users
        | {
            "devices_known": devices is not None,
            "n_unbound": n_unbound,
            "history_complete_from": None if whole is None else whole.isoformat(),
            "made": made,
        }
    )
    return table


def _held(frame: nw.LazyFrame[Any], keys: Sequence[str]) -> pd.DataFrame:
    """Count what each device holds of each module in each group."""
    columns = dict.fromkeys((*DEVICE, "module_code", *keys))
    told = dict.fromkeys((*columns, "create_time", "end_time", "as_of", "fetched_at", "state"))
    known = holdings.placed(rules.coded(frame.select(*told), *columns))
    # pandas would copy, of all records, what is not looked at any more.
    known = known.select(*columns, "_at", "_held", "_gone").filter(
        ~nw.col("_at").is_null(), ~nw.col("device_id").is_null()
    )
    sums = {"n_completed": "_held", "n_deleting": "_gone"}
    known = known.with_columns(
        _copy=nw.when(nw.col("_held") | nw.col("_gone")).then(nw.col("_at")),
        **{name: nw.col(name).cast(nw.Int64) for name in sums.values()},
    )
    held = rules.collect(
        known.group_by(*columns).agg(
            oldest_copy=nw.col("_copy").min(),
            **{name: nw.col(of).sum() for name, of in sums.items()},
        )
    )
    kinds = dict.fromkeys(DEVICE, STRING) | dict.fromkeys(sums, "int64")
    return breakdowns.modules_named(held.astype(kinds), keys)


def _with_counts(
    table: pd.DataFrame, counts: pd.DataFrame | None, keys: list[str], names: Sequence[str]
) -> pd.DataFrame:
    """Add counts to the groups: 0 where a group has none, missing where nothing was counted."""
    if counts is None:
        nothing = pd.array([pd.NA] * len(table), dtype="Int64")
        return table.assign(**dict.fromkeys(names, nothing))
    table = table.merge(counts, on=keys, how="left").fillna(dict.fromkeys(names, 0))
    return table.astype(dict.fromkeys(names, "Int64"))


def _bound(held: pd.DataFrame, devices: Any, as_of: object) -> tuple[pd.DataFrame, int]:
    """Leave out the devices that are not bound any more, and count them."""
    # Without labels, which take longer than all the rest of it.
    listed = holdings.listed_devices(devices, as_of)[[*DEVICE]]
    bound = held.merge(listed, on=list(DEVICE), how="inner")
    n = [len(each[[*DEVICE]].drop_duplicates()) for each in (held, bound)]
    return bound, n[0] - n[1]


def _of_devices(held: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Count the devices of each group, and those whose last copy is at risk."""
    # A device whose system was renamed has copies in two groups, but they are copies of one device.
    whose = [*DEVICE, "module"] if "module" in keys else list(DEVICE)
    of_device = held.groupby(whose, sort=False, dropna=False, observed=True)
    copies, deleting = (of_device[name].transform("sum") for name in ("n_completed", "n_deleting"))
    each = held.assign(n_last_copy_at_risk=(copies == 0) & (deleting > 0), n_devices=1)
    each = each.drop_duplicates([*DEVICE, *keys])
    counts = each.groupby(keys, sort=False, dropna=False, observed=True)[[*_DEVICES]].sum()
    return counts.reset_index()


def _complete_from(held: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    parts = held.groupby(keys, sort=False, dropna=False, observed=True)
    whole = [holdings.complete_from(part) for _, part in parts]
    first = held.drop_duplicates(keys)[keys].reset_index(drop=True)
    return first.assign(history_complete_from=pd.Series(whole, dtype=TIME))


def _with_vanished(table: pd.DataFrame, since: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Add the groups of which everything is purged."""
    known = since[keys].merge(table[keys], on=keys, how="left", indicator=True)
    gone = known.loc[known["_merge"] == "left_only", keys]
    more = gone.assign(**dict.fromkeys(_RECORDS, 0)).astype(table.dtypes.to_dict())
    return pd.concat([table, more], ignore_index=True) if len(more) else table
