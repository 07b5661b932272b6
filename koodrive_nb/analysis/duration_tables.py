"""How long backups take, and how many of them ever complete."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import narwhals as nw
import pandas as pd

from koodrive_nb import settings
from koodrive_nb.analysis import arguments, groups, rules
from koodrive_nb.analysis.states import prepared
from koodrive_nb.analysis.survival import curves
from koodrive_nb.analysis.zones import epoch_ms
from koodrive_nb.columns import STRING
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from koodrive_nb.analysis.arguments import StuckAfter

KINDS = ("percentiles", "curve")
ATTEMPTS = ("first", "later")
_PERCENTILES = (50, 90, 95, 99)
_ENOUGH = {95: 20, 99: 100}
_FIRST_WITHIN = timedelta(days=14)
_RESULTS = {
    *("attempt", "n", "min_s", "max_s", "excluded", *(f"p{place}_s" for place in _PERCENTILES)),
    *("t_s", "completed_share", "lo", "hi", "at_risk"),
}
_DEVICE = ("user_id", "device_id", "module_code")
_NEEDED = (*_DEVICE, "module", "create_time", "end_time", "duration_s", "device_create_time")
_PURGED = -(2**62)


def durations(  # noqa: PLR0913 -- each is a question of its own, and keyword-only
    records: Any,
    *,
    by: str | Sequence[str] | None = "module",
    kind: str = "percentiles",
    since: object = None,
    until: object = None,
    as_of: object = None,
    tz: str | None = None,
    stuck_after: StuckAfter = "auto",
) -> pd.DataFrame:
    """Tell how long backups take, from creation to end, or how many complete within which time.

    Kind "percentiles", one row per group and `attempt`, of the backups that completed, those that
    wait for deletion by now included: their number `n`; `p50_s`, `p90_s`, `p95_s` (missing below 20
    of them), `p99_s` (missing below 100), `min_s` and `max_s`, in seconds; and `excluded`, those
    without a usable duration: no end, an end before the creation or after "now". `attempt` is
    "first" for the oldest record of its device and module if that was created within 14 days after
    the device was bound and no completed backup of theirs waits for deletion, so that older ones
    may be gone; everything else is "later". The first backup copies everything, and takes 10 to 20
    times as long. "first" is a lower bound: what was purged leaves no trace.

    Kind "curve", one row per group and step: `completed_share`, from 0 to 1, of the backups that
    complete within `t_s` seconds, with its 95 % interval `lo` and `hi`; `at_risk`, those still
    under way just before; `n` and `excluded` of the whole group. It is the Kaplan-Meier estimate:
    what is open, stuck or was abandoned counts as not completed up to its age, so that nobody needs
    to know how it ends; the interval is Greenwood's on the scale of log(-log(1 - share)), missing
    where the share is 1. Times are rounded to two digits (up, ages down), at least 0.1 s, and a
    group has at most 512 steps, the first at 0 s. `attrs` hold for each group the `plateau`, the
    share that ever completes as far as is known, and `median_s`.

    Groups of modules come in the API's order, others by size. `since` and `until` (not included)
    bound the creation, in `tz` where they name no zone.

    Raises:
        InvalidParameterError: A column is missing, an argument is not what this takes, or there
            are more than 100 curves.
    """
    if kind not in KINDS:
        raise InvalidParameterError(f"kind= takes {' or '.join(KINDS)}, not {kind!r}.")
    keys = [] if by is None else arguments.keys(by, _RESULTS)
    zone = settings.display_zone(tz).key
    frame, context = prepared(records, (*_NEEDED, *keys), zone, as_of, stuck_after)
    since, until = arguments.window(since, until, zone, context.as_of)
    made: dict[str, Any] = {"table": "durations", "kind": kind, "by": keys, "tz": zone}
    made |= {"since": _iso(since), "until": _iso(until)} | arguments.plain(
        as_of=as_of, stuck_after=stuck_after
    )
    about: dict[str, Any] = {name: made[name] for name in ("by", "since", "until")}
    frame = frame.select(*dict.fromkeys((*_NEEDED, *keys, "state", "as_of")))
    if kind == "percentiles":
        table = _percentiles(with_attempt(frame, made), keys)
    else:
        table, about["curves"] = curves(_with_observed(frame, made).filter("_counted"), keys)
    table.attrs[ATTRS] = context.as_attrs(**about, made=made)
    return table


def _iso(stamp: pd.Timestamp | None) -> str | None:
    return None if stamp is None else stamp.isoformat()


def _inside(made: Mapping[str, Any]) -> nw.Expr:
    created = nw.col("create_time")
    inside = created <= nw.col("as_of")
    if made["since"] is not None:
        inside = inside & (created >= nw.lit(pd.Timestamp(made["since"]).to_pydatetime()))
    if made["until"] is not None:
        inside = inside & (created < nw.lit(pd.Timestamp(made["until"]).to_pydatetime()))
    return inside.fill_null(value=False)


def _was_completed() -> nw.Expr:
    return (nw.col("state") == "to_be_deleted") & ~nw.col("end_time").is_null()


def _usable() -> nw.Expr:
    end = nw.col("end_time")
    return ((end >= nw.col("create_time")) & (end <= nw.col("as_of"))).fill_null(value=False)


def with_attempt(frame: nw.LazyFrame[Any], made: Mapping[str, Any]) -> nw.LazyFrame[Any]:
    """Mark what completed in the window, and tell first attempts from later ones."""
    created, bound = nw.col("create_time"), nw.col("device_create_time")
    frame = frame.with_columns(_ms=epoch_ms(frame, "create_time"))
    # What waits for deletion comes before everything else, and is no creation of any record.
    aged = (
        nw.when(_was_completed())
        .then(nw.lit(_PURGED))
        .when(created <= nw.col("as_of"))
        .then(nw.col("_ms"))
    )
    frame = frame.with_columns(_oldest=aged)
    frame = frame.with_columns(_oldest=nw.col("_oldest").min().over(*_DEVICE))
    is_first = (
        (nw.col("_oldest") == nw.col("_ms"))
        & ~nw.col("device_id").is_null()
        & (created >= bound)
        & (created <= bound + _FIRST_WITHIN)
    ).fill_null(value=False)
    return frame.with_columns(
        _later=nw.when(is_first).then(nw.lit(0)).otherwise(nw.lit(1)),
        _counted=_inside(made) & ((nw.col("state") == "completed") | _was_completed()),
        _usable=_usable(),
    )


def _percentiles(frame: nw.LazyFrame[Any], keys: Sequence[str]) -> pd.DataFrame:
    duration = nw.col("_duration_s")
    # Selected before it is filtered: moving text is what costs most. A key may have the name of a
    # result, but none begins so.
    shown = frame.select(
        *keys,
        "_later",
        "_counted",
        _duration_s=nw.when(nw.col("_usable")).then(nw.col("duration_s")),
        _excluded=(~nw.col("_usable")).cast(nw.Int64),
    ).filter("_counted")
    table = rules.collect(
        shown.group_by(*keys, "_later").agg(
            n=duration.count(),
            **{
                f"p{place}_s": duration.quantile(place / 100, interpolation="linear")
                for place in _PERCENTILES
            },
            min_s=duration.min(),
            max_s=duration.max(),
            excluded=nw.col("_excluded").sum(),
        )
    )
    for place, enough in _ENOUGH.items():
        table[f"p{place}_s"] = table[f"p{place}_s"].where(table["n"] >= enough)
    attempts = table.pop("_later").map(dict(enumerate(ATTEMPTS))).astype(STRING)
    table.insert(len(keys), "attempt", attempts)
    whole = ["n", "excluded"]
    table[whole] = table[whole].astype("int64")
    code, _ = groups.numbered(table, keys)
    sizes = table.groupby(code)["n"].transform("sum")
    return table.loc[groups.in_order(table, [*keys, "attempt"], sizes)].reset_index(drop=True)


def _with_observed(frame: nw.LazyFrame[Any], made: Mapping[str, Any]) -> nw.LazyFrame[Any]:
    """Add when each record began, ended and was seen last, in milliseconds, and if it completed."""
    is_done = (nw.col("state") == "completed") | _was_completed()
    is_open = nw.col("state").is_in(["in_progress", "stuck", "to_be_deleted"])
    until = {"_begin": "create_time", "_end": "end_time", "_now": "as_of"}
    return frame.with_columns(
        _counted=_inside(made),
        _done=is_done,
        _usable=nw.when(is_done).then(_usable()).otherwise(is_open),
        **{name: epoch_ms(frame, column) for name, column in until.items()},
    )


def records_behind(
    frame: nw.LazyFrame[Any], row: Mapping[str, Any], made: Mapping[str, Any]
) -> nw.LazyFrame[Any]:
    """Keep the records that a row of percentiles, or the curve of a group, is made of."""
    names = frame.collect_schema().names()
    if made["kind"] == "percentiles":
        part = with_attempt(frame, made)
        part = part.filter(nw.col("_later") == ATTEMPTS.index(row["attempt"]))
    else:
        part = _with_observed(frame, made)
    return part.filter("_counted", "_usable", *groups.same(made["by"], row)).select(*names)
