"""Which days were unusual, held against the same weekday of the weeks before."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import narwhals as nw
import numpy as np
import pandas as pd

from koodrive_nb import settings
from koodrive_nb.analysis import (
    activities,
    arguments,
    bins,
    day_judgements,
    day_series,
    groups,
    retention,
    rules,
)
from koodrive_nb.analysis.states import prepared
from koodrive_nb.analysis.zones import check_session
from koodrive_nb.columns import STRING, TIME
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from koodrive_nb.analysis.arguments import StuckAfter
    from koodrive_nb.analysis.contexts import Context

_DEFAULT_SINCE = "8 weeks"
_AT_MOST = pd.Timedelta("1826D")
_COMPLETE_SHARE = {"created": 0.99, "stuck_share": retention.MOST}
_COLUMNS: Mapping[str, Any] = {
    **dict.fromkeys(("day_start", "day_end"), TIME),
    **dict.fromkeys(("value", "usual", "usual_lo", "usual_hi", "ratio", "z"), "float64"),
    **dict.fromkeys(("n", "n_baseline"), "int64"),
    **dict.fromkeys(("verdict", "reason", "message"), STRING),
}


def anomalies(  # noqa: PLR0913 -- each is a question of its own, and keyword-only
    records: Any,
    metric: str = "stuck_share",
    *,
    by: str | Sequence[str] | None = None,
    since: object = _DEFAULT_SINCE,
    until: object = None,
    as_of: object = None,
    tz: str | None = None,
    stuck_after: StuckAfter = "auto",
) -> pd.DataFrame:
    """Judge each day of a fleet by the same weekday of the six weeks before.

    One row per group and local day, days without any record included. Metrics: "stuck_share", of
    the backups that came to an end the share that did not complete, from 0 to 1; "created", the
    backups created, which purged copies make too few of on most days, so that these are not judged;
    "duration_p50_s", the median in seconds of those that completed, first attempts of a device and
    module left out, per module, which `by` must then hold.

    Columns: the group's own; `day_start` and `day_end`, instants in UTC; `value`; `usual`, the
    median of those weekdays; `usual_lo` and `usual_hi`, between which nothing is unusual; `ratio` =
    `value` / `usual`; `z`, the distance in standard deviations; `n`, the records that the value is
    made of; `n_baseline`, the weekdays compared with; `verdict`: usual, unusually_high,
    unusually_low or not_judged; `reason`, why a day is not judged, or what it is compared with; and
    all of it in words, `message`.

    A day is unusual if it is more than 3.5 standard deviations and more than half as much again
    (stuck shares: twice as much, durations: a quarter) above the median, or as many times below.
    The deviation is that of the weekdays (MAD), or the noise that such counts have anyway (Poisson,
    binomial, or of a median) if that is more. Days are judged that are over, whose backups are all
    older than the stuck limit, with 20 backups to make a share or a median of, and with three such
    weekdays before.

    The service purges copies. Where copies of a device and module wait for deletion, shares leave
    out what is not younger than the oldest copy left of them; those of old days err on the high
    side all the same, so that none is called unusually low, and days count only from when on nine
    in ten devices and modules are complete. The weeks that they are compared with may be older, and
    too high likewise, so that a rise can be missed. Of days whose records may be purged no count is
    judged. Where fewer than three of the weekdays before are complete, counts are held
    against all there are, which is less than there was: only a fall can be seen then.

    `since` and `until` are those of `kd.analysis.activity`; earlier weeks are used all the same.
    `attrs` hold `seen_until`, the fetch, where the window ends after it, and `n_to_be_deleted`.
    Devices, users and modules may be filtered before, and so may the table. A filter of states
    falsifies shares, and hides that records were purged where it leaves none to be deleted; one of
    times leaves no earlier weeks.

    Source: modified z, Iglewicz and Hoaglin 1993.

    Raises:
        InvalidParameterError: A column is missing, an argument is not what this takes, the window
            begins after the fetch, or the table would have more than 5 000 rows.
    """
    keys = _keys(metric, by)
    zone = settings.display_zone(tz)
    check_session(records)
    groups.check_keys(records, keys)
    frame, context = prepared(records, (*day_series.NEEDED, *keys), zone.key, as_of, stuck_after)
    window = arguments.window(since, until, zone.key, context.as_of)
    seen_until = context.seen_until(window)
    found, lead = _days(context, window)
    made: dict[str, Any] = {"table": "anomalies", "metric": metric, "by": keys, "tz": zone.key}
    made |= {"limit": None if found is None else found.limit.isoformat()}
    made |= arguments.plain(as_of=as_of, stuck_after=stuck_after)
    edges: list[pd.Timestamp | None] = []
    n_deleting = None
    table = _empty(keys)
    if found is not None:
        limit_ms, n_days = bins.epoch(found.limit), len(found.edges) - 1 - lead
        series = day_series.measure(frame, metric, found, keys, limit_ms, n_days)
        if metric in _COMPLETE_SHARE:
            edges = _edges(frame, keys, series.group, _COMPLETE_SHARE[metric])
        is_deleting = (nw.col("state") == "to_be_deleted").cast(nw.Int64)
        seen = rules.collect(frame.select(now=nw.col("as_of").min(), n=is_deleting.sum()))
        now, n_deleting = seen["now"].iloc[0], int(seen["n"].iloc[0])
        table = _table(series, found, keys, lead)
        is_over = (table["day_end"] <= found.limit) & (table["day_end"] <= now)
        spans = table.rename(columns={"day_start": "bin_start", "day_end": "bin_end"})
        is_young = ~activities.is_settled(spans, found.limit, replace(context, as_of=now))
        judged = day_judgements.judge(
            series,
            metric,
            found,
            edges,
            lead=lead,
            is_over=is_over.to_numpy(),
            is_young=is_young.to_numpy(),
        )
        table = pd.concat([table, judged], axis=1)
        table = _in_words(table, metric, keys, zone)
        order = groups.in_order(series.group, keys, pd.Series(series.n.sum(axis=1)))
        rows = np.arange(len(table)).reshape(len(series.group), n_days)[order.to_numpy()].ravel()
        table = table.iloc[rows].reset_index(drop=True)
    table = table[[*keys, *_COLUMNS]].astype(dict(_COLUMNS))
    table.attrs[ATTRS] = context.as_attrs(
        by=keys,
        metric=metric,
        since=None if found is None else found.edges[lead].isoformat(),
        until=None if window[1] is None else window[1].isoformat(),
        seen_until=seen_until,
        n_to_be_deleted=n_deleting,
        history_complete_from=_latest(edges),
        made=made,
    )
    return table


def _keys(metric: object, by: str | Sequence[str] | None) -> list[str]:
    if metric not in day_series.METRICS:
        raise InvalidParameterError(
            f"metric= takes {', '.join(day_series.METRICS)}, not {metric!r}."
        )
    is_time = metric == "duration_p50_s"
    keys = [] if by is None else arguments.keys(by, _COLUMNS)
    if is_time and by is not None and "module" not in keys:
        raise InvalidParameterError(
            "The backups of different modules have no common median: let by= hold 'module', as in "
            f"by={['module', *keys]!r}."
        )
    return ["module"] if is_time and by is None else keys


def _days(
    context: Context, window: tuple[pd.Timestamp | None, pd.Timestamp | None]
) -> tuple[bins.Bins | None, int]:
    """Cut the window into whole local days, and say how many come before it, to compare with."""
    if context.as_of is None:
        return None, 0
    zone = ZoneInfo(context.tz)
    limit = context.as_of + pd.Timedelta("1ms")
    limit = limit if window[1] is None else min(limit, window[1])
    first = window[0] if window[0] is not None else context.first
    if first is None or first >= limit:
        return None, 0
    first = max(first, limit - _AT_MOST)
    midnight = first.tz_convert(zone).tz_localize(None).normalize()
    lead = 7 * day_judgements.WEEKS
    start = arguments.instant(midnight - pd.Timedelta(days=lead), "since", zone.key)
    found = bins.cut("day", zone, start, limit)
    return found, lead


def _edges(
    frame: nw.LazyFrame[Any], keys: list[str], group: pd.DataFrame, share: float
) -> list[pd.Timestamp | None]:
    """Give for each group from when on nothing of that share of it is purged."""
    known, edges = retention.complete_from(frame, keys, share)
    if not keys:
        return edges
    places = {_plain(row): place for place, row in enumerate(known.itertuples(index=False))}
    found = [places.get(_plain(row)) for row in group.itertuples(index=False)]
    return [None if place is None else edges[place] for place in found]


def _plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(None if pd.isna(value) else value for value in row)


def _latest(edges: Sequence[pd.Timestamp | None]) -> str | None:
    known = [edge for edge in edges if edge is not None]
    return max(known).isoformat() if known else None


def _empty(keys: list[str]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype="object") for name in (*keys, *_COLUMNS)})


def _table(series: day_series.Series, found: bins.Bins, keys: list[str], lead: int) -> pd.DataFrame:
    n_days = len(found.edges) - 1 - lead
    places = np.tile(np.arange(lead, lead + n_days), len(series.group))
    table = pd.DataFrame({"day_start": found.edges[places], "day_end": found.edges[places + 1]})
    for place, key in enumerate(keys):
        table.insert(
            place, key, series.group[key].iloc[np.repeat(range(len(series.group)), n_days)].array
        )
    return table


def _in_words(table: pd.DataFrame, metric: str, keys: list[str], zone: ZoneInfo) -> pd.DataFrame:
    days = table["day_start"].dt.tz_convert(zone)
    words = [
        day_judgements.message(metric, day, row, [row[key] for key in keys])
        for day, row in zip(days, table.to_dict("records"), strict=True)
    ]
    return table.assign(message=words)


def records_behind(
    frame: nw.LazyFrame[Any], row: Mapping[str, Any], made: Mapping[str, Any]
) -> nw.LazyFrame[Any]:
    """Keep the records that the value of a day is made of."""
    names = frame.collect_schema().names()
    limit = bins.epoch(arguments.instant(made["limit"], "limit"))
    marked = day_series.counted(frame, made["metric"], limit)
    created = nw.col("create_time")
    return marked.filter(
        "_counted",
        created >= nw.lit(row["day_start"].to_pydatetime()),
        created < nw.lit(row["day_end"].to_pydatetime()),
        *groups.same(made["by"], row),
    ).select(*names)
