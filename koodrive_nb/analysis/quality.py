"""Whether the data can be trusted: how much of it breaks which rule."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import narwhals as nw
import pandas as pd

from koodrive_nb import settings
from koodrive_nb.analysis import arguments, quality_rules, rules
from koodrive_nb.analysis.contexts import Context
from koodrive_nb.analysis.states import classify
from koodrive_nb.columns import STRING, categories
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.streams import ATTRS, ledger

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

MAX_DEVICES_BEHIND = 10_000
"""How many devices behind a rule the table remembers, so that their records can be found."""

_N_EXAMPLES = 3
_BOUND = (*quality_rules.DEVICE, "device_create_time", "fetched_at")
_Device = tuple[str, str]


def data_quality(
    records: Any, devices: Any = None, *, as_of: object = None, tz: str | None = None
) -> pd.DataFrame:
    """Count what is wrong with the records, one row per rule, also where nothing is.

    Columns: `rule`, `severity` (error, warning, info), `n`, `of` (the records, devices or machine
    codes looked at), `share` (from 0 to 1), `what` the rule counts, and `example_ids`, the first
    three of the records, devices or machine codes, in the order of text. What cannot be computed
    is missing, not 0: unbound_device and silent_device without `devices`; coerced, which counts
    values among the rows that were received, where the frame no longer has its ledger; and
    bad_properties where more than a million different texts would have to be brought into memory
    to be parsed (all but short flat objects, which every engine can tell by itself).
    A text too deep to be read (about a thousand levels) counts as bad, as in `kd.analysis.expand`.

    rebound_device counts machine codes; duplicate_name, unbound_device and silent_device count
    devices. The devices looked at are those of the records, and those of `devices` if given. The
    records may be classified or not. Those created after a past `as_of` are not counted. `tz` is
    the zone in which a figure names the span.

    Raises:
        InvalidParameterError: A column is missing, or an argument is not what this takes.
    """
    zone = settings.display_zone(tz).key
    frame = _known_then(records, as_of)
    context, counts = _counts(frame, getattr(records, "attrs", {}), zone)
    n_records = context.n_records
    found = {name: (n, n_records) for name, n in counts.items()}
    bad = quality_rules.unreadable(frame)
    if bad is not None:
        found["bad_properties"] = int(bad["n"].sum()), n_records
        # The first ids are among the records of the texts with the first ids.
        few = bad.sort_values("first")["properties"].head(_N_EXAMPLES).tolist()
        has_bad = nw.col("properties").is_in(few).fill_null(value=False)
        frame = frame.with_columns(bad_properties=has_bad)
    broken = [name for name, (n, _) in found.items() if n]
    ids = quality_rules.examples(frame, broken, _N_EXAMPLES)
    found |= _coerced(records)
    behind = _device_rules(frame, devices, context.as_of, found, ids)
    table = _table(found, ids)
    made = {
        "table": "data_quality",
        "as_of": None if as_of is None else arguments.instant(as_of, "as_of").isoformat(),
        "tz": zone,
        "stuck_after": "auto",
        # As text, since pandas copies attrs deeply, again and again.
        "devices": {name: _remembered(keys) for name, keys in behind.items()},
    }
    about = context.as_attrs(made=made)
    # Nothing here rests on what counts as stuck.
    del about["stuck_rule"]
    table.attrs[ATTRS] = about
    return table


def records_behind(
    frame: nw.LazyFrame[Any], row: Mapping[str, Any], made: Mapping[str, Any]
) -> nw.LazyFrame[Any]:
    """Keep of classified records those behind one row of the table.

    For rules that count records, as many as the row's `n`; for those that count devices or machine
    codes, all records of these devices (a silent device has none).

    Raises:
        InvalidParameterError: The row was not computed, or does not know its records.
    """
    rule = row["rule"]
    if pd.isna(row["n"]):
        raise InvalidParameterError(f"{rule} could not be computed, so it has no records.")
    if rule == "coerced":
        raise InvalidParameterError("Which values were bent to fit is not kept, only their number.")
    names = frame.collect_schema().names()
    frame = frame.filter(~rules.later(nw.col("as_of")))
    flags = quality_rules.record_flags()
    if rule in flags:
        return frame.filter(flags[rule])
    if rule == "duplicate_id":
        return quality_rules.with_duplicate(frame).filter(nw.col("duplicate_id")).select(*names)
    if rule == "bad_properties":
        bad = quality_rules.unreadable(frame)
        texts = [] if bad is None else bad["properties"].tolist()
        return frame.filter(nw.col("properties").is_in(texts))
    remembered = made["devices"][rule]
    if remembered is None:
        raise InvalidParameterError(
            f"More than {MAX_DEVICES_BEHIND:,} devices are behind {rule}: "
            "select the records of some users first."
        )
    keys = ["\n".join(key) for key in json.loads(remembered)]
    own_key = nw.concat_str(nw.col("user_id").fill_null(""), nw.lit("\n"), nw.col("device_id"))
    return frame.filter(own_key.is_in(keys))


def _known_then(records: Any, as_of: object) -> nw.LazyFrame[Any]:
    """Narrow the records down to what is looked at, with `_now` and a column for each flag."""
    frame = rules.lazy(records, quality_rules.NEEDED)
    names = frame.collect_schema().names()
    now = nw.col("fetched_at")
    if "state" in names:
        # Refuses an as_of of its own for records that have one.
        classify(records, as_of=as_of)
        now = nw.col("as_of")
    elif as_of is not None:
        limit = nw.lit(arguments.instant(as_of, "as_of").to_pydatetime())
        now = nw.when(now < limit).then(now).otherwise(limit)
    told = [name for name in ("source",) if name in names]
    frame = frame.select(*quality_rules.NEEDED, *told, _now=now)
    later = rules.later(nw.col("_now"))
    # To copy a million rows of pandas to leave out none takes longer than all the rest.
    if (
        quality_rules.in_pandas(frame) is None
        or rules.collect(frame.select(later.any())).iloc[0].any()
    ):
        frame = frame.filter(~later)
    return quality_rules.with_duplicate(frame).with_columns(**quality_rules.record_flags())


def _counts(
    frame: nw.LazyFrame[Any], attrs: Mapping[str, Any], tz: str
) -> tuple[Context, dict[str, int]]:
    names = ["duplicate_id", *quality_rules.record_flags()]
    row = rules.collect(
        frame.select(
            _n=nw.len(),
            _first=nw.col("create_time").min(),
            _last=nw.col("create_time").max(),
            _as_of=nw.col("_now").max(),
            **{name: nw.col(name).cast(nw.Int64).sum() for name in names},
        )
    ).iloc[0]
    known = dict(attrs.get(ATTRS, {}))
    if "source" in frame.collect_schema().names():
        sources = rules.collect(frame.select("source").unique())["source"].dropna()
        known |= {"source": " and ".join(sorted(sources))} if len(sources) else {}
    first, last, now = (
        row[name] if pd.notna(row[name]) else None for name in ("_first", "_last", "_as_of")
    )
    n_records = int(row["_n"])
    counts = {name: int(row[name]) if n_records else 0 for name in names}
    return Context(n_records, first, last, now, {}, known, tz), counts


def _coerced(records: Any) -> dict[str, tuple[int, int]]:
    try:
        told = ledger(records) if isinstance(records, pd.DataFrame) else None
    except InvalidParameterError:
        told = None
    return (
        {} if told is None else {"coerced": (int(told["coerced"].sum()), int(told["rows"].sum()))}
    )


def _device_rules(
    frame: nw.LazyFrame[Any],
    devices: Any,
    now: pd.Timestamp | None,
    found: dict[str, tuple[int, int]],
    ids: dict[str, list[str]],
) -> dict[str, set[_Device]]:
    """Count what is wrong with devices, and give those behind each rule."""
    used = quality_rules.distinct_devices(frame)
    seen = _keys(used)
    behind: dict[str, set[_Device]] = {}
    if devices is not None:
        listed = rules.collect(rules.lazy(devices, _BOUND).select(*_BOUND))
        used = pd.concat([used, listed[list(quality_rules.DEVICE)].astype(STRING)])
        bound_at = listed["device_create_time"]
        fetched = listed["fetched_at"]
        later = (bound_at > (fetched if now is None else now)) & (bound_at <= fetched)
        bound = _keys(listed[~later])
        behind["unbound_device"] = seen - _keys(listed)
        behind["silent_device"] = bound - seen
        found["unbound_device"] = len(behind["unbound_device"]), len(seen)
        found["silent_device"] = len(behind["silent_device"]), len(bound)
    _, behind["duplicate_name"], _ = _shared(used, "device_name")
    found["duplicate_name"] = len(behind["duplicate_name"]), len(_keys(used))
    for name, keys in behind.items():
        ids[name] = sorted({device for _, device in keys})
    codes, behind["rebound_device"], n_codes = _shared(used, "machine_code")
    found["rebound_device"] = len(codes), n_codes
    ids["rebound_device"] = sorted({code for _, code in codes})
    return behind | {"silent_device": set()}


def _keys(devices: pd.DataFrame, column: str = "device_id") -> set[_Device]:
    users, values = (
        devices[name].fillna("").to_numpy(dtype=object) for name in ("user_id", column)
    )
    return set(zip(users, values, strict=True))


def _shared(devices: pd.DataFrame, column: str) -> tuple[set[_Device], set[_Device], int]:
    """Find what several devices of a user have in common.

    Gives these values, each with its user; the devices that have them; and how many values there
    are in all. Blank ones are none.
    """
    having = devices.assign(_value=devices[column].str.strip())
    having = having[having["_value"].fillna("") != ""]
    having = having.drop_duplicates(["user_id", "_value", "device_id"])
    several = having[having.duplicated(["user_id", "_value"], keep=False)]
    return _keys(several, "_value"), _keys(several), len(_keys(having, "_value"))


def _remembered(keys: Collection[_Device]) -> str | None:
    return json.dumps(sorted(keys)) if len(keys) <= MAX_DEVICES_BEHIND else None


def _table(found: Mapping[str, tuple[int, int]], ids: Mapping[str, list[str]]) -> pd.DataFrame:
    names = [rule.name for rule in quality_rules.RULES]
    n, of = (
        pd.array([found[name][side] if name in found else None for name in names], dtype="Int64")
        for side in (0, 1)
    )
    examples = [", ".join(ids.get(name, [])[:_N_EXAMPLES]) or None for name in names]
    severities = [rule.severity for rule in quality_rules.RULES]
    counted, looked_at = (
        pd.Series(column.to_numpy("float64", na_value=math.nan)) for column in (n, of)
    )
    return pd.DataFrame(
        {
            "rule": pd.array(names, dtype=STRING),
            "severity": pd.Categorical(severities, dtype=categories(quality_rules.SEVERITIES)),
            "n": n,
            "of": of,
            # Values among rows are no share of them.
            "share": (counted / looked_at).mask(pd.Series(names) == "coerced"),
            "what": pd.array([rule.what for rule in quality_rules.RULES], dtype=STRING),
            "example_ids": pd.array(examples, dtype=STRING),
        }
    )
