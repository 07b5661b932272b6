"""What state each record is in, and how many are in which.

The API knows new, completed and to be deleted; it has no failed. That a backup is stuck is
inferred, and every table says by which rule.
"""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

import narwhals as nw
import numpy as np
import pandas as pd

from koodrive_nb import settings
from koodrive_nb.analysis import arguments, groups, rules, shares
from koodrive_nb.analysis.labels import device_label, devices_of, os_family
from koodrive_nb.columns import STRING, TIME, UNKNOWN, categories
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from koodrive_nb.analysis.arguments import StuckAfter

Frame = TypeVar("Frame")

_NEEDED = (
    "user_id",
    "device_id",
    "device_name",
    "device_os",
    "module",
    "module_code",
    "status_code",
    "create_time",
    "end_time",
    "duration_s",
    "fetched_at",
)
_ADDED = ("state", "stuck_reason", "stuck_after_s", "device_label", "os_family", "as_of")
_COUNTS = ("n", *rules.STATES, "was_completed", "was_abandoned")
_RESULTS = {*_COUNTS, *shares.COLUMNS}


def classify(
    records: Frame,
    *,
    as_of: object = None,
    stuck_after: StuckAfter = "auto",
) -> Frame:
    """Add to each record the state it is in.

    Added columns: `state` (completed, in_progress, stuck, to_be_deleted, unknown), `stuck_reason`
    (superseded: the same device and module has a later record; age: open for longer than
    `stuck_after_s`), `stuck_after_s` (seconds), `device_label` (name and last four digits of the
    id), `os_family`, and `as_of`, the row's "now": its `fetched_at`, or the given `as_of` if that
    is earlier. `stuck_after` is a duration such as "6h", one for each module, or "auto": three
    times the 99th percentile of completed durations, from 1 h to 7 d; 24 h below 30.

    Stuck is an inference: the API has no failed status, and a lock that a client no longer renews
    expires after ten minutes. A frame that has a `state` comes back as it is, so that a filter can
    never change one.

    Raises:
        InvalidParameterError: Columns are missing, an argument is not what this takes, or a frame
            that has a `state` came with options.
    """
    known = rules.lazy(records, ())
    names = known.collect_schema().names()
    if "state" in names:
        if as_of is not None or stuck_after != "auto":
            raise InvalidParameterError(
                "These records are classified already: pass as_of= and stuck_after= to "
                "kd.analysis.classify() itself, with the records as they were fetched."
            )
        rules.lazy(records, (*_NEEDED, *_ADDED))
        return records
    frame = _with_now(rules.lazy(records, _NEEDED), as_of)
    limits = rules.stuck_limits(_completed_durations(frame), stuck_after)
    frame = _with_state(frame, limits)
    if isinstance(records, pd.DataFrame):
        return _added_to_pandas(records, frame)  # type: ignore[return-value]  # pandas came in
    frame = frame.with_columns(
        state=_spelled("_state", rules.STATES),
        stuck_reason=_spelled("_stuck_reason", rules.STUCK_REASONS),
        device_label=device_label(),
        os_family=os_family(),
    )
    added = frame.select(*(name for name in names if name not in _ADDED), *_ADDED)
    native: Any = records
    native = nw.from_native(native)
    if isinstance(native, nw.LazyFrame):
        return added.to_native()  # type: ignore[no-any-return]  # the engine that came in
    return added.collect(native.implementation).to_native()  # type: ignore[no-any-return]  # as above


def _added_to_pandas(records: pd.DataFrame, frame: nw.LazyFrame[Any]) -> pd.DataFrame:
    """Add the columns to a copy: words as categories, and labels once for each device."""
    columns = ("_state", "_stuck_reason", "stuck_after_s", "as_of")
    found: pd.DataFrame = frame.select(*columns).collect().to_native()
    result = records.drop(columns=[name for name in _ADDED if name in records.columns])
    devices, places = devices_of(records)
    for name, words in (("state", rules.STATES), ("stuck_reason", rules.STUCK_REASONS)):
        codes = found[f"_{name}"].to_numpy(dtype="int8")
        result[name] = pd.Categorical.from_codes(codes, dtype=categories(words))
    result["stuck_after_s"] = found["stuck_after_s"].to_numpy(dtype="float64")
    result["device_label"] = devices["device_label"].astype(STRING).array.take(places)
    families = devices["os_family"].astype(categories(rules.OS_FAMILIES))
    result["os_family"] = families.array.take(places)
    result["as_of"] = found["as_of"].astype(TIME).array
    result.attrs = deepcopy(records.attrs)
    return result


def _spelled(code: str, words: Sequence[str]) -> nw.Expr:
    chain: Any = nw.when(nw.col(code) == 0).then(nw.lit(words[0]))
    for number, word in enumerate(words[1:], 1):
        chain = chain.when(nw.col(code) == number).then(nw.lit(word))
    result: nw.Expr = chain.otherwise(nw.lit(None, dtype=nw.String))
    return result


def _with_now(frame: nw.LazyFrame[Any], as_of: object) -> nw.LazyFrame[Any]:
    now = nw.col("fetched_at")
    if as_of is not None:
        limit = nw.lit(arguments.instant(as_of, "as_of").to_pydatetime())
        now = nw.when(now < limit).then(now).otherwise(limit)
    return frame.with_columns(as_of=now)


def _completed_durations(frame: nw.LazyFrame[Any]) -> pd.DataFrame:
    finished = frame.filter(
        nw.col("status_code") == 1,
        nw.col("duration_s") >= 0,
        nw.col("end_time") <= nw.col("as_of"),
    )
    return rules.collect(
        finished.group_by("module").agg(
            n=nw.len(), p99_s=nw.col("duration_s").quantile(0.99, interpolation="linear")
        )
    )


def _with_state(frame: nw.LazyFrame[Any], limits: Mapping[str, float]) -> nw.LazyFrame[Any]:
    created, now, status = nw.col("create_time"), nw.col("as_of"), nw.col("status_code")
    frame = frame.with_columns(_seen=nw.when(created <= now).then(created))
    frame = frame.with_columns(
        _newest=nw.col("_seen").max().over("user_id", "device_id", "module_code"),
    )
    superseded = (nw.col("_newest") > created).fill_null(value=False) & (
        ~nw.col("device_id").is_null()
    )
    too_old = reduce(
        lambda left, right: left | right,
        (
            (nw.col("module") == module) & (created + timedelta(seconds=limit) < now)
            for module, limit in limits.items()
        ),
    ).fill_null(value=False)
    # What ended after a past "now" was still open then.
    ended_later = (status == 1) & (now < nw.col("fetched_at")) & (nw.col("end_time") > now)
    is_open = ((status == 0) | ended_later.fill_null(value=False)).fill_null(value=False)
    # Numbers first: words for a million rows cost more than all the rest.
    frame = frame.with_columns(
        _stuck_reason=nw.when(is_open & superseded)
        .then(nw.lit(rules.STUCK_REASONS.index("superseded")))
        .when(is_open & too_old)
        .then(nw.lit(rules.STUCK_REASONS.index("age")))
        .otherwise(nw.lit(-1)),
        stuck_after_s=_by_module(limits),
    )
    chain: Any = nw.when(nw.col("_stuck_reason") >= 0).then(nw.lit(rules.STATES.index("stuck")))
    for state, is_in in (
        ("in_progress", is_open),
        ("completed", (status == 1).fill_null(value=False)),
        ("to_be_deleted", (status == 2).fill_null(value=False)),  # noqa: PLR2004 -- the API's code
    ):
        chain = chain.when(is_in).then(nw.lit(rules.STATES.index(state)))
    return frame.with_columns(_state=chain.otherwise(nw.lit(rules.STATES.index("unknown"))))


def _by_module(values: Mapping[str, float]) -> nw.Expr:
    (first, value), *rest = values.items()
    chain: Any = nw.when(nw.col("module") == first).then(nw.lit(float(value)))
    for module, other in rest:
        chain = chain.when(nw.col("module") == module).then(nw.lit(float(other)))
    result: nw.Expr = chain.otherwise(nw.lit(float(values[UNKNOWN])))
    return result


def status_breakdown(
    records: Any,
    *,
    by: str | Sequence[str] = "module",
    as_of: object = None,
    tz: str | None = None,
    stuck_after: StuckAfter = "auto",
) -> pd.DataFrame:
    """Count the records in each state, one row per group.

    Columns: the group's own, `n`, one count for each state (`to_be_deleted` split into
    `was_completed` and `was_abandoned`, by whether it has an end), and of those that have come to
    an end the share that completed: `settled_share` = (`completed` + `was_completed`) / `settled`,
    from 0 to 1, with its 95 % Wilson interval `settled_share_lo` and `settled_share_hi`. In
    progress and unknown are in neither part. Groups of modules come in the API's order, others by
    size. Records created after a past `as_of` are not counted. `tz` is the zone in which a figure
    names the span.

    Raises:
        InvalidParameterError: A column is missing, or an argument is not what this takes.
    """
    keys = arguments.keys(by, _RESULTS)
    classified = classify(records, as_of=as_of, stuck_after=stuck_after)
    frame = rules.lazy(rules.spelled(classified, keys), keys)
    zone = settings.display_zone(tz).key
    context = rules.stamp_context(frame, getattr(records, "attrs", {}), zone)
    counted = frame.filter(~rules.later(nw.col("as_of"))).select(
        *keys, _state=nw.col("state"), _end=nw.col("end_time")
    )
    # To spell out or to add up anything for each record would take longer than to count them.
    counts = rules.collect(
        counted.group_by(*keys, "_state").agg(_n=nw.len(), _n_ended=nw.col("_end").count())
    )
    table = _in_order(_by_state(counts, keys), keys)
    table = shares.settle(table)
    n_later = context.n_records - int(table["n"].sum())
    made = {"table": "status_breakdown", "by": keys}
    made |= arguments.plain(as_of=as_of, tz=zone, stuck_after=stuck_after)
    table.attrs[ATTRS] = context.as_attrs(by=keys, n_later=n_later, made=made)
    return table


def records_behind(
    frame: nw.LazyFrame[Any], row: Mapping[str, Any], made: Mapping[str, Any]
) -> nw.LazyFrame[Any]:
    """Give the classified records that a row of `status_breakdown` counts."""
    counted = frame.filter(~rules.later(nw.col("as_of")))
    for key in made["by"]:
        is_mine = rules.same(key, row[key])
        if key == "module" and row[key] == UNKNOWN:
            is_mine = is_mine | nw.col("module").is_null()
        counted = counted.filter(is_mine)
    return counted


def _by_state(counts: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Put the counts of each group side by side."""
    if "module" in keys:
        counts["module"] = counts["module"].astype(STRING).fillna(UNKNOWN)
    code, table = groups.numbered(counts, keys)
    n, n_ended = counts["_n"].astype("int64"), counts["_n_ended"].astype("int64")
    state = counts["_state"].astype(STRING).fillna("")
    deleting = state == "to_be_deleted"
    parts = {"n": n, **{name: n.where(state == name, 0) for name in rules.STATES}}
    parts |= {
        "was_completed": n_ended.where(deleting, 0),
        "was_abandoned": (n - n_ended).where(deleting, 0),
    }
    for name, part in parts.items():
        sums = np.bincount(code, weights=part.to_numpy(), minlength=len(table))
        table[name] = sums.astype("int64")
    return table


def _in_order(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    if list(keys) == ["module"]:
        named = [label for label in rules.MODULE_LABELS if label != UNKNOWN]
        extra = [label for label in table["module"] if label not in named]
        order = pd.DataFrame({"module": pd.array([*named, *extra], dtype=STRING)})
        table = order.merge(table, on="module", how="left")
        return table.fillna(dict.fromkeys(_COUNTS, 0)).astype(dict.fromkeys(_COUNTS, "int64"))
    return table.sort_values(
        ["n", *keys], ascending=[False, *(True for _ in keys)], kind="stable", key=_sortable
    ).reset_index(drop=True)


def _sortable(values: pd.Series[Any]) -> pd.Series[Any]:
    return values if values.dtype.kind in "iuf" else values.astype(str)
