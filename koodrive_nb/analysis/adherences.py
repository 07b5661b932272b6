"""Which devices completed a backup on which local day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np
import pandas as pd

from koodrive_nb import settings
from koodrive_nb.analysis import arguments, holdings, rules
from koodrive_nb.analysis.holdings import DEVICE
from koodrive_nb.analysis.states import prepared
from koodrive_nb.analysis.zones import DAY_MS, bin_starts, check_session, epoch_ms, local_bin, walls
from koodrive_nb.columns import STRING, categories
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from zoneinfo import ZoneInfo

    from koodrive_nb.analysis.arguments import StuckAfter

PERS = ("day", "device")
CELLS = ("adhered", "missed", "running", "not_expected", "unknown")
"""A day of a device: running is the day of its "now", unknown may be purged."""
_MOST_DAYS = 400
_MOST_DEVICES = 1_000


def adherence(  # noqa: PLR0913 -- each is a question of its own, and keyword-only
    records: Any,
    devices: Any = None,
    *,
    per: str = "day",
    since: object = "28D",
    until: object = None,
    max_devices: int = 50,
    as_of: object = None,
    tz: str | None = None,
    stuck_after: StuckAfter = "auto",
) -> pd.DataFrame:
    """Tell on which local days devices completed a backup of any module.

    A day is expected of a device when all of it lies after the day of its binding and before its
    "now", and it is adhered when a backup was created on it that completed, those included that
    wait for deletion by now. Days are local days of `tz`, 23 to 25 hours long.

    With `per` "day", one row per day: `bin_start`, `bin_end`, `expected` device-days = `adhered` +
    `missed` + `unknown` (older than the oldest copy left of a device whose copies are purged),
    `adherence_share` = adhered / expected, a lower bound where there are unknown ones, `n` records
    created on it, and `is_complete` (nothing of it is known to be purged). With "device", one row
    per device and day, for the `max_devices` longest without a completed backup (where there are
    more, rather for those that created a record in the window): the device,
    `device_label`, `bin_start`, `bin_end`, `cell` (one of the three, running: the day of its "now",
    or not_expected: not after its binding), `n` records created on it and how many `completed`.

    Devices bound at an unknown time, or not among `devices`, are left out and counted in attrs.
    Without `devices` those that never made a record are unknown, so `expected` and the share are
    missing, not 0.

    Source: adherence of items to policy per day, as in Azure Backup reports.

    Raises:
        InvalidParameterError: Columns are missing, or an argument is not what this takes.
    """
    if per not in PERS:
        raise InvalidParameterError(f"per= takes {', '.join(PERS)}, not {per!r}.")
    arguments.whole(max_devices, "max_devices", _MOST_DEVICES)
    zone = settings.display_zone(tz)
    check_session(records)
    frame, context = prepared(records, holdings.NEEDED, zone.key, as_of, stuck_after)
    known = holdings.of_devices(frame)
    modules = holdings.per_module(known)
    listed = None if devices is None else holdings.bound_devices(devices, as_of)
    lives = holdings.known_devices(modules, listed)
    start, end = arguments.window(since, until, zone.key, lives["as_of"].max())
    n_all = len(lives)
    lives = _in_days(lives[lives["is_bound"] & lives["bound"].notna()], modules, zone)
    days = _window_days(start, end, lives, zone)
    is_known = devices is not None
    horizon = holdings.complete_from(modules)
    chosen = lives
    if per == "device":
        # In a large fleet the longest exposed devices are long gone, and all their days alike.
        silent = ~(lives["attempt_day"] >= days.min())
        chosen = lives.loc[sorted(silent.sort_values(kind="stable").index[:max_devices])]
    created = _created_on(known, zone, days)
    result = _cells(created, chosen, days, is_whole=per == "device")
    if per == "day":
        result = _per_day(result, lives, days, is_known=is_known)
        n = created.groupby("day")["n"].sum().reindex(days, fill_value=0)
        result["n"] = n.to_numpy(dtype="int64")
    result = _dated(result, zone)
    if per == "day":
        result["is_complete"] = True if horizon is None else result["bin_start"] >= horizon
    result.attrs[ATTRS] = context.as_attrs(
        per=per,
        devices_known=is_known,
        n_devices=len(lives),
        n_devices_left_out=n_all - len(lives),
        n_devices_not_shown=len(lives) - len(chosen),
        since=None if result.empty else result["bin_start"].min().isoformat(),
        until=None if result.empty else result["bin_end"].max().isoformat(),
        history_complete_from=None if horizon is None else horizon.isoformat(),
        made={
            "table": "adherence",
            **arguments.plain(per=per, as_of=as_of, tz=zone.key, stuck_after=stuck_after),
        },
    )
    return result


def _in_days(lives: pd.DataFrame, modules: pd.DataFrame, zone: ZoneInfo) -> pd.DataFrame:
    """Number the days of each device: of its binding, its "now", and the first that is known.

    The device longest without a completed backup comes first.
    """
    purging = modules[modules["n_deleting"] > 0]
    purged = purging.groupby(list(DEVICE)).agg(known=("oldest_copy", "max")).reset_index()
    keys = dict.fromkeys(DEVICE, STRING)
    lives = lives.astype(keys).merge(purged.astype(keys), on=list(DEVICE), how="left")
    since = lives["completed"].fillna(lives["bound"])
    lives = lives.assign(_since=since).sort_values(["_since", *DEVICE], kind="stable")
    days = {
        f"{name}_day": day_number(lives[name], zone)
        for name in ("bound", "as_of", "known", "attempt")
    }
    return lives[[*DEVICE, "device_label"]].assign(**days).reset_index(drop=True)


def _window_days(
    start: pd.Timestamp | None, end: pd.Timestamp | None, lives: pd.DataFrame, zone: ZoneInfo
) -> pd.Index[int]:
    """Number the days of the window, those in which it begins and ends included."""
    if lives.empty:
        return pd.RangeIndex(0)
    last = int(lives["as_of_day"].max())
    if end is not None:
        # The end is not included: midnight ends the day before.
        last = min(last, _day_of(end - pd.Timedelta("1ms"), zone))
    first = int(lives["bound_day"].min()) if start is None else _day_of(start, zone)
    return pd.RangeIndex(max(first, last - _MOST_DAYS + 1), last + 1)


def _created_on(known: nw.LazyFrame[Any], zone: ZoneInfo, days: pd.Index[int]) -> pd.DataFrame:
    """Count for each device and day of the window its records and those that completed."""
    low, high = (bin_starts(days[:1], zone, DAY_MS), bin_starts(days[-1:] + 1, zone, DAY_MS))
    if days.empty:
        low = high = pd.DatetimeIndex(["1970-01-05T00:00Z"])
    edges = low[0].to_pydatetime(), high[0].to_pydatetime()
    at = nw.col("_at")
    inside = known.select(*DEVICE, "_at", "_held", "_gone").filter(
        at >= nw.lit(edges[0]), at < nw.lit(edges[1])
    )
    done = (nw.col("_held") | nw.col("_gone")).cast(nw.Int64)
    numbered = inside.with_columns(
        day=local_bin(epoch_ms(inside, "_at"), zone, edges, DAY_MS), completed=done
    )
    counts = numbered.group_by(*DEVICE, "day").agg(n=nw.len(), completed=nw.col("completed").sum())
    kinds: dict[str, Any] = dict.fromkeys(DEVICE, STRING)
    kinds |= dict.fromkeys(("day", "n", "completed"), "int64")
    return rules.collect(counts).astype(kinds)


def _cells(
    created: pd.DataFrame, lives: pd.DataFrame, days: pd.Index[int], *, is_whole: bool
) -> pd.DataFrame:
    """Give the days of devices on which records were created, or with `is_whole` all of them."""
    keys = list(DEVICE)
    if is_whole:
        every = lives.assign(_place=range(len(lives))).merge(days.to_frame(name="day"), how="cross")
        cells = every.merge(created, on=[*keys, "day"], how="left").sort_values(["_place", "day"])
        cells[["n", "completed"]] = cells[["n", "completed"]].fillna(0).astype("int64")
    else:
        cells = created.merge(lives.drop(columns="device_label"), on=keys)
    cell = np.select(
        [
            cells["day"] <= cells["bound_day"],
            cells["day"] >= cells["as_of_day"],
            cells["completed"] > 0,
            cells["day"] < cells["known_day"],
        ],
        ["not_expected", "running", "adhered", "unknown"],
        "missed",
    )
    cells["cell"] = pd.Categorical(cell, dtype=categories(CELLS))
    if not is_whole:
        return cells
    cells["device_label"] = cells["device_label"].astype(STRING)
    shown = [*keys, "device_label", "day", "cell", "n", "completed"]
    return cells[shown].reset_index(drop=True)


def _per_day(
    cells: pd.DataFrame, lives: pd.DataFrame, days: pd.Index[int], *, is_known: bool
) -> pd.DataFrame:
    adhered = cells[cells["cell"] == "adhered"]
    early = adhered[adhered["day"] < adhered["known_day"]]
    hits = adhered["day"].value_counts().reindex(days, fill_value=0).to_numpy()
    known_hits = early["day"].value_counts().reindex(days, fill_value=0).to_numpy()
    expected = _alive(lives["bound_day"] + 1, lives["as_of_day"], days)
    cut = lives[lives["known_day"].notna()]
    until = cut[["as_of_day", "known_day"]].min(axis=1)
    purged = _alive(cut["bound_day"] + 1, until, days)
    table = pd.DataFrame({"day": days, "expected": expected, "adhered": hits})
    table["unknown"] = purged - known_hits
    table["missed"] = table["expected"] - table["adhered"] - table["unknown"]
    counts = ["expected", "adhered", "missed", "unknown"]
    table = table[["day", *counts]].astype(dict.fromkeys(counts, "Int64"))
    of = table["expected"].astype("float64")
    table["adherence_share"] = (table["adhered"].astype("float64") / of).where(of > 0)
    if not is_known:
        table[["expected", "missed"]] = table[["expected", "missed"]].mask(of.notna())
        table["adherence_share"] = np.nan
    return table


def _alive(first: pd.Series[Any], end: pd.Series[Any], days: pd.Index[int]) -> Any:
    """Count on each day the devices whose days from `first` on have not reached `end` yet."""
    lasts = (end > first).to_numpy()
    starts, ends = np.sort(first.to_numpy()[lasts]), np.sort(end.to_numpy()[lasts])
    return np.searchsorted(starts, days, "right") - np.searchsorted(ends, days, "right")


def _dated(table: pd.DataFrame, zone: ZoneInfo) -> pd.DataFrame:
    """Write numbered days as the instants that they begin and end at."""
    day = pd.Index(table["day"], dtype="int64")
    place = list(table.columns).index("day")
    table = table.drop(columns="day")
    table.insert(place, "bin_start", bin_starts(day, zone, DAY_MS))
    table.insert(place + 1, "bin_end", bin_starts(day + 1, zone, DAY_MS))
    return table


def day_number(times: pd.Series[Any], zone: ZoneInfo) -> pd.Series[Any]:
    """Number the local days that instants lie in, as `zones.local_bin` does."""
    local = times.dt.tz_convert(zone).dt.tz_localize(None)
    numbers: pd.Series[Any] = (local - walls(pd.Index([0]), DAY_MS)[0]) // pd.Timedelta("1D")
    return numbers.astype("float64")


def _day_of(instant: pd.Timestamp, zone: ZoneInfo) -> int:
    return int(day_number(pd.Series([instant]), zone).iloc[0])


def records_behind(
    frame: nw.LazyFrame[Any], row: Mapping[str, Any], made: Mapping[str, Any]
) -> nw.LazyFrame[Any]:
    """Give the classified records that were created on the day of a row of `adherence`."""
    at = nw.col("_at")
    begin, end = (row[name].to_pydatetime() for name in ("bin_start", "bin_end"))
    mine = holdings.placed(frame).filter(
        ~nw.col("device_id").is_null(), at >= nw.lit(begin), at < nw.lit(end)
    )
    if made["per"] == "device":
        mine = mine.filter(*(nw.col(name) == row[name] for name in DEVICE))
    return mine
