"""How many backups began, ended and were under way, per local hour, day or week."""

from __future__ import annotations

from datetime import timedelta
from functools import reduce
from typing import Any
from zoneinfo import ZoneInfo

import narwhals as nw
import pandas as pd

from koodrive_nb.analysis import rules
from koodrive_nb.analysis.zones import epoch_ms, local_bin, walls
from koodrive_nb.columns import TIME
from koodrive_nb.errors import ConfigurationError

_HOURS_UP_TO = pd.Timedelta("3D")
_DAYS_UP_TO = pd.Timedelta("370D")
_FLOORS = {"1h": "h", "1d": "D"}
# Older bins would be too many to draw; a wrong clock may have put a record into 1970.
_AT_MOST = pd.Timedelta("1826D")


def flow(
    frame: nw.LazyFrame[Any],
    context: rules.Context,
    zone: ZoneInfo,
    since: pd.Timestamp | None,
    until: pd.Timestamp | None,
) -> pd.DataFrame:
    """Count created, ended and presumed stuck per bin, and what was open at its end."""
    empty = pd.DataFrame(
        {"bin_start": pd.Series(dtype=TIME)}
        | {
            name: pd.Series(dtype="int64")
            for name in ("created", "ended", "presumed_stuck", "open")
        }
    )
    if context.first is None or context.last is None or context.as_of is None:
        empty.attrs |= {"bin": "day", "cut_at": None}
        return empty
    last = min(context.as_of, until) if until is not None else context.as_of
    horizon = last - _AT_MOST
    first = max(context.first, horizon, *([since] if since is not None else []))
    unit, size = _bin(last - first)
    _check_session(frame)
    # A local hour may come twice or not at all; hours of UTC always come once.
    zone = ZoneInfo("UTC") if unit == "1h" else zone
    counts = _counts(_events(frame, context), unit, zone, (first, last))
    # What lies before the window is only counted into what is open when it begins.
    walls = [edge.tz_convert(zone.key).tz_localize(None) for edge in (first, last)]
    oldest, newest = (wall.floor(_FLOORS[unit]) for wall in walls)
    if size == "W-MON":
        oldest -= pd.Timedelta(days=oldest.day_of_week)
    earlier = counts[counts.index < oldest].sum()
    # Bins in which nothing happened are shown too, up to now: silence is news.
    table = counts.reindex(pd.date_range(oldest, newest, freq=_FLOORS[unit])).fillna(0)
    change = table["created"] - table["ended"] - table["presumed_stuck"]
    before = earlier["created"] - earlier["ended"] - earlier["presumed_stuck"]
    table["open"] = before + change.cumsum()
    if size == "W-MON":
        weeks = table.resample(size, closed="left", label="left")
        table = weeks.sum().assign(open=weeks["open"].last())
    starts = pd.DatetimeIndex(table.index).tz_localize(
        zone.key, ambiguous=True, nonexistent="shift_forward"
    )
    table = table.astype("int64")
    table.insert(0, "bin_start", starts.tz_convert("UTC").as_unit("ms"))
    if until is not None:
        table = table[table["bin_start"] < until]
    table = table.reset_index(drop=True)
    table.attrs["bin"] = {"W-MON": "week", "D": "day", "h": "hour"}[size]
    table.attrs["cut_at"] = first.isoformat() if first == horizon else None
    return table


def _counts(
    events: nw.LazyFrame[Any],
    unit: str,
    zone: ZoneInfo,
    edges: tuple[pd.Timestamp, pd.Timestamp],
) -> pd.DataFrame:
    width_ms = {"1h": 3_600_000, "1d": 86_400_000}[unit]
    instants = edges[0].to_pydatetime(), edges[1].to_pydatetime()
    counts = {}
    for name, column in (
        ("created", "create_time"),
        ("ended", "_ended"),
        ("presumed_stuck", "_lost"),
    ):
        known = events.filter(~nw.col(column).is_null())
        number = local_bin(epoch_ms(known, column), zone, instants, width_ms)
        table = rules.collect(known.with_columns(_bin=number).group_by("_bin").agg(n=nw.len()))
        counts[name] = table.set_index("_bin")["n"]
    joined = pd.DataFrame(counts)
    joined.index = walls(joined.index, width_ms)
    return joined.fillna(0).astype("int64")


def _bin(length: pd.Timedelta) -> tuple[str, str]:
    if length <= _HOURS_UP_TO:
        return "1h", "h"
    return ("1d", "D") if length <= _DAYS_UP_TO else ("1d", "W-MON")


def _events(frame: nw.LazyFrame[Any], context: rules.Context) -> nw.LazyFrame[Any]:
    """Add when a record ended, or when its open state began to count as lost."""
    created, now, end = nw.col("create_time"), nw.col("as_of"), nw.col("end_time")
    given_up = reduce(
        lambda expression, item: expression.when(nw.col("module") == item[0]).then(
            created + timedelta(seconds=item[1])
        ),
        context.limits_s.items(),
        nw.when(created.is_null()).then(created),
    )
    lost = end.is_null() & nw.col("state").is_in(["stuck", "to_be_deleted", "unknown"])
    capped = nw.when(given_up < now).then(given_up).otherwise(now)
    return frame.filter(~created.is_null()).with_columns(
        # Completed without an end: the client said that it is over, if not when.
        _ended=nw.when(end >= created)
        .then(end)
        .when(~end.is_null() | (nw.col("state") == "completed"))
        .then(created),
        _lost=nw.when(lost).then(capped),
    )


def _check_session(frame: nw.LazyFrame[Any]) -> None:
    """Refuse an engine whose session would cut days at another zone's midnight."""
    noon = nw.lit(pd.Timestamp("2024-01-01T12:00Z").to_pydatetime())
    hour = rules.collect(frame.head(1).select(hour=noon.dt.hour()))["hour"]
    if len(hour) and int(hour.iloc[0]) != 12:  # noqa: PLR2004 -- noon
        raise ConfigurationError(
            "The engine's session is not in UTC, so its days would be cut at the wrong midnight: "
            "run SET TimeZone = 'UTC' (DuckDB) or set spark.sql.session.timeZone to UTC first."
        )
