"""How exposed the devices were day by day, as far as the records that are left can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import narwhals as nw
import numpy as np
import pandas as pd

from koodrive_nb import settings
from koodrive_nb.analysis import arguments, holdings, rules
from koodrive_nb.analysis.holdings import DEVICE
from koodrive_nb.analysis.objective import Objective
from koodrive_nb.analysis.states import prepared
from koodrive_nb.analysis.zones import check_session, epoch_ms
from koodrive_nb.columns import STRING, TIME
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from koodrive_nb.analysis.arguments import Duration, StuckAfter

    Numbers = np.ndarray[Any, np.dtype[np.int64]]

_HOUR_MS = 3_600_000
_MOST_DAYS = 1_826


def exposure_history(  # noqa: PLR0913 -- each is a question of its own, and keyword-only
    records: Any,
    devices: Any = None,
    *,
    rpo: Duration = "7D",
    grace: Duration = "7D",
    slack: float = 1.5,
    since: object = "56D",
    until: object = None,
    as_of: object = None,
    tz: str | None = None,
    stuck_after: StuckAfter = "auto",
) -> pd.DataFrame:
    """Tell for each local day how many devices were protected, and for how much of the time.

    One row per day: `bin_start`, `bin_end`, `at` (the instant that is counted at: the end of the
    day, or "now"), `in_scope` devices (bound for at least `grace`), and how many of them were
    `protected` (newest completed backup at most `rpo` old), `late` (up to `slack` times that),
    `outdated`, `never` (none yet); `compliance_share` = protected / in_scope at that instant;
    `in_scope_h` and `exposed_h`, device-hours of the day in scope, and of these without a completed
    backup of the last `rpo`; `compliance_time_share` = 1 - exposed_h / in_scope_h; `is_partial`
    (the day is not over), `is_complete` (nothing of it is known to be purged). attrs have the
    `compliance_time_share` of the whole window, and `history_complete_from`. The window ends with
    the earliest "now" of the devices: nobody knows of all of them what came after.

    A copy that waits for deletion by now was a copy then, so it counts. Days before
    `history_complete_from` look worse than they were, since their records may be purged. Devices
    that are not among `devices` are left out, since nobody knows until when they were bound;
    without `devices` the shares and `never` are missing, not 0.

    Source: time-weighted compliance is the share of device-time, as availability is measured.

    Raises:
        InvalidParameterError: Columns are missing, or an argument is not what this takes.
    """
    goal = Objective.read(rpo, grace, slack)
    zone = settings.display_zone(tz)
    check_session(records)
    frame, context = prepared(records, holdings.NEEDED, zone.key, as_of, stuck_after)
    known = holdings.of_devices(frame)
    modules = holdings.per_module(known)
    listed = None if devices is None else holdings.bound_devices(devices, as_of)
    table = holdings.known_devices(modules, listed)
    table = table[table["is_bound"]]
    now = table["as_of"].min()
    start, end = arguments.window(since, until, zone.key, now if len(table) else None)
    horizon = holdings.complete_from(modules)
    is_known = devices is not None
    days = _days(zone, start, end, now, table["first"].min())
    found = counted(days, known, table, goal)
    result = _finished(found, horizon, is_known=is_known)
    total, exposed = found["in_scope_h"].sum(), found["exposed_h"].sum()
    result.attrs[ATTRS] = context.as_attrs(
        **goal.facts(),
        devices_known=is_known,
        n_devices=len(table),
        since=None if result.empty else result["bin_start"].iloc[0].isoformat(),
        until=None if result.empty else result["at"].iloc[-1].isoformat(),
        compliance_time_share=float(1 - exposed / total) if total and is_known else None,
        history_complete_from=None if horizon is None else horizon.isoformat(),
    )
    return result


def counted(
    spans: pd.DataFrame, known: nw.LazyFrame[Any], devices: pd.DataFrame, goal: Objective
) -> pd.DataFrame:
    """Count devices at the end of each span, and device-hours within it.

    `spans` has `bin_start` and `at`; added are `in_scope`, `protected`, `late`, `outdated`,
    `never`, `in_scope_h` and `exposed_h`. `devices` are those of `holdings.known_devices`.
    """
    return _counted(spans, _lives(devices, goal), _points(known, goal.rpo), goal)


def _days(
    zone: ZoneInfo,
    start: pd.Timestamp | None,
    end: pd.Timestamp | None,
    now: pd.Timestamp,
    first: pd.Timestamp,
) -> pd.DataFrame:
    """Give the local days of the window, each with its bounds and the instant it is counted at."""
    if pd.isna(now):
        return pd.DataFrame(
            {name: pd.Series(dtype=TIME) for name in ("bin_start", "bin_end", "at")}
        )
    last = now if end is None else min(now, end)
    begin = start if start is not None else first
    begin = last if pd.isna(begin) else max(begin, last - pd.Timedelta(days=_MOST_DAYS))
    walls = [stamp.tz_convert(zone).tz_localize(None).normalize() for stamp in (begin, last)]
    edges = pd.date_range(walls[0], walls[1] + pd.Timedelta("1D"), freq="D")
    local = edges.tz_localize(zone.key, ambiguous=True, nonexistent="shift_forward")
    instants = pd.Series(local.tz_convert("UTC")).astype(TIME)
    days = pd.DataFrame({"bin_start": instants.iloc[:-1].array, "bin_end": instants.iloc[1:].array})
    days = days[days["bin_start"] < last]
    days["at"] = days["bin_end"].where(days["bin_end"] < last, last)
    return days.reset_index(drop=True)


def _lives(table: pd.DataFrame, goal: Objective) -> pd.DataFrame:
    """Give from when to when each device is in scope."""
    begun = table["bound"].fillna(table["first"]) + goal.grace
    lives = pd.DataFrame(
        {
            **{name: table[name].astype(STRING) for name in DEVICE},
            "enters": _ms(begun),
            # Not included, so that the devices are still there at "now" itself.
            "leaves": _ms(table["as_of"]) + 1,
        }
    )
    return lives.reset_index(drop=True)


def _points(known: nw.LazyFrame[Any], rpo: pd.Timedelta) -> pd.DataFrame:
    """Give the recovery points after which a device went without a newer one for over the RPO.

    Columns: the device, `at`, `next` (missing: none yet), and the device's `oldest` point.
    """
    points = known.filter(nw.col("_held") | nw.col("_gone"))
    # Between two points of one stretch as long as the RPO there is no gap longer than that, so the
    # first and the last of each stretch are enough: a grouping, where a window would sort all.
    width_ms = int(rpo.total_seconds() * 1000)
    stretches = points.with_columns(_stretch=epoch_ms(points, "_at") // width_ms)
    found = rules.collect(
        stretches.group_by(*DEVICE, "_stretch").agg(
            begin=nw.col("_at").min(), at=nw.col("_at").max()
        )
    )
    device = found.groupby(list(DEVICE), sort=False).ngroup().to_numpy()
    order = np.lexsort((_ms(found["begin"]), device))
    found, device = found.iloc[order].reset_index(drop=True), device[order]
    is_last = np.append(device[1:] != device[:-1], len(device) > 0)[: len(device)].astype(bool)
    found["next"] = found["begin"].shift(-1).mask(is_last)
    found["oldest"] = found.groupby(device)["begin"].transform("first")
    gaps = found[is_last | (found["next"] > found["at"] + rpo)]
    return gaps.astype(dict.fromkeys(DEVICE, STRING))[[*DEVICE, "at", "next", "oldest"]]


def _counted(
    days: pd.DataFrame, lives: pd.DataFrame, points: pd.DataFrame, goal: Objective
) -> pd.DataFrame:
    """Count devices at the end of each day, and device-hours within it."""
    merged = lives.merge(points, on=list(DEVICE))
    at, enters, leaves = _ms(merged["at"]), merged["enters"].to_numpy(), merged["leaves"].to_numpy()
    rpo_ms = int(goal.rpo.total_seconds() * 1000)
    ends = np.where(merged["next"].isna(), leaves, np.minimum(_ms(merged["next"]), leaves))
    unprotected = _spans(np.maximum(at + rpo_ms, enters), ends)
    outdated = _spans(np.maximum(at + int(rpo_ms * goal.slack), enters), ends)
    oldest = points.drop_duplicates(list(DEVICE))[[*DEVICE, "oldest"]]
    begun = lives.merge(oldest, on=list(DEVICE), how="left")["oldest"]
    enters, leaves = lives["enters"].to_numpy(), lives["leaves"].to_numpy()
    never = _spans(enters, np.where(begun.isna(), leaves, np.minimum(_ms(begun), leaves)))
    scope = _spans(enters, leaves)
    edges, starts = _ms(days["at"]), _ms(days["bin_start"])
    table = days.copy()
    table["in_scope"] = _at(scope, edges)
    table["never"] = _at(never, edges)
    # As old as the objective is not older than it.
    table["outdated"] = _at(outdated, edges, "left")
    table["late"] = _at(unprotected, edges, "left") - table["outdated"]
    table["protected"] = table["in_scope"] - table[["never", "outdated", "late"]].sum(axis=1)
    hours = [_until(spans, edges) - _until(spans, starts) for spans in (scope, unprotected, never)]
    table["in_scope_h"] = hours[0] / _HOUR_MS
    table["exposed_h"] = (hours[1] + hours[2]) / _HOUR_MS
    return table


def _finished(table: pd.DataFrame, horizon: pd.Timestamp | None, *, is_known: bool) -> pd.DataFrame:
    counts = ["in_scope", "protected", "late", "outdated", "never"]
    table[counts] = table[counts].astype("Int64")
    in_scope = table["in_scope"].astype("float64")
    table["compliance_share"] = (table["protected"].astype("float64") / in_scope).where(
        in_scope > 0
    )
    time_share = 1 - table["exposed_h"] / table["in_scope_h"]
    table["compliance_time_share"] = time_share.where(table["in_scope_h"] > 0)
    if not is_known:
        unknown = ["in_scope", "never"]
        table[unknown] = table[unknown].mask(pd.Series([True] * len(table)))
        shares = ["compliance_share", "compliance_time_share", "in_scope_h", "exposed_h"]
        table[shares] = np.nan
    table["is_partial"] = table["at"] < table["bin_end"]
    table["is_complete"] = True if horizon is None else table["bin_start"] >= horizon
    names = ["bin_start", "bin_end", "at", *counts, "compliance_share"]
    names += ["in_scope_h", "exposed_h", "compliance_time_share", "is_partial", "is_complete"]
    return table[names]


def _ms(times: pd.Series[Any]) -> Numbers:
    # Missing ones become far in the past; whoever asks masks them.
    plain: Numbers = (
        times.astype(TIME).dt.tz_localize(None).to_numpy("datetime64[ms]").view("int64")
    )
    return plain


def _spans(starts: Numbers, ends: Numbers) -> tuple[Numbers, Numbers]:
    """Give the spans that last, as sorted starts and sorted ends."""
    lasts = ends > starts
    return np.sort(starts[lasts]), np.sort(ends[lasts])


def _at(
    spans: tuple[Numbers, Numbers], instants: Numbers, begun: Literal["left", "right"] = "right"
) -> Numbers:
    """Count the spans that an instant lies in: not at its end, with "left" not at its begin."""
    starts, ends = spans
    ended = np.searchsorted(ends, instants, side="right")
    count: Numbers = (np.searchsorted(starts, instants, side=begun) - ended).astype("int64")
    return count


def _until(spans: tuple[Numbers, Numbers], instants: Numbers) -> Numbers:
    """Add up how long the spans lasted until an instant, in milliseconds."""
    return _elapsed(spans[0], instants) - _elapsed(spans[1], instants)


def _elapsed(times: Numbers, instants: Numbers) -> Numbers:
    n = np.searchsorted(times, instants, side="right").astype("int64")
    # Counted from near by: sums of milliseconds since 1970 outgrow 64 bits at 5 million devices.
    base = instants[0] if len(instants) else 0
    sums = np.concatenate([[0], np.cumsum(times - base)])
    result: Numbers = n * (instants - base) - sums[n]
    return result
