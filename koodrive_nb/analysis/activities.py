"""How many backups were created, ended and were under way, per local hour, day, week or month."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import narwhals as nw
import numpy as np
import pandas as pd

from koodrive_nb import settings
from koodrive_nb.analysis import arguments, bins, groups, rules, shares
from koodrive_nb.analysis.states import prepared
from koodrive_nb.analysis.zones import check_session, epoch_ms
from koodrive_nb.columns import TIME
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from koodrive_nb.analysis.arguments import Duration, StuckAfter
    from koodrive_nb.analysis.contexts import Context

_DEFAULT_SINCE = "8 weeks"
_COUNTED = (
    *("completed", "in_progress", "stuck", "was_completed", "was_abandoned", "unknown"),
    *("ended", "presumed_stuck"),
)
_FATES = _OPEN, _ENDED, _LOST = range(3)
_STATES = ("completed", "in_progress", "stuck", "to_be_deleted", "was_completed")
_COUNTS = ("created", "ended", "presumed_stuck", "open", *_STATES, "was_abandoned", "unknown")
_COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(("bin_start", "bin_end"), str(TIME)),
    **dict.fromkeys((*_COUNTS, "settled"), "int64"),
    **dict.fromkeys(shares.COLUMNS[1:], "float64"),
    **dict.fromkeys(("is_partial", "is_settled"), "bool"),
}


def activity(  # noqa: PLR0913 -- each is a question of its own, and keyword-only
    records: Any,
    *,
    by: str | Sequence[str] | None = None,
    bin: str | Duration = "auto",  # noqa: A002 -- the word of the field
    since: object = _DEFAULT_SINCE,
    until: object = None,
    as_of: object = None,
    tz: str | None = None,
    stuck_after: StuckAfter = "auto",
) -> pd.DataFrame:
    """Count what was created, what ended and what was open, one row per group and bin of time.

    Columns: the group's own; `bin_start` and `bin_end`, instants in UTC; `created` in the bin;
    `ended` and `presumed_stuck` in it, whenever created; `open` at its end. Then the state by now
    of those created in it: `completed`, `in_progress`, `stuck`, `to_be_deleted` (of which
    `was_completed` and `was_abandoned`) and `unknown`; and of those that have come to an end,
    `settled`, the share that completed, `settled_share`, from 0 to 1, with its 95 % Wilson interval
    `settled_share_lo` and `settled_share_hi`. `is_partial`: the window or "now" cuts the bin, and
    only what lies inside is counted. `is_settled`: the bin has been over for longer than the stuck
    limit, so that its share will hardly change.

    `bin` is "hour", "day", "week" (from Monday), "month", a duration that divides a day ("15min",
    "6h") or is whole days ("3D"), or "auto": hours up to 3 days, days up to 100, weeks up to 1 100,
    months above. Up to an hour bins are cut in UTC, wider ones by the clock on the wall in `tz`, so
    that a day has 23 to 25 hours. A bin in which nothing happened has its row too.

    The window begins at `since`, the first instant in it, and ends at `until`, the first one after
    it, or "now". `since` is an instant, a duration such as "14D", or full weeks: by default
    "8 weeks", the last 8 full ISO weeks and the one that runs. None begins with the first record,
    five years ago at the earliest. Backups under way when the window begins count as open.

    Backups that were purged are not in the records, so that bins older than the retention are too
    low. An open backup is presumed stuck once it is older than the stuck limit. One that is over
    without an end counts as ended when it was created.

    Raises:
        InvalidParameterError: A column is missing, an argument is not what this takes, or the
            table would have more than 5 000 rows.
    """
    keys = [] if by is None else arguments.keys(by, _COLUMNS)
    zone = settings.display_zone(tz)
    check_session(records)
    frame, context = prepared(records, keys, zone.key, as_of, stuck_after)
    # Where purged records begin to be missing (`history_complete_from`) belongs into `about` too.
    window = arguments.window(since, until, zone.key, context.as_of)
    table, about = per_bin(frame, context, window, keys=keys, width=bin)
    made = {"table": "activity", "by": keys, "tz": zone.key}
    made |= {name: about.pop(name) for name in ("start", "limit")} | {"bin": about["bin"]}
    made |= arguments.plain(as_of=as_of, stuck_after=stuck_after)
    left_out = {"n_undated": context.n_undated, "n_later": context.n_later}
    table.attrs[ATTRS] = context.as_attrs(by=keys, **about, **left_out, made=made)
    return table


def per_bin(
    frame: nw.LazyFrame[Any],
    context: Context,
    window: tuple[pd.Timestamp | None, pd.Timestamp | None],
    *,
    keys: Sequence[str] = (),
    width: object = "auto",
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Count classified records per group and bin, and tell how the window was cut."""
    found, is_cut = bins_of(context, window, width)
    about: dict[str, Any] = {
        "bin": "day" if found is None else found.name,
        "since": None if window[0] is None else window[0].isoformat(),
        "until": None if window[1] is None else window[1].isoformat(),
        "start": None if found is None else found.start.isoformat(),
        "limit": None if found is None else found.limit.isoformat(),
        "cut_at": found.start.isoformat() if found is not None and is_cut else None,
    }
    if found is None:
        key_columns = {key: pd.Series(dtype="object") for key in keys}
        empty = {name: pd.Series(dtype=kind) for name, kind in _COLUMNS.items()}
        return pd.DataFrame(key_columns | empty), about
    group, grid = _grid(_counts(frame, found, keys), keys, len(found.edges) - 1)
    bins.check_rows(len(group) * (len(found.edges) - 1), found.name)
    created = grid[: _COUNTED.index("ended"), :, 1:].sum(axis=(0, 2))
    order = groups.in_order(group, keys, pd.Series(created)).to_numpy()
    table = _table(grid[:, order], found)
    for place, key in enumerate(keys):
        column = group[key].iloc[np.repeat(order, len(found.edges) - 1)]
        table.insert(place, key, column.array)
    table["is_settled"] = is_settled(table, found.limit, context)
    return table, about


def bins_of(
    context: Context, window: tuple[pd.Timestamp | None, pd.Timestamp | None], width: object
) -> tuple[bins.Bins | None, bool]:
    """Cut the window into bins, and say whether it was shortened for that."""
    edges, is_cut = bins.inside(context, window)
    if edges is None:
        return None, False
    found = bins.cut(width, ZoneInfo(context.tz), *edges)
    whole = window[0] is None and not is_cut
    # Nothing is missing from a bin only because the first record lies in the middle of it.
    return replace(found, start=found.edges[0]) if whole else found, is_cut


def _counts(frame: nw.LazyFrame[Any], found: bins.Bins, keys: Sequence[str]) -> pd.DataFrame:
    """Count, per group and bin, the records by what became of them (the place in `_COUNTED`)."""
    limit = bins.epoch(found.limit)
    known = lives(frame, limit, keys)
    over, lost = nw.col("_over"), nw.col("_is_lost")
    fate = nw.when(over >= limit).then(nw.lit(_OPEN)).when(lost).then(nw.lit(_LOST))
    # All in one number: each key that is counted by is one more walk through all records.
    place = (found.unit(nw.col("_created")) + 1) * (len(found.places) + 1) + found.unit(over) + 1
    known = known.with_columns(_place=place * len(_FATES) + fate.otherwise(nw.lit(_ENDED)))
    counted = known.group_by(*keys, "_state", "_place")
    counts = rules.collect(counted.agg(_n=nw.len(), _n_ended=nw.col("_end").count()))
    return _by_what(counts, found)


def lives(frame: nw.LazyFrame[Any], limit: int, keys: Sequence[str] = ()) -> nw.LazyFrame[Any]:
    """Give what was created before `limit`, with `_created` and `_over`, in milliseconds of UTC."""
    needed = ("create_time", "end_time", "as_of", "state", "stuck_after_s")
    known = frame.select(*dict.fromkeys((*keys, *needed)))
    known = known.filter(nw.col("create_time") <= nw.col("as_of"))
    times = {"_created": "create_time", "_end": "end_time", "_now": "as_of"}
    known = known.with_columns(
        _state=nw.col("state"),
        **{name: epoch_ms(known, column) for name, column in times.items()},
    )
    return _with_over(known.filter(nw.col("_created") < limit), limit)


def _with_over(known: nw.LazyFrame[Any], limit: int) -> nw.LazyFrame[Any]:
    """Add when a backup was over, `limit` if it was not, and whether that is presumed only."""
    created, end, now, state = (nw.col(name) for name in ("_created", "_end", "_now", "_state"))
    has_ended = (end <= now).fill_null(value=False)
    is_known = has_ended | (state == "completed") | ((state == "to_be_deleted") & ~end.is_null())
    known = known.with_columns(
        # Whole milliseconds first: DuckDB rounds where others cut.
        _given_up=created + (nw.col("stuck_after_s") * 1000).floor().cast(nw.Int64),
        _is_lost=~is_known & (state != "in_progress"),
    )
    given_up = nw.col("_given_up")
    return known.with_columns(
        _over=nw.when(has_ended & (end >= created))
        .then(end)
        .when(has_ended | ((state == "completed") & end.is_null()))
        .then(created)
        .when(nw.col("_is_lost") & (given_up < now))
        .then(given_up)
        .when(is_known | nw.col("_is_lost"))
        .then(now)
        .otherwise(nw.lit(limit))
        .cast(nw.Int64)
    )


def _by_what(counts: pd.DataFrame, found: bins.Bins) -> pd.DataFrame:
    """Count each record where it was created, and once more where it was over."""
    code = {name: place for place, name in enumerate(_COUNTED)}
    place, fate = np.divmod(counts["_place"].to_numpy(dtype="int64"), len(_FATES))
    created, over = (_bin(unit - 1, found) for unit in np.divmod(place, len(found.places) + 1))
    n, n_ended = counts["_n"].astype("int64"), counts["_n_ended"].astype("int64")
    deleting = counts["_state"] == "to_be_deleted"
    state = counts["_state"].where(~deleting, "was_abandoned").map(code).fillna(code["unknown"])
    what_over = np.where(fate == _LOST, code["presumed_stuck"], code["ended"])
    parts = (
        counts.assign(_what=state, _n=n.where(~deleting, n - n_ended), _bin=created),
        counts.assign(_what=code["was_completed"], _n=n_ended, _bin=created)[deleting],
        counts.assign(_what=what_over, _bin=over)[fate != _OPEN],
    )
    both: pd.DataFrame = pd.concat(
        [part.astype({"_what": "int64", "_n": "int64"}) for part in parts]
    )
    return both


def _bin(unit: np.ndarray[Any, Any], found: bins.Bins) -> np.ndarray[Any, Any]:
    return np.where(unit < 0, -1, found.places[unit])


def _grid(
    counts: pd.DataFrame, keys: Sequence[str], n_bins: int
) -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    """Lay counts out by what, group and bin; the first bin holds what lies before the window."""
    code, group = groups.numbered(counts, keys)
    grid = np.zeros((len(_COUNTED), len(group), n_bins + 1), dtype="int64")
    place = counts["_bin"].to_numpy(dtype="int64") + 1
    what = counts["_what"].to_numpy(dtype="int64")
    np.add.at(grid, (what, code, place), counts["_n"].to_numpy(dtype="int64"))
    return group, grid


def _table(grid: np.ndarray[Any, Any], found: bins.Bins) -> pd.DataFrame:
    counts = dict(zip(_COUNTED, grid, strict=True))
    created = sum(counts[name] for name in _COUNTED[: _COUNTED.index("ended")])
    counts["created"] = created
    counts["open"] = (created - counts["ended"] - counts["presumed_stuck"]).cumsum(axis=1)
    counts["to_be_deleted"] = counts["was_completed"] + counts["was_abandoned"]
    places = np.tile(np.arange(len(found.edges) - 1), grid.shape[1])
    table = pd.DataFrame(
        {"bin_start": found.edges[places], "bin_end": found.edges[places + 1]}
        | {name: counts[name][:, 1:].ravel() for name in _COUNTS}
    )
    table = shares.settle(table)
    cut = (table["bin_start"] < found.start) | (table["bin_end"] > found.limit)
    return table.assign(is_partial=cut)


def is_settled(table: pd.DataFrame, limit: pd.Timestamp, context: Context) -> pd.Series[bool]:
    """Tell whether the youngest backup of each bin is older than the limit by now."""
    youngest = table["bin_end"].where(table["bin_end"] < limit, limit)
    longest = max(context.limits_s.values(), default=0.0)
    limit_s = pd.Series(longest, index=table.index)
    if "module" in table.columns:
        limit_s = table["module"].map(context.limits_s).astype("float64").fillna(longest)
    settled: pd.Series[bool] = youngest + pd.to_timedelta(limit_s, unit="s") <= context.as_of
    return settled


def records_behind(
    frame: nw.LazyFrame[Any], row: Mapping[str, Any], made: Mapping[str, Any]
) -> nw.LazyFrame[Any]:
    """Keep the records that were created in the group and the bin of a row."""
    start, limit = (arguments.instant(made[name], name) for name in ("start", "limit"))
    found = bins.cut(made["bin"], ZoneInfo(made["tz"]), start, limit)
    units = np.flatnonzero(found.places == found.edges.get_loc(row["bin_start"]))
    inside = frame.filter(nw.col("create_time") <= nw.col("as_of"), *groups.same(made["by"], row))
    created = epoch_ms(inside, "create_time")
    inside = inside.filter(created >= bins.epoch(start), created < bins.epoch(limit))
    unit = found.unit(epoch_ms(inside, "create_time"))
    return inside.filter(unit >= int(units[0]), unit <= int(units[-1]))
