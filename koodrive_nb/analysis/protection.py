"""How well each device is protected, and why it is not.

Led by the age of the newest completed backup, not by a rate of success: a device that no longer
tries fails nowhere. That a backup completed is what its client said; nobody has tested a restore.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import narwhals as nw
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from koodrive_nb import settings
from koodrive_nb.analysis import arguments, holdings, rules
from koodrive_nb.analysis.holdings import DEVICE, hours_between
from koodrive_nb.analysis.objective import Objective, judged
from koodrive_nb.analysis.states import prepared
from koodrive_nb.columns import MODULES, STRING, TIME, categories
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from koodrive_nb.analysis.arguments import Duration, StuckAfter

PERS = ("device", "module", "user")
_EXPECTED_WITHIN = pd.Timedelta("90D")
_SWITCH = "auto_backup"
_SWITCHED_ON = ("on", "true", "1", "yes", "enabled")
_RPO, _GRACE, SLACK = "7D", "7D", 1.5
EXPOSED = ("never", "deleting", "outdated", "late")

_COLUMNS: dict[str, Any] = {
    "user_id": STRING,
    "device_id": STRING,
    "module": STRING,
    "device_label": STRING,
    "os_family": categories(rules.OS_FAMILIES),
    "state": categories(rules.PROTECTION),
    "cause": categories(rules.CAUSES),
    "rpo_age_h": "float64",
    "last_completed_time": TIME,
    "last_attempt_time": TIME,
    "stuck_in_a_row": "int64",
    "newest_module": STRING,
    "worst_module": STRING,
    "worst_module_age_h": "float64",
    "expected_modules": STRING,
    "n": "int64",
    "n_completed": "int64",
    "n_deleting": "int64",
    "bound_time": TIME,
    "in_scope": "bool",
    "as_of": TIME,
}
_OF_DEVICES_ONLY = ("newest_module", "worst_module", "worst_module_age_h", "expected_modules")


def protection_status(  # noqa: PLR0913 -- each is a question of its own, and keyword-only
    records: Any,
    devices: Any = None,
    *,
    per: str = "device",
    rpo: Duration = _RPO,
    grace: Duration = _GRACE,
    slack: float = SLACK,
    configs: Any = None,
    as_of: object = None,
    tz: str | None = None,
    stuck_after: StuckAfter = "auto",
) -> pd.DataFrame:
    """Tell for each device how old its newest completed backup is, and why there is none newer.

    One row per device, or with `per` per device and module, or per user, the worst first.

    `state`: protected (age at most `rpo`), warning (protected, but a newer attempt of one of its
    modules is stuck), late (up to `slack` times the `rpo`), outdated (older), deleting (all
    completed copies wait for deletion), never (none completed), initial_pending (none completed,
    bound for less than `grace`), unbound (has records, but is not among `devices`). `in_scope` is
    False for the last one, and for whatever was bound for less than `grace`: shares leave them out.

    `cause`, where it is not protected: attempts_stuck (there were attempts since, none completed),
    no_attempt (none since), never_attempted (none ever), only_deleted_copies (there was a newer
    copy, which waits for deletion), new.

    Statuses are those of now: at a past `as_of`, a copy that waits for deletion today counts as
    deleting, while `exposure_history` counts it as the copy that it was.

    `rpo_age_h` is the age of the newest completed backup in hours, from its creation to the row's
    `as_of` (missing: none completed); `stuck_in_a_row` counts stuck attempts since the newest
    completed one, of the worst module, and is a lower bound, since attempts are purged;
    `worst_module` is the expected module longest without a completed backup (`worst_module_age_h`
    missing: it has none), of `expected_modules`: those attempted in the last 90 days, or with
    `configs` those whose setting auto_backup is on. `n` counts records, `n_completed` copies,
    `n_deleting` copies that wait for deletion. A user has the state of the worst device in scope,
    `n_devices`, and `n_exposed`: late, outdated, deleting or never.

    Pass all records of all modules. Without `devices`, those that never made a record are unknown;
    records without a device or a creation time are left out, and counted in attrs. Further columns
    of `devices`, such as a region, are carried along.

    Source: recovery point objective as in Commvault's SLA report and AWS Backup Audit Manager.

    Raises:
        InvalidParameterError: Columns are missing, or an argument is not what this takes.
    """
    if per not in PERS:
        raise InvalidParameterError(f"per= takes {', '.join(PERS)}, not {per!r}.")
    goal = Objective.read(rpo, grace, slack)
    zone = settings.display_zone(tz).key
    frame, context = prepared(records, holdings.NEEDED, zone, as_of, stuck_after)
    known = holdings.of_devices(frame)
    modules = holdings.per_module(known)
    strikes = holdings.strikes(known, modules)
    listed = None if devices is None else holdings.bound_devices(devices, as_of)
    expected = _expected(modules, configs)
    if per == "module":
        counts = strikes.drop(columns="place")
        table = _modules_of(expected, listed).merge(counts, on=[*DEVICE, "module"], how="left")
        table = judged(table, goal)
    else:
        table = _with_modules(devices_of(modules, strikes, listed, goal), modules, expected)
    table = _per_user(table) if per == "user" else table
    table = _finished(table, per, listed)
    horizon = holdings.complete_from(modules)
    table.attrs[ATTRS] = context.as_attrs(
        **goal.facts(),
        per=per,
        devices_known=devices is not None,
        n_unplaced=context.n_records - int(modules["n"].sum()),
        history_complete_from=None if horizon is None else horizon.isoformat(),
        made={
            "table": "protection_status",
            "per": per,
            **arguments.plain(as_of=as_of, tz=zone, stuck_after=stuck_after),
        },
    )
    return table


def judged_devices(classified: Any, devices: Any, as_of: object) -> pd.DataFrame:
    """Judge each device as `protection_status` does by itself, without what else it tells.

    Columns: among others `user_id`, `device_id`, `state` and `cause`.
    """
    known = holdings.of_devices(rules.lazy(classified, holdings.NEEDED))
    listed = None if devices is None else holdings.bound_devices(devices, as_of)
    goal = Objective.read(_RPO, _GRACE, SLACK)
    modules = holdings.per_module(known)
    return devices_of(modules, holdings.strikes(known, modules), listed, goal)


def devices_of(
    modules: pd.DataFrame, strikes: pd.DataFrame, listed: pd.DataFrame | None, goal: Objective
) -> pd.DataFrame:
    """Put together what `holdings` found of each device, and judge it."""
    table = holdings.known_devices(modules, listed)
    worst = strikes.groupby("place", as_index=False)["stuck_in_a_row"].max()
    return judged(table.merge(worst, on="place", how="left"), goal)


def _expected(modules: pd.DataFrame, configs: Any) -> pd.DataFrame:
    """Give the device x module pairs that a backup is expected of."""
    keys = [*DEVICE, "module"]
    if configs is None:
        recent = modules["attempt"] >= modules["as_of"] - _EXPECTED_WITHIN
        return modules[recent]
    needed = (*keys, "config_name", "config_value")
    table = rules.collect(rules.lazy(configs, needed).select(*needed)).astype(STRING)
    on = table["config_value"].str.strip().str.lower().isin(_SWITCHED_ON)
    wanted = table[(table["config_name"] == _SWITCH) & on][keys].drop_duplicates()
    table = wanted.merge(modules.astype(dict.fromkeys(keys, STRING)), on=keys, how="left")
    table["place"] = table.groupby(list(DEVICE)).ngroup()
    return table


def _modules_of(expected: pd.DataFrame, listed: pd.DataFrame | None) -> pd.DataFrame:
    table = expected.assign(is_bound=True)
    if listed is None:
        return table
    joined = table.drop(columns="is_bound").merge(
        listed, on=list(DEVICE), how="left", suffixes=("", "_d"), indicator=True
    )
    for name in ("device_label", "os_family", "bound", "as_of"):
        newer = joined.pop(f"{name}_d")
        joined[name] = joined[name].fillna(newer) if name == "as_of" else newer.fillna(joined[name])
    joined["is_bound"] = joined.pop("_merge") == "both"
    return joined


def _with_modules(
    table: pd.DataFrame, modules: pd.DataFrame, expected: pd.DataFrame
) -> pd.DataFrame:
    """Add each device's newest module, the worst of those expected, and the names of these."""
    keys = list(DEVICE)
    # The order of modules decides between those of one instant.
    rank = {label: at for at, label in enumerate(rules.MODULE_LABELS)}
    told = ["place", "module", "completed"]
    done = modules[told].dropna(subset="completed")
    done = done.assign(_rank=done["module"].map(rank).astype("int64"))
    done = done.sort_values(["completed", "_rank"]).drop_duplicates("place", keep="last")
    newest = done[["place", "module"]].rename(columns={"module": "newest_module"})
    ordered = expected[["place", "completed"]]
    ordered = ordered.assign(_rank=expected["module"].map(rank).astype("int64"))
    ordered = ordered.sort_values(["completed", "_rank"], na_position="first")
    first = ordered.index[~ordered["place"].duplicated()]
    worst = expected.loc[first, [*keys, *told, "as_of"]].set_index("place")
    # As bits of a number, since text put together group by group takes seconds.
    bits = ordered.assign(_bit=2 ** ordered["_rank"]).groupby("place")["_bit"].sum()
    worst = worst[keys].assign(
        worst_module=worst["module"],
        worst_module_age_h=hours_between(worst["as_of"], worst["completed"]).clip(lower=0),
        expected_modules=bits.map({mask: _described(mask) for mask in set(bits)}),
    )
    return table.merge(worst, on=keys, how="left").merge(newest, on="place", how="left")


def _described(mask: int) -> str:
    present = (label for at, label in enumerate(rules.MODULE_LABELS) if mask >> at & 1)
    return ", ".join(present)


def _per_user(table: pd.DataFrame) -> pd.DataFrame:
    """Give each user the worst device in scope, or the worst of all where none is."""
    table = _sorted(table.assign(_out=~table["in_scope"]), ["_out"])
    bad = table["in_scope"] & table["state"].isin(EXPOSED)
    sums = table.assign(n_devices=1, n_exposed=bad.astype("int64")).groupby("user_id", sort=False)
    counts = ["n", "n_completed", "n_deleting", "n_devices", "n_exposed"]
    worst = table.drop_duplicates("user_id", keep="first").drop(columns=counts, errors="ignore")
    return worst.merge(sums[counts].sum().reset_index(), on="user_id")


def _sorted(table: pd.DataFrame, first: list[str]) -> pd.DataFrame:
    """Sort by state, the worst first, then by how long nothing has completed."""
    order = table["state"].map(rules.PROTECTION.index)
    since = table["completed"].fillna(table["bound"]).fillna(table["first"])
    keys = [*DEVICE, *(["module"] if "module" in table else [])]
    by = {"_order": order, "_since": since, **{key: table[key] for key in keys}}
    names = [*first, *by]
    # By Arrow, which sorts texts in a fraction of the time that pandas takes.
    places = pc.sort_indices(
        pa.table(by | {key: table[key] for key in first}),
        sort_keys=[(name, "ascending") for name in names],
    )
    ordered: pd.DataFrame = table.drop(columns=first).iloc[places.to_numpy()]
    return ordered.reset_index(drop=True)


def _finished(table: pd.DataFrame, per: str, listed: pd.DataFrame | None) -> pd.DataFrame:
    table = _sorted(table, []).rename(
        columns={
            "completed": "last_completed_time",
            "attempt": "last_attempt_time",
            "bound": "bound_time",
        }
    )
    names = [name for name in _COLUMNS if name != "module" or per == "module"]
    if per == "module":
        names = [name for name in names if name not in _OF_DEVICES_ONLY]
    if per == "user":
        names += ["n_devices", "n_exposed"]
    others = [] if listed is None else holdings.others(listed)
    table = table.reindex(columns=[*names, *others])
    return table.astype({name: kind for name, kind in _COLUMNS.items() if name in names})


def records_behind(
    frame: nw.LazyFrame[Any], row: Mapping[str, Any], made: Mapping[str, Any]
) -> nw.LazyFrame[Any]:
    """Give the classified records that a row of `protection_status` counts."""
    mine = holdings.placed(frame).filter(
        ~nw.col("_at").is_null(),
        ~nw.col("device_id").is_null(),
        rules.same("user_id", row["user_id"]),
    )
    if made["per"] == "user":
        return mine
    mine = mine.filter(nw.col("device_id") == row["device_id"])
    if made["per"] == "device":
        return mine
    code = {label: code for code, label in MODULES.items()}.get(row["module"])
    known = nw.col("module_code").is_in(list(MODULES))
    other = ~known | nw.col("module_code").is_null()
    return mine.filter(nw.col("module_code") == code if code else other)
