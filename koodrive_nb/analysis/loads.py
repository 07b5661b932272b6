"""When backups begin in the week, and how many run at once."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import narwhals as nw
import numpy as np
import pandas as pd

from koodrive_nb import settings
from koodrive_nb.analysis import arguments, bins, groups, levels, retention, rules
from koodrive_nb.analysis.states import prepared
from koodrive_nb.analysis.zones import DAY_MS, check_session, epoch_ms, local_bin, offset_changes
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from koodrive_nb.analysis.arguments import Duration, StuckAfter

    Edges = tuple[pd.Timestamp, pd.Timestamp]

KINDS = ("starts", "running")
HOURS = 168
"""How many hours a week has on the wall."""
_AT_MOST = "8 weeks"
_COMPLETE_SHARE = 0.99
_HOUR = pd.Timedelta("1h")
_HOUR_MS = DAY_MS // 24
_MOST_GROUPS = bins.AT_MOST // HOURS
_RESULTS = {
    *("weekday", "hour", "n", "occurrences", "starts_per_occurrence"),
    *("bin_start", "bin_end", "running_max", "running_mean", "is_partial"),
}


def load(  # noqa: PLR0913 -- each is a question of its own, and keyword-only
    records: Any,
    *,
    kind: str = "starts",
    by: str | Sequence[str] | None = None,
    bin: str | Duration = "auto",  # noqa: A002 -- as in activity()
    since: object = "auto",
    until: object = None,
    as_of: object = None,
    tz: str | None = None,
    stuck_after: StuckAfter = "auto",
) -> pd.DataFrame:
    """Tell at which hours of the week backups begin, or how many run at once.

    Kind "starts", one row per group and hour of the week as the clock on the wall in `tz` shows it,
    168 in all: `weekday` (ISO, 1 is Monday), `hour` (0 to 23), `n` backups created in it,
    `occurrences`, how often that hour lay in the window, and `starts_per_occurrence`, missing where
    it never did. An hour that the clock repeats counts twice, one that it skips not at all, and one
    that the window or "now" cuts by the part that lies inside: 0.5 are 30 minutes. So it is the
    number of starts per hour.

    Kind "running", one row per group and bin of time: `bin_start` and `bin_end`, instants in UTC;
    `n` backups that ran at any time in it; `running_max`, the most that ran at once; `running_mean`
    over the part of the bin that lies in the window; `is_partial`, the window or "now" cuts the
    bin. A backup runs from its creation until just before its end: one in progress until its "now",
    one that is stuck or was abandoned until it is older than the stuck limit, or it would run for
    ever. What took no time, or is over without a usable end, never ran. The maximum is exact to the
    millisecond however wide the bin is. `bin` is as in `activity`; "auto" takes 5 minutes up to 7
    days, 15 up to 21, hours up to 84 and days above; wider ones where groups are many.

    `since` and `until` (not included) bound the window as in `activity`; None begins with the hour
    of the first record, five years ago at the earliest. "auto" begins with the first whole week of
    which nothing was purged, and at most eight weeks back. Where there is none, and in any window
    that begins before `history_complete_from` (in attrs), numbers are lower bounds. The columns of
    `by` come first; `seen_until` in attrs is the fetch, where the window ends after it.

    Raises:
        InvalidParameterError: A column is missing, an argument is not what this takes, the window
            begins after the fetch, or the table would have more than 5 000 rows.
    """
    if kind not in KINDS:
        raise InvalidParameterError(f"kind= takes {' or '.join(KINDS)}, not {kind!r}.")
    if kind == "starts" and bin != "auto":
        raise InvalidParameterError('bin= is for kind="running": starts are counted per hour.')
    keys = [] if by is None else arguments.keys(by, _RESULTS)
    zone = settings.display_zone(tz)
    check_session(records)
    groups.check_keys(records, keys)
    frame, context = prepared(records, keys, zone.key, as_of, stuck_after)
    _, (complete,) = retention.complete_from(frame, [], _COMPLETE_SHARE)
    window = _window(since, until, zone.key, context.as_of, complete)
    seen_until = context.seen_until(window)
    edges, is_cut = bins.inside(context, window)
    if edges is not None and window[0] is None and not is_cut:
        # Nothing is missing from an hour only because the first record lies in its middle.
        edges = (_hour_of(edges[0], zone), edges[1])
    width = None
    if kind == "starts":
        table = _starts(frame, edges, zone, keys)
    else:
        table, width = levels.per_bin(frame, edges, zone, keys, bin)
    about = {name: None if at is None else at.isoformat() for name, at in _named(window, edges)}
    made: dict[str, Any] = {"table": "load", "kind": kind, "by": keys, "tz": zone.key, "bin": width}
    made |= {name: about.pop(name) for name in ("start", "limit")}
    made |= arguments.plain(as_of=as_of, stuck_after=stuck_after)
    about["cut_at"] = made["start"] if is_cut else None
    about["history_complete_from"] = None if complete is None else complete.isoformat()
    about["seen_until"] = seen_until
    counts = {"n_undated": context.n_undated, "n_later": context.n_later}
    table.attrs[ATTRS] = context.as_attrs(
        kind=kind, by=keys, bin=width, **about, **counts, made=made
    )
    return table


def _window(
    since: object,
    until: object,
    zone: str,
    now: pd.Timestamp | None,
    complete: pd.Timestamp | None,
) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
    """Read the edges of the window; "auto" takes whole weeks of which nothing is missing."""
    if since != "auto":
        return arguments.window(since, until, zone, now)
    start, end = arguments.window(_AT_MOST, until, zone, now)
    last = now if end is None or now is None else min(now, end)
    if start is None or last is None or complete is None or complete <= start:
        return start, end
    first = arguments.monday(complete, zone, 0)
    if first < complete:
        first = arguments.monday(complete, zone, -1)
    is_whole = arguments.monday(first, zone, -1) <= last
    return (first if is_whole else start), end


def _named(
    window: tuple[pd.Timestamp | None, pd.Timestamp | None], edges: Edges | None
) -> list[tuple[str, pd.Timestamp | None]]:
    names = ("since", "until", "start", "limit")
    return list(zip(names, (*window, *(edges or (None, None))), strict=True))


def _hour_of(stamp: pd.Timestamp, zone: ZoneInfo) -> pd.Timestamp:
    wall = stamp.tz_convert(zone).tz_localize(None)
    return stamp - (wall - wall.floor("h"))


def _starts(
    frame: nw.LazyFrame[Any], edges: Edges | None, zone: ZoneInfo, keys: Sequence[str]
) -> pd.DataFrame:
    """Count what was created in each hour of the week, and how often that hour came."""
    if edges is None:
        counts = pd.DataFrame({key: [] for key in (*keys, "_hour", "_n")})
    else:
        begun = frame.select(*keys, "create_time", "as_of", _ms=epoch_ms(frame, "create_time"))
        placed = _inside(begun, edges).select(*keys, _hour=_hour_of_week(edges, zone))
        counts = rules.collect(placed.group_by(*keys, "_hour").agg(_n=nw.len()))
    code, group = groups.numbered(counts, keys)
    if len(group) > _MOST_GROUPS:
        raise InvalidParameterError(
            f"by= makes {len(group):,} groups of {HOURS} hours each, and a table has at most "
            f"{bins.AT_MOST:,} rows: take a column with at most {_MOST_GROUPS} values."
        )
    n = np.zeros((len(group), HOURS), dtype="int64")
    place = counts["_hour"].to_numpy(dtype="int64")
    np.add.at(n, (code, place), counts["_n"].to_numpy(dtype="int64"))
    order = groups.in_order(group, keys, pd.Series(n.sum(axis=1))).to_numpy()
    hours = np.tile(np.arange(HOURS), len(order))
    came = np.zeros(HOURS) if edges is None else occurrences(edges, zone)
    table = pd.DataFrame(
        {
            "weekday": hours // 24 + 1,
            "hour": hours % 24,
            "n": n[order].ravel(),
            "occurrences": came[hours],
        }
    ).astype(dict.fromkeys(("weekday", "hour"), "int64"))
    known = table["occurrences"].where(table["occurrences"] > 0)
    table["starts_per_occurrence"] = table["n"] / known
    for number, key in enumerate(keys):
        table.insert(number, key, group[key].iloc[np.repeat(order, HOURS)].array)
    return table


def _inside(begun: nw.LazyFrame[Any], edges: Edges) -> nw.LazyFrame[Any]:
    start, limit = (bins.epoch(edge) for edge in edges)
    is_known = nw.col("create_time") <= nw.col("as_of")
    return begun.filter(is_known, nw.col("_ms") >= start, nw.col("_ms") < limit)


def _hour_of_week(edges: Edges, zone: ZoneInfo) -> nw.Expr:
    span = edges[0].to_pydatetime(), edges[1].to_pydatetime()
    return local_bin(nw.col("_ms"), zone, span, _HOUR_MS) % HOURS


def occurrences(edges: Edges, zone: ZoneInfo) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Count how often each hour of the week came between two instants, parts as fractions.

    Between two changes of the offset the clock on the wall runs as time does.
    """
    span = edges[0].to_pydatetime(), edges[1].to_pydatetime()
    changes = (pd.Timestamp(change) for change in offset_changes(zone, *span))
    cuts = [edges[0], *changes, edges[1]]
    came_ms = np.zeros(HOURS, dtype="int64")
    for begin, end in itertools.pairwise(cuts):
        wall = begin.tz_convert(zone).tz_localize(None)
        first = wall - wall.normalize() + pd.Timedelta(days=wall.day_of_week)
        first_ms = first // pd.Timedelta("1ms")
        last_ms = first_ms + (end - begin) // pd.Timedelta("1ms")
        hours = np.arange(first_ms // _HOUR_MS, -(-last_ms // _HOUR_MS))
        inside = np.minimum((hours + 1) * _HOUR_MS, last_ms) - np.maximum(
            hours * _HOUR_MS, first_ms
        )
        np.add.at(came_ms, hours % HOURS, inside)
    return came_ms / _HOUR_MS


def records_behind(
    frame: nw.LazyFrame[Any], row: Mapping[str, Any], made: Mapping[str, Any]
) -> nw.LazyFrame[Any]:
    """Keep the records that began in an hour of the week, or that ran in a bin."""
    mine = frame.filter(nw.col("create_time") <= nw.col("as_of"), *groups.same(made["by"], row))
    if made["start"] is None:
        return mine.head(0)
    edges = (pd.Timestamp(made["start"]), pd.Timestamp(made["limit"]))
    if made["kind"] == "running":
        return levels.records_behind(mine, row, edges)
    hour = 24 * (int(row["weekday"]) - 1) + int(row["hour"])
    begun = mine.with_columns(_ms=epoch_ms(mine, "create_time"))
    return _inside(begun, edges).filter(_hour_of_week(edges, ZoneInfo(made["tz"])) == hour)
