"""What can be wrong with records and devices: the rules of the data quality table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from koodrive_nb.analysis import groups, rules
from koodrive_nb.analysis.expansion import json_object
from koodrive_nb.columns import MODULES, STATUSES, STRING

if TYPE_CHECKING:
    from collections.abc import Collection

SEVERITIES = ("error", "warning", "info")
AHEAD_BY = timedelta(minutes=5)
"""How far a clock may be ahead of ours before a record counts as created in the future."""
MAX_TEXTS = 1_000_000
"""How many different properties are parsed at most; above it nobody knows how many are bad."""

_PAIR = (
    r'"[A-Za-z0-9_]*":(?:"[ !#-\[\]-~]*"|-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?'
    r"|true|false|null)"
)
_PLAIN_OBJECT = rf"^\{{(?:{_PAIR}(?:,{_PAIR})*)?\}}$"
# Java, and so Spark, tries this on its stack, which long text would exhaust.
_PLAIN_UP_TO = 1000


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that can be wrong, and what is counted where it is."""

    name: str
    severity: str
    what: str


RULES = (
    Rule("duplicate_id", "error", "Records whose id the same user has more than once."),
    Rule("missing_device", "warning", "Records that name no device."),
    Rule("unknown_status", "warning", "Records whose status is missing or not 0, 1 or 2."),
    Rule("unknown_module", "warning", "Records whose module is missing or not 100, 101 or 102."),
    Rule("missing_end", "warning", "Completed records (status 1) without an end."),
    Rule("end_on_open", "error", "Open records (status 0) that have an end."),
    Rule("end_before_start", "error", "Records that end before they begin."),
    Rule("future_start", "error", "Records created more than 5 min after they were fetched."),
    Rule("missing_start", "error", "Records without a creation time."),
    Rule("bad_properties", "warning", "Records whose properties are text but no JSON object."),
    Rule("misfit", "warning", "Records with unknown fields, or values that did not fit."),
    Rule("coerced", "info", "Values that were bent to fit when all this was fetched."),
    Rule("start_before_bind", "warning", "Records created before their device was bound."),
    Rule("rebound_device", "info", "Machine codes that a user has under more than one device id."),
    Rule("duplicate_name", "info", "Devices that share their name with another of the user."),
    Rule("unbound_device", "warning", "Devices that have records but are not bound now."),
    Rule("silent_device", "warning", "Bound devices without any record."),
)
NEEDED = (
    *("user_id", "record_id", "module_code", "status_code", "create_time", "end_time"),
    *("device_id", "device_name", "machine_code", "device_create_time"),
    *("properties", "extra", "fetched_at"),
)
DEVICE = ("user_id", "device_id", "device_name", "machine_code")


def record_flags() -> dict[str, nw.Expr]:
    """Tell whether a record breaks each of the rules that it can break by itself."""
    created, end, bound = nw.col("create_time"), nw.col("end_time"), nw.col("device_create_time")
    status = nw.col("status_code")
    flags = {
        "missing_device": nw.col("device_id").is_null(),
        "unknown_status": ~status.is_in(list(STATUSES)).fill_null(value=False),
        "unknown_module": ~nw.col("module_code").is_in(list(MODULES)).fill_null(value=False),
        "missing_end": (status == 1) & end.is_null(),
        "end_on_open": (status == 0) & ~end.is_null(),
        "end_before_start": end < created,
        "future_start": created > nw.col("fetched_at") + AHEAD_BY,
        "missing_start": created.is_null(),
        "misfit": ~nw.col("extra").is_null(),
        "start_before_bind": created < bound,
    }
    return {name: flag.fill_null(value=False) for name, flag in flags.items()}


def in_pandas(frame: nw.LazyFrame[Any]) -> pd.DataFrame | None:
    """Give the frame itself where it is one of pandas, whose rows are at hand."""
    if not frame.implementation.is_pandas():
        return None
    native: pd.DataFrame = frame.collect().to_native()
    return native


def with_duplicate(frame: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Add `duplicate_id`: whether the user has the id of the record more than once."""
    native = in_pandas(frame)
    if native is None:
        again = (nw.len().over("user_id", "record_id") > 1) & ~nw.col("record_id").is_null()
        return frame.with_columns(duplicate_id=again)
    known = native["record_id"].notna().to_numpy()
    again_here = np.zeros(len(native), dtype=bool)
    if native["record_id"].nunique() < known.sum():
        places = groups.numbers(native, ("user_id", "record_id"))
        again_here = (np.bincount(places)[places] > 1) & known
    wrapped: nw.LazyFrame[Any] = nw.from_native(native.assign(duplicate_id=again_here)).lazy()
    return wrapped


def distinct_devices(frame: nw.LazyFrame[Any]) -> pd.DataFrame:
    """Give each device once for each name and machine code that it goes by."""
    native = in_pandas(frame)
    if native is None:
        known = frame.select(*DEVICE).filter(~nw.col("device_id").is_null())
        return rules.collect(known.unique())
    first = ~pd.Series(groups.numbers(native, DEVICE)).duplicated().to_numpy()
    each = native.loc[first, list(DEVICE)].astype(STRING)
    return each[each["device_id"].notna()]


def unreadable(frame: nw.LazyFrame[Any]) -> pd.DataFrame | None:
    """Give the properties that are text but no JSON object: `properties`, `n`, `first` id.

    None where there are too many different texts to read.
    """
    # Most clients write short flat objects, and these every engine can tell by itself.
    native = in_pandas(frame)
    if native is not None:
        doubtful = nw.from_native(native[_are_doubtful(native["properties"])]).lazy()
    else:
        text = nw.col("properties").fill_null("")
        is_plain = (
            (text.str.len_chars() <= _PLAIN_UP_TO)
            & text.str.ends_with("}")
            & text.str.contains(_PLAIN_OBJECT)
        )
        doubtful = frame.filter(~is_plain, text != "")
    by_text = doubtful.group_by("properties").agg(n=nw.len(), first=nw.col("record_id").min())
    table = rules.collect(by_text.head(MAX_TEXTS + 1))
    if len(table) > MAX_TEXTS:
        return None
    texts = table["properties"].to_numpy(dtype=object)
    return table[np.array([json_object(text) is None for text in texts], dtype=bool)]


def _are_doubtful(texts: pd.Series[Any]) -> np.ndarray[Any, Any]:
    # By Arrow itself: pandas first asks of every text whether Arrow would do.
    written = pa.array(texts.astype(STRING)).fill_null("")
    is_short = pc.less_equal(pc.utf8_length(written), _PLAIN_UP_TO)
    is_plain = pc.and_(is_short, pc.match_substring_regex(written, _PLAIN_OBJECT))
    doubtful = pc.and_(pc.invert(is_plain), pc.not_equal(written, ""))
    result: np.ndarray[Any, Any] = doubtful.to_numpy(zero_copy_only=False)
    return result


def examples(
    frame: nw.LazyFrame[Any], flags: Collection[str], at_most: int
) -> dict[str, list[str]]:
    """Give for each column of flags the first ids of the records that have it."""
    found: dict[str, list[str]] = {name: [] for name in flags}
    if flags:
        is_any = nw.any_horizontal(*flags, ignore_nulls=True)
        frame = frame.select("record_id", *flags).filter(is_any)
    identity = nw.col("record_id")
    for n in range(at_most):
        # The smallest id, then the smallest above it: few questions, whatever the engine.
        wanted = {
            name: nw.when(nw.col(name) & (identity > ids[-1]) if ids else nw.col(name))
            for name, ids in found.items()
            if len(ids) == n
        }
        if not wanted:
            break
        smallest = {name: case.then(identity).min() for name, case in wanted.items()}
        row = rules.collect(frame.select(**smallest)).iloc[0]
        for name in wanted:
            if not pd.isna(row[name]):
                found[name].append(str(row[name]))
    return found
