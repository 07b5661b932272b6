"""Why the share of backups that completed changed between two windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np
import pandas as pd

from koodrive_nb import settings
from koodrive_nb.analysis import arguments, bins, drivers, effects, groups, retention, rules
from koodrive_nb.analysis.states import prepared
from koodrive_nb.analysis.windows import Window
from koodrive_nb.analysis.zones import check_session, epoch_ms
from koodrive_nb.columns import STRING
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from koodrive_nb.analysis.arguments import StuckAfter

_COUNTED, _YOUNG, _OPEN, _PURGED = range(4)
_MISSING = "(missing)"
# What calls itself so is told from what is.
_TAKEN = {name: f'"{name}"' for name in (effects.OTHER, _MISSING)}
_NEEDED = (*retention.NEEDED, "stuck_after_s")
_COLUMNS: Mapping[str, Any] = {
    **dict.fromkeys(("dimension", "segment"), STRING),
    **dict.fromkeys(("n_previous", "n"), "int64"),
    **dict.fromkeys(("settled_share_previous", "settled_share"), "float64"),
    **dict.fromkeys(("weight_previous", "weight"), "float64"),
    **dict.fromkeys(("rate_effect_pp", "mix_effect_pp", "total_pp"), "float64"),
    **dict.fromkeys(("z", "p_value"), "float64"),
    "is_driver": "bool",
    "reason": STRING,
}


def explain_change(  # noqa: PLR0913 -- each is a question of its own, and keyword-only
    records: Any,
    *,
    window: object,
    previous: object = None,
    by: str | Sequence[str] = ("os_family", "module"),
    as_of: object = None,
    tz: str | None = None,
    stuck_after: StuckAfter = "auto",
) -> pd.DataFrame:
    """Split the change of the settled share between two windows by segments.

    One row for each dimension in `by`, a column of the records, and `segment`, a value of it.
    Columns: `n_previous` and `n`, the backups of either window that came to an end, and their
    shares that completed, `settled_share_previous` and `settled_share`, from 0 to 1;
    `weight_previous` and `weight`, the segment's share of all backups; in percentage points,
    `rate_effect_pp`, for its share changed, and `mix_effect_pp`, for its weight did, which make
    `total_pp`. The totals of each dimension add up to the change. Segments of less than 100 backups
    in either window are one, "other (small)". `z` and `p_value`: how far `total_pp` is from the
    part of the change that the segment's weight would bring, and the probability that chance alone
    brings as much, times the number of segments, at most 1 (Bonferroni). Backups of one device
    depend on each other, and count as one draw.

    `attrs` hold the `change_pp`, its own `change_p_value`, the number of segments that may be
    drivers, `n_segments`, and the `verdict` in words. If the change itself is no chance (p below
    0.05), those segments are tested whose `total_pp` is at least a quarter of it and more than
    their weight's part; others have no `z` and `p_value`. One is a driver (`is_driver`) if its
    `p_value` is below 0.05; where it is none, `reason` says why. A driver is what the change goes
    with, not what causes it. With less than 100 backups in either window the table is empty.

    `window` and `previous` are an ISO week such as "2025-W50" or a pair of instants, local in `tz`;
    `previous` is by default as long as the window, and ends where it begins. Backups younger than
    the stuck limit are in neither window, since those that will not complete are still open then.
    Where the service purges, counted are the devices and modules of which no copy is missing since
    the earlier window began, and no driver is named unless that is so for nine in ten. `attrs`
    tell what that leaves out of both windows: `n_young`, `n_open` (in progress or unknown) and
    `n_purged`; and `seen_until`, the fetch, where the window was not over by then.

    Devices, users and modules may be filtered before. A filter of states falsifies the share, and
    hides that records were purged where it leaves none to be deleted (`n_to_be_deleted`); one of
    times must leave whole windows.

    Source: midpoint split of a weighted mean; variance of sums over clusters.

    Raises:
        InvalidParameterError: A column is missing, an argument is not what this takes, the window
            begins after the fetch, or before the previous one is over.
    """
    keys = arguments.keys(list(by) if isinstance(by, tuple) else by, _COLUMNS)
    zone = settings.display_zone(tz).key
    this = Window.read(window, "window", zone)
    before = this.before(zone) if previous is None else Window.read(previous, "previous", zone)
    if before.end > this.start:
        raise InvalidParameterError("previous= must be over when window= begins.")
    check_session(records)
    groups.check_keys(records, keys)
    frame, context = prepared(records, (*_NEEDED, *keys), zone, as_of, stuck_after)
    seen_until = context.seen_until((this.start, this.end))
    made: dict[str, Any] = {"table": "explain_change", "by": keys, "tz": zone}
    made |= {"start": this.start.isoformat(), "end": this.end.isoformat()}
    made |= {"previous_start": before.start.isoformat(), "previous_end": before.end.isoformat()}
    made |= arguments.plain(as_of=as_of, stuck_after=stuck_after)
    cells, left_out = _cells(frame, made)
    _, (edge,) = retention.complete_from(frame, [], retention.MOST)
    is_purged = edge is not None and before.start < edge
    table, about = _explained(cells, keys, is_purged=is_purged)
    is_deleting = (nw.col("state") == "to_be_deleted").cast(nw.Int64)
    deleting = rules.collect(frame.select(n=is_deleting.sum()))["n"].fillna(0)
    if seen_until is not None:
        about["verdict"] += drivers.NOT_OVER
    made["kept"] = {
        key: [name for name in table["segment"][table["dimension"] == key] if name != effects.OTHER]
        for key in keys
    }
    table.attrs[ATTRS] = context.as_attrs(
        by=keys,
        since=made["start"],
        until=made["end"],
        previous_start=made["previous_start"],
        previous_end=made["previous_end"],
        seen_until=seen_until,
        n_to_be_deleted=int(deleting.iloc[0]),
        **left_out,
        history_complete_from=None if edge is None else edge.isoformat(),
        **about,
        made=made,
    )
    return table


def _marked(frame: nw.LazyFrame[Any], made: Mapping[str, Any]) -> nw.LazyFrame[Any]:
    """Leave what was created in either window, with `_is_this`, and `_why` it is not counted."""
    edges = {
        name: bins.epoch(pd.Timestamp(made[name]))
        for name in ("start", "end", "previous_start", "previous_end")
    }
    frame = retention.with_oldest(frame)
    created = nw.col("_ms")
    is_this = (created >= edges["start"]) & (created < edges["end"])
    was_before = (created >= edges["previous_start"]) & (created < edges["previous_end"])
    frame = frame.filter(
        is_this | was_before,
        nw.col("create_time") <= nw.col("as_of"),
    )
    frame = frame.with_columns(_now=epoch_ms(frame, "as_of"))
    # DuckDB rounds where others cut.
    limit = (nw.col("stuck_after_s") * 1000).floor().cast(nw.Int64)
    is_over = retention.is_copy() | retention.is_failed()
    why = (
        nw.when(created + limit > nw.col("_now"))
        .then(nw.lit(_YOUNG))
        .when(~is_over.fill_null(value=False))
        .then(nw.lit(_OPEN))
        .when(~retention.is_whole(edges["previous_start"]))
        .then(nw.lit(_PURGED))
    )
    return frame.with_columns(_is_this=is_this, _why=why.otherwise(nw.lit(_COUNTED)))


def _cells(
    frame: nw.LazyFrame[Any], made: Mapping[str, Any]
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Count for each device and combination of segments, and what is left out of both windows."""
    keys = made["by"]
    marked = _marked(frame.select(*dict.fromkeys((*_NEEDED, *keys))), made)
    parts = marked.select(
        "_user",
        "_device",
        **{f"_by_{place}": _text(marked, key) for place, key in enumerate(keys)},
        _is_this=nw.col("_is_this"),
        _why=nw.col("_why"),
        _hit=retention.is_copy().cast(nw.Int64),
    )
    places = [f"_by_{place}" for place in range(len(keys))]
    counts = rules.collect(
        parts.group_by("_user", "_device", *places, "_is_this", "_why").agg(
            _n=nw.len(), _hits=nw.col("_hit").sum()
        )
    )
    cells = counts[counts["_why"] == _COUNTED].reset_index(drop=True)
    is_this = cells["_is_this"].astype(bool)
    found = {
        name: cells[column].astype("int64").where(mine, 0)
        for column, name, mine in (
            ("_n", "n_previous", ~is_this),
            ("_n", "n", is_this),
            ("_hits", "hits_previous", ~is_this),
            ("_hits", "hits", is_this),
        )
    }
    cluster = cells.groupby(["_user", "_device"], dropna=False, observed=True).ngroup()
    segments = {
        key: cells[place].astype(STRING).replace(_TAKEN).fillna(_MISSING)
        for key, place in zip(keys, places, strict=True)
    }
    table = pd.DataFrame({"cluster": cluster} | found)
    left_out = {
        name: int(counts["_n"][counts["_why"] == why].sum())
        for name, why in (("n_young", _YOUNG), ("n_open", _OPEN), ("n_purged", _PURGED))
    }
    return table.assign(**{f"of {key}": each for key, each in segments.items()}), left_out


def _text(frame: nw.LazyFrame[Any], key: str) -> nw.Expr:
    kind, value = frame.collect_schema()[key], nw.col(key)
    if isinstance(kind, nw.Boolean):
        # Each engine spells them in its own way.
        return nw.when(value).then(nw.lit("true")).when(~value).then(nw.lit("false"))
    is_text = isinstance(kind, nw.String | nw.Categorical | nw.Enum)
    return value if is_text else value.cast(nw.String)


def _explained(
    cells: pd.DataFrame, keys: Sequence[str], *, is_purged: bool
) -> tuple[pd.DataFrame, dict[str, Any]]:
    n0, n1 = int(cells["n_previous"].sum()), int(cells["n"].sum())
    about: dict[str, Any] = {"n_previous": n0, "n": n1}
    if min(n0, n1) < effects.FEW:
        about["verdict"] = drivers.too_few(n0, n1)
        return pd.DataFrame({name: [] for name in _COLUMNS}).astype(dict(_COLUMNS)), about
    shares = cells["hits_previous"].sum() / n0, cells["hits"].sum() / n1
    about |= {"settled_share_previous": float(shares[0]), "settled_share": float(shares[1])}
    about["change_pp"] = float(100 * (shares[1] - shares[0]))
    about["change_p_value"] = float(effects.probability(np.array([effects.distance(cells)]))[0])
    parts = []
    for key in keys:
        part = effects.split(effects.pooled(cells.assign(segment=cells[f"of {key}"])))
        order = part["total_pp"].abs().sort_values(ascending=False, kind="stable").index
        parts.append(part.loc[order].assign(dimension=key))
    table = drivers.judge(pd.concat(parts, ignore_index=True), about, is_purged=is_purged)
    table = table[list(_COLUMNS)].astype(dict(_COLUMNS))
    about["n_segments"] = drivers.segments(table)
    about["verdict"] = drivers.verdict(table, about, is_purged=is_purged)
    largest = effects.largest(cells)
    if largest:
        about["verdict"] += (
            f"; one device alone moves the share by {100 * largest:+.2f} percentage points, which "
            "may hide what goes with the rest: look at it, and ask again without it"
        )
    return table, about


def records_behind(
    frame: nw.LazyFrame[Any], row: Mapping[str, Any], made: Mapping[str, Any]
) -> nw.LazyFrame[Any]:
    """Keep the backups of this window, not of the earlier one, that a segment counts."""
    names = frame.collect_schema().names()
    key = row["dimension"]
    # Cast in any case: a category takes no new word for what is missing.
    raw = _text(frame, key).cast(nw.String)
    spelled: Any = nw.when(raw.is_null()).then(nw.lit(_MISSING))
    for name, other in _TAKEN.items():
        spelled = spelled.when(raw == name).then(nw.lit(other))
    text = spelled.otherwise(raw)
    kept = made["kept"][key]
    mine = ~text.is_in(kept) if row["segment"] == effects.OTHER else text == row["segment"]
    marked = _marked(frame, made)
    return marked.filter(nw.col("_is_this"), nw.col("_why") == _COUNTED, mine).select(*names)
