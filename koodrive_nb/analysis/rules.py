"""The words and limits that every table and figure shares: states, stuck limits, context."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import narwhals as nw
import pandas as pd
import pyarrow as pa

from koodrive_nb.analysis.arguments import duration
from koodrive_nb.columns import MODULES, STRING, TIME, UNKNOWN, columns
from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from koodrive_nb.analysis.arguments import StuckAfter

STATES = ("completed", "in_progress", "stuck", "to_be_deleted", "unknown")
STUCK_REASONS = ("superseded", "age")
PROTECTION = (
    *("never", "deleting", "outdated", "late"),
    *("warning", "protected", "initial_pending", "unbound"),
)
"""What protection a device has, the worst first; the last two are not judged."""
CAUSES = ("attempts_stuck", "no_attempt", "never_attempted", "only_deleted_copies", "new")
OS_FAMILIES = ("android", "harmonyos", "ios", "windows", "macos", "linux", "other", "unknown")
MODULE_LABELS = (*MODULES.values(), UNKNOWN)

_PANDAS = dict.fromkeys((pa.string(), pa.large_string(), pa.string_view()), STRING) | {
    pa.int64(): pd.Int64Dtype()
}
_KINDS = {column.name: column.kind for column in columns("records")}
_AT_LEAST = pd.Timedelta("1h")
_AT_MOST = pd.Timedelta("7D")
_FEW_COMPLETED = pd.Timedelta("24h")
_ENOUGH_COMPLETED = 30
_TIMES_P99 = 3
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def lazy(records: Any, needed: Iterable[str], kind: str = "records") -> nw.LazyFrame[Any]:
    """Wrap a frame of any engine, once its columns are known to be there.

    `kind` is what the client calls them, for the errors.

    Raises:
        InvalidParameterError: It is no frame, or columns are missing or have lost their type.
    """
    if isinstance(records, pd.DataFrame) and set(records.index.names) & set(records.columns):
        # pandas would not know which of two things of one name is meant.
        records = records.reset_index(drop=True)
    if isinstance(records, pd.DataFrame) and records.attrs:
        # pandas copies attrs deeply with every step, hundreds of times for a table.
        records = records.copy(deep=False)
        records.attrs = {}
    if isinstance(records, pd.DataFrame) and not records.columns.is_unique:
        twice = records.columns[records.columns.duplicated()].unique()
        raise InvalidParameterError(
            f"The frame has several columns of the name {twice[0]!r}: drop or rename them."
        )
    try:
        frame: Any = nw.from_native(records)
    except TypeError:
        raise InvalidParameterError(
            f"Pass {kind} as a pandas, Polars, DuckDB or Spark frame, not "
            f"{type(records).__name__}: client.{kind}() gives one."
        ) from None
    schema = frame.collect_schema()
    if "snapshot" in schema:
        raise InvalidParameterError(
            "The frame has a column snapshot, where one record comes once for each of them and "
            "would count as often: choose one snapshot, and drop the column."
        )
    needed = list(needed)
    missing = [name for name in needed if name not in schema]
    if missing:
        classified = " or kd.analysis.classify()" if kind == "records" else ""
        raise InvalidParameterError(
            f"The frame lacks the column(s) {', '.join(missing)}: pass what client.{kind}()"
            f"{classified} returned, with all its columns."
        )
    unfit = [name for name in needed if not _fits(name, schema[name])]
    if unfit:
        raise InvalidParameterError(
            f"The column(s) {', '.join(unfit)} have lost their type: times must carry a zone and "
            f'ids must be text, as in kd.schema("{kind}"). Was the frame read back from CSV?'
        )
    wrapped: nw.LazyFrame[Any] = frame.lazy()
    return wrapped


def is_classified(records: Any) -> bool:
    """Tell whether records have their state already."""
    return "state" in lazy(records, ()).collect_schema().names()


def _fits(name: str, dtype: nw.dtypes.DType) -> bool:
    kind = _KINDS.get(name)
    if kind == "time":
        return isinstance(dtype, nw.Datetime) and dtype.time_zone is not None
    return not (kind == "string" and dtype.is_numeric())


def coded(frame: nw.LazyFrame[Any], *names: str) -> nw.LazyFrame[Any]:
    """Give text that is grouped by a number each: pandas would read it again for each aggregate."""
    if not frame.implementation.is_pandas():
        return frame
    native: pd.DataFrame = frame.collect().to_native()
    coded: dict[str, Any] = {}
    for name in names:
        if isinstance(native[name].dtype, pd.StringDtype):
            codes, texts = pd.factorize(native[name])
            coded[name] = pd.Categorical.from_codes(codes, categories=texts)
    return nw.from_native(native.assign(**coded)).lazy()


def later(now: nw.Expr) -> nw.Expr:
    """Tell what a past "now" could not know yet; a wrong clock's future stays in sight."""
    created = nw.col("create_time")
    return ((created > now) & (created <= nw.col("fetched_at"))).fill_null(value=False)


def same(column: str, value: Any) -> nw.Expr:
    """Tell where a column has a value; missing is the same as missing."""
    return nw.col(column).is_null() if pd.isna(value) else nw.col(column) == value


def spelled(records: Any, keys: Iterable[str]) -> Any:
    """Write intervals, as pd.cut makes them, and periods as text: no other engine has them."""
    if not isinstance(records, pd.DataFrame):
        return records
    kinds = {key: records[key].dtype for key in keys if key in records.columns}
    odd = {
        key: str
        for key, kind in kinds.items()
        if isinstance(getattr(kind, "categories", pd.Index([])).dtype, pd.IntervalDtype)
        or isinstance(kind, pd.IntervalDtype | pd.PeriodDtype)
    }
    return records.astype(odd) if odd else records


def collect(frame: nw.LazyFrame[Any]) -> pd.DataFrame:
    """Bring a small result into pandas, with the same types from every engine, instants in UTC."""
    # By way of Arrow without pandas' own notes: what each engine would make of them differs.
    plain = frame.collect("pyarrow").to_native().replace_schema_metadata(None)
    fields = [
        field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field
        for field in plain.schema
    ]
    table: pd.DataFrame = plain.cast(pa.schema(fields)).to_pandas(types_mapper=_PANDAS.get)
    for name, dtype in table.dtypes.items():
        if isinstance(dtype, pd.DatetimeTZDtype):
            table[name] = table[name].dt.tz_convert("UTC").astype(TIME)
    return table


def stuck_limits(durations: pd.DataFrame, stuck_after: StuckAfter) -> dict[str, float]:
    """Give for each module the seconds after which an open backup counts as stuck.

    "auto": three times the 99th percentile of the module's completed durations, at least an hour
    and at most a week; 24 hours below 30 of them (`durations` has `module`, `n_finished`, `p99_s`).

    Raises:
        InvalidParameterError: `stuck_after` is no duration, or names an unknown module.
    """
    if not isinstance(stuck_after, Mapping) and stuck_after != "auto":
        limit = duration(stuck_after, "stuck_after")
        return dict.fromkeys(MODULE_LABELS, limit.total_seconds())
    limits = dict.fromkeys(MODULE_LABELS, _FEW_COMPLETED.total_seconds())
    for module, n, p99_s in zip(
        durations["module"], durations["n_finished"], durations["p99_s"], strict=True
    ):
        if n >= _ENOUGH_COMPLETED:
            limit_s = max(_AT_LEAST.total_seconds(), _TIMES_P99 * float(p99_s))
            # A device whose clock is wrong by years must not switch the rule off for all others.
            limits[str(module)] = min(_AT_MOST.total_seconds(), limit_s)
    for module, value in stuck_after.items() if isinstance(stuck_after, Mapping) else ():
        if module not in MODULE_LABELS:
            raise InvalidParameterError(
                f"stuck_after= names {module!r}, which is no module: "
                f"choose among {', '.join(MODULE_LABELS)}."
            )
        limits[module] = duration(value, f"stuck_after[{module!r}]").total_seconds()
    return limits


def stuck_rule(limits_s: Mapping[str, float]) -> str:
    """Say in one line when an open backup counts as stuck."""
    by_length: dict[float, list[str]] = {}
    for module, limit in limits_s.items():
        by_length.setdefault(limit, []).append(word(module))
    lengths = ", ".join(
        f"{span(limit)} ({', '.join(modules)})" for limit, modules in sorted(by_length.items())
    )
    older = f", or open for more than {lengths}" if lengths else ""
    return f"Stuck = open, with a later backup of the same device and module{older}"


def span(seconds: float) -> str:
    """Write a duration in one or two units, such as "4 min 12 s"."""
    if not math.isfinite(seconds):
        return "unknown"
    whole = int(abs(seconds))
    sign = "-" if seconds < 0 and whole else ""
    if whole < _MINUTE:
        return f"{seconds:.1f}".rstrip("0").rstrip(".") + " s"
    for unit, size, next_unit, next_size in (
        ("d", _DAY, "h", _HOUR),
        ("h", _HOUR, "min", _MINUTE),
        ("min", _MINUTE, "s", 1),
    ):
        if whole >= size:
            rest = whole % size // next_size
            more = f" {rest} {next_unit}" if rest else ""
            return f"{sign}{whole // size} {unit}{more}"
    raise AssertionError  # pragma: no cover -- a minute is at least a minute


def word(identifier: str) -> str:
    """Write an identifier as words: to_be_deleted -> to be deleted."""
    return identifier.replace("_", " ")
