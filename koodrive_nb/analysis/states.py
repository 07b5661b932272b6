"""What state each record is in.

The API knows new, completed and to be deleted; it has no failed. That a backup is stuck is
inferred, and every table says by which rule.
"""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

import narwhals as nw
import pandas as pd

from koodrive_nb.analysis import arguments, rules
from koodrive_nb.analysis.contexts import Context, stamp_context, survey
from koodrive_nb.analysis.labels import device_label, devices_of, os_family
from koodrive_nb.columns import STRING, TIME, UNKNOWN, categories
from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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
_LANE = ("user_id", "device_id", "module_code")
_ADDED = ("state", "stuck_reason", "stuck_after_s", "device_label", "os_family", "as_of")


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
    if rules.is_classified(records):
        if as_of is not None or stuck_after != "auto":
            raise InvalidParameterError(
                "These records are classified already: pass as_of= and stuck_after= to "
                "kd.analysis.classify() itself, with the records as they were fetched."
            )
        rules.lazy(records, (*_NEEDED, *_ADDED))
        return records
    fetched = _fetched(records, as_of)
    limits = rules.stuck_limits(survey(fetched, spans=False), stuck_after)
    result: Frame = _classified(records, fetched, limits)
    return result


def prepared(
    records: Any, needed: Iterable[str], zone: str, as_of: object, stuck_after: StuckAfter
) -> tuple[nw.LazyFrame[Any], Context]:
    """Classify records as `classify` does, and measure what they span.

    Raises:
        InvalidParameterError: Columns are missing, or an argument is not what this takes.
    """
    needed, attrs = list(needed), getattr(records, "attrs", {})
    if rules.is_classified(records):
        classified = classify(records, as_of=as_of, stuck_after=stuck_after)
        frame = rules.lazy(rules.spelled(classified, needed), needed)
        surveyed = survey(frame)
        # One limit each, unless frames of several classifications were put together.
        longest = surveyed.groupby(surveyed["module"].astype(str))["limit_s"].max()
        return frame, stamp_context(surveyed, attrs, zone, longest)
    fetched = _fetched(records, as_of)
    # Of what was fetched, since no engine knows that it need not classify for that; and at once,
    # since each look at all records counts where there are millions.
    surveyed = survey(fetched)
    found = rules.stuck_limits(surveyed, stuck_after)
    classified = _classified(records, fetched, found)
    frame = rules.lazy(rules.spelled(classified, needed), needed)
    return frame, stamp_context(surveyed, attrs, zone, found)


def _classified(records: Any, frame: nw.LazyFrame[Any], limits: Mapping[str, float]) -> Any:
    names = [name for name in frame.collect_schema().names() if name not in _ADDED]
    frame = _with_state(frame, limits)
    if isinstance(records, pd.DataFrame):
        return _added_to_pandas(records, frame)
    frame = frame.with_columns(
        state=_spelled("_state", rules.STATES),
        stuck_reason=_spelled("_stuck_reason", rules.STUCK_REASONS),
        device_label=device_label(),
        os_family=os_family(),
    )
    added = frame.select(*names, *_ADDED)
    native = nw.from_native(records)
    if isinstance(native, nw.LazyFrame):
        return added.to_native()
    return added.collect(native.implementation).to_native()


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


def _fetched(records: Any, as_of: object) -> nw.LazyFrame[Any]:
    """Give each record its "now"."""
    now = nw.col("fetched_at")
    if as_of is not None:
        limit = nw.lit(arguments.instant(as_of, "as_of").to_pydatetime())
        now = nw.when(now < limit).then(now).otherwise(limit)
    return rules.lazy(records, _NEEDED).with_columns(as_of=now)


def _with_state(frame: nw.LazyFrame[Any], limits: Mapping[str, float]) -> nw.LazyFrame[Any]:
    created, now, status = nw.col("create_time"), nw.col("as_of"), nw.col("status_code")
    # What ended after a past "now" was still open then.
    ended_later = (status == 1) & (now < nw.col("fetched_at")) & (nw.col("end_time") > now)
    is_open = nw.col("_is_open")
    frame = frame.with_columns(
        _is_open=((status == 0) | ended_later.fill_null(value=False)).fill_null(value=False),
        _seen=nw.when(created <= now).then(created),
    )
    frame = _with_newest(frame)
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


def _with_newest(frame: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Add when the newest record of the same device and module was created, to open ones at least.

    Nothing is added for records without a device.
    """
    newest = nw.col("_seen").max()
    if not frame.implementation.is_duckdb():
        return frame.with_columns(_newest=newest.over(*_LANE))
    # DuckDB sorts all records for a window, which takes three times as long as all the rest; and
    # a join passes over those without a key.
    named = {f"_{name}": nw.col(name).fill_null("") for name in ("user_id", "module_code")}
    named["_device_id"] = nw.col("device_id")
    lanes = frame.group_by(*_LANE).agg(_newest=newest).select("_newest", **named)
    # So few that DuckDB keeps them, and not all records, in memory for the join.
    lanes = lanes.filter(~nw.col("_device_id").is_null(), ~nw.col("_newest").is_null())
    keys = {name: nw.when(nw.col("_is_open")).then(key) for name, key in named.items()}
    return frame.with_columns(**keys).join(lanes, on=[*keys], how="left")


def _by_module(values: Mapping[str, float]) -> nw.Expr:
    (first, value), *rest = values.items()
    chain: Any = nw.when(nw.col("module") == first).then(nw.lit(float(value)))
    for module, other in rest:
        chain = chain.when(nw.col("module") == module).then(nw.lit(float(other)))
    result: nw.Expr = chain.otherwise(nw.lit(float(values[UNKNOWN])))
    return result
