"""When each device backed up, and where a backup is missing."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import narwhals as nw
import pandas as pd

from koodrive_nb import settings
from koodrive_nb.analysis import flows, rules
from koodrive_nb.analysis.states import classify
from koodrive_nb.columns import STRING, TIME, UNKNOWN, categories
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KINDS = ("backup", "gap", "waiting")
FORMS = ("auto", "lanes", "flow")
_LANES_UP_TO_DEVICES = 1_000

_COLUMNS: Mapping[str, Any] = {
    "lane": "int64",
    "user_id": STRING,
    "device_id": STRING,
    "device_label": STRING,
    "kind": categories(KINDS),
    "module": categories(rules.MODULE_LABELS),
    "state": categories(rules.STATES),
    "stuck_reason": categories(rules.STUCK_REASONS),
    "record_id": STRING,
    "create_time": TIME,
    "end_time": TIME,
    "shown_until": TIME,
    "duration_s": "float64",
}
_BACKUP_COLUMNS = (
    "user_id",
    "device_id",
    "device_label",
    "module",
    "state",
    "stuck_reason",
    "record_id",
    "create_time",
    "end_time",
    "duration_s",
    "as_of",
)


@dataclass(frozen=True, slots=True)
class _Window:
    since: pd.Timestamp | None
    until: pd.Timestamp | None


def timeline(  # noqa: PLR0913 -- each is a question of its own, and keyword-only
    records: Any,
    *,
    devices: Any = None,
    since: object = None,
    until: object = None,
    gap_after: rules.Duration = "7D",
    form: str = "auto",
    max_lanes: int = 30,
    max_marks: int = 800,
    as_of: object = None,
    tz: str | None = None,
    stuck_after: str | rules.Duration | Mapping[str, rules.Duration] = "auto",
) -> pd.DataFrame:
    """Lay the backups of each device out in time, with the gaps where one is missing.

    In the form "lanes", one row per mark: `lane` (0 is the device longest without a newer
    completed backup), `user_id`, `device_id`, `device_label`, `kind`, `module`, `state`,
    `stuck_reason`, `record_id`, `create_time`, `end_time`, `shown_until` (the end; while it is open
    the record's "now", or the start of the record that superseded it) and `duration_s`. A row of
    kind gap covers a stretch longer than `gap_after` in which the device completed no backup, from
    its binding on where that is known; waiting is a device of `devices` with no backup yet that was
    bound more recently than that.

    In the form "flow", for more than 1 000 devices, one row per local day (week above 370 days,
    hour below 3): `bin_start`, `created`, `ended`, `presumed_stuck` and `open`, the backups under
    way at the end of the bin.

    `since` and `until` bound the window; a backup counts when any part of it lies inside. Lanes
    above `max_lanes` are left out, and the window starts later where more than `max_marks` backups
    would be shown; both are told in `attrs`, which the chart prints.

    Raises:
        InvalidParameterError: Columns are missing, or an argument is not what this takes.
    """
    if form not in FORMS:
        raise InvalidParameterError(f"form= takes {', '.join(FORMS)}, not {form!r}.")
    for name, value in (("max_lanes", max_lanes), ("max_marks", max_marks)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InvalidParameterError(f"{name}= takes a whole number from 1, not {value!r}.")
    zone = settings.display_zone(tz)
    window = _Window(
        None if since is None else rules.instant(since, "since", zone.key),
        None if until is None else rules.instant(until, "until", zone.key),
    )
    if window.since is not None and window.until is not None and window.since >= window.until:
        raise InvalidParameterError("since= must lie before until=.")
    gap = rules.duration(gap_after, "gap_after")
    frame = rules.lazy(classify(records, as_of=as_of, stuck_after=stuck_after), _BACKUP_COLUMNS)
    context = rules.stamp_context(frame, getattr(records, "attrs", {}), zone.key)
    lanes = _lanes(frame, devices, as_of)
    facts: dict[str, Any] = {
        "n_devices": int(lanes["device_id"].notna().sum()),
        "n_undated": int(lanes["undated"].sum()),
        "n_later": int(lanes["later"].sum()),
        "gap_after_s": gap.total_seconds(),
        "since": None if window.since is None else window.since.isoformat(),
        "until": None if window.until is None else window.until.isoformat(),
    }
    is_fleet = form == "auto" and len(lanes) > _LANES_UP_TO_DEVICES
    if form == "flow" or is_fleet:
        table = flows.flow(_inside(frame, window), context, zone, window.since, window.until)
        bins = {name: table.attrs[name] for name in ("bin", "cut_at")}
        table.attrs = {ATTRS: context.as_attrs(form="flow", **facts, **bins)}
        return table
    table, left_out = _marks(frame, lanes, window, gap, (max_lanes, max_marks))
    table.attrs[ATTRS] = context.as_attrs(form="lanes", **facts, **left_out)
    return table


def _inside(frame: nw.LazyFrame[Any], window: _Window) -> nw.LazyFrame[Any]:
    shown_until = nw.coalesce(nw.col("end_time"), nw.col("as_of"))
    if window.since is not None:
        frame = frame.filter(shown_until >= nw.lit(window.since.to_pydatetime()))
    if window.until is not None:
        frame = frame.filter(nw.col("create_time") < nw.lit(window.until.to_pydatetime()))
    return frame


def _lanes(frame: nw.LazyFrame[Any], devices: Any, as_of: object) -> pd.DataFrame:
    """Give one row per device, the one longest without a newer completed backup first."""
    created, completed = nw.col("create_time"), nw.col("state") == "completed"
    marked = frame.with_columns(
        _point=nw.when(completed & (created <= nw.col("as_of"))).then(created),
        _undated=created.is_null().cast(nw.Int64),
        _later=(created > nw.col("as_of")).fill_null(value=False).cast(nw.Int64),
    )
    lanes = rules.collect(
        marked.group_by("user_id", "device_id").agg(
            device_label=nw.col("device_label").max(),
            bound=nw.col("device_create_time").min(),
            first=created.min(),
            newest=nw.col("_point").max(),
            as_of=nw.col("as_of").max(),
            n=nw.len(),
            undated=nw.col("_undated").sum(),
            later=nw.col("_later").sum(),
        )
    )
    if devices is not None:
        lanes = _with_bound_devices(lanes, devices, as_of)
    lanes["exposed_since"] = lanes["newest"].fillna(lanes["bound"]).fillna(lanes["first"])
    lanes["unknown"] = lanes["device_id"].isna()
    return lanes.sort_values(
        ["unknown", "exposed_since", "user_id", "device_id"], kind="stable"
    ).reset_index(drop=True)


def _with_bound_devices(lanes: pd.DataFrame, devices: Any, as_of: object) -> pd.DataFrame:
    needed = ("user_id", "device_id", "device_name", "device_create_time", "fetched_at")
    bound = rules.collect(rules.lazy(devices, needed).select(*needed))
    if as_of is not None:
        limit = rules.instant(as_of, "as_of")
        bound["fetched_at"] = bound["fetched_at"].where(bound["fetched_at"] < limit, limit)
    name = bound["device_name"].astype("object").where(bound["device_name"].notna(), "")
    bound["device_label"] = [
        f"{str(text).strip() or '(no name)'} ·{str(identity)[-4:]}"
        for text, identity in zip(name, bound["device_id"], strict=True)
    ]
    bound = bound.rename(columns={"device_create_time": "bound_d", "fetched_at": "as_of_d"})
    keys = ["user_id", "device_id"]
    for table in (lanes, bound):
        table[keys] = table[keys].astype(STRING)
    columns = [*keys, "device_label", "bound_d", "as_of_d"]
    joined = lanes.merge(bound[columns], on=keys, how="outer", suffixes=("", "_d"))
    for column in ("device_label", "bound", "as_of"):
        joined[column] = joined[column].fillna(joined.pop(f"{column}_d"))
    counts = ["n", "undated", "later"]
    joined[counts] = joined[counts].fillna(0).astype("int64")
    return joined


def _marks(
    frame: nw.LazyFrame[Any],
    lanes: pd.DataFrame,
    window: _Window,
    gap: pd.Timedelta,
    limits: tuple[int, int],
) -> tuple[pd.DataFrame, dict[str, object]]:
    max_lanes, max_marks = limits
    chosen = lanes.head(max_lanes).reset_index(drop=True)
    chosen["lane"] = chosen.index
    on_lanes = _drawable(frame, chosen)
    inside = _inside(on_lanes, window)
    n_inside = int(rules.collect(inside.select(n=nw.len()))["n"].iloc[0])
    shown = _backups(inside, chosen, max_marks)
    cut = shown["create_time"].min() if n_inside > len(shown) else None
    start = cut if cut is not None else window.since
    gaps = _gaps(_points(on_lanes, chosen), chosen, gap)
    if start is not None:
        gaps = gaps[gaps["shown_until"] > start]
    if window.until is not None:
        gaps = gaps[gaps["create_time"] < window.until]
    # Typed before they are joined: pandas guesses at columns that are all missing.
    table = pd.concat([_typed(shown), _typed(gaps)])
    table = table.sort_values(["lane", "create_time", "record_id"], kind="stable")
    left_out: dict[str, object] = {
        "n_lanes": len(chosen),
        "n_lanes_left_out": len(lanes) - len(chosen),
        "n_marks": len(shown),
        "n_marks_left_out": n_inside - len(shown),
        "cut_at": None if cut is None else cut.isoformat(),
    }
    return table.reset_index(drop=True), left_out


def _drawable(frame: nw.LazyFrame[Any], chosen: pd.DataFrame) -> nw.LazyFrame[Any]:
    """Keep the records of the chosen devices that have a place in time, and none after "now"."""
    known = [str(identity) for identity in chosen["device_id"].dropna()]
    wanted = nw.col("device_id").is_in(known)
    if chosen["device_id"].isna().any():
        wanted = wanted | nw.col("device_id").is_null()
    return frame.filter(wanted, nw.col("create_time") <= nw.col("as_of"))


def _on_lanes(rows: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    keys = dict.fromkeys(("user_id", "device_id"), STRING)
    return rows.astype(keys).merge(chosen[[*keys, "lane"]].astype(keys), on=list(keys))


def _backups(inside: nw.LazyFrame[Any], chosen: pd.DataFrame, at_most: int) -> pd.DataFrame:
    newest = inside.select(*_BACKUP_COLUMNS).sort("create_time", "record_id", descending=True)
    table = _on_lanes(rules.collect(newest.head(at_most)), chosen)
    table = table.sort_values(["create_time", "record_id"], kind="stable")
    table["kind"] = "backup"
    table["module"] = table["module"].fillna(UNKNOWN)
    following = table.groupby(["lane", "module"], dropna=False)["create_time"].shift(-1)
    is_superseded = table["stuck_reason"].astype(STRING) == "superseded"
    end = table["end_time"].fillna(following.where(is_superseded.fillna(value=False)))
    # An end before its beginning is drawn as an instant; the table keeps both as they came.
    table["shown_until"] = end.fillna(table["as_of"]).clip(lower=table["create_time"])
    return table


def _points(on_lanes: nw.LazyFrame[Any], chosen: pd.DataFrame) -> pd.DataFrame:
    """Give when each lane had a backup completed, those included that wait for deletion by now."""
    had_copy = (nw.col("state") == "completed") | (
        (nw.col("state") == "to_be_deleted") & ~nw.col("end_time").is_null()
    )
    rows = on_lanes.filter(had_copy, ~nw.col("device_id").is_null())
    points = rules.collect(rows.select("user_id", "device_id", "create_time"))
    return _on_lanes(points, chosen).sort_values("create_time")


def _gaps(points: pd.DataFrame, chosen: pd.DataFrame, gap: pd.Timedelta) -> pd.DataFrame:
    """Find the stretches longer than `gap` in which a device completed nothing."""
    by_lane = {lane: list(times) for lane, times in points.groupby("lane")["create_time"]}
    # Of a device with an undated record nobody can say that nothing was completed.
    dated = chosen[chosen["device_id"].notna() & (chosen["undated"] == 0)]
    rows = []
    devices: Iterable[Any] = dated.itertuples()
    for device in devices:
        times = by_lane.get(device.lane, [])
        start = device.bound if pd.notna(device.bound) else device.first
        edges = [time for time in (start, *times, device.as_of) if pd.notna(time)]
        for begin, end in itertools.pairwise(edges):
            is_waiting = not times and device.n == 0 and end - begin <= gap
            if end - begin > gap or is_waiting:
                rows.append(
                    {
                        "lane": device.lane,
                        "user_id": device.user_id,
                        "device_id": device.device_id,
                        "device_label": device.device_label,
                        "kind": "waiting" if is_waiting else "gap",
                        "create_time": begin,
                        "end_time": pd.NaT if end is edges[-1] else end,
                        "shown_until": end,
                    }
                )
    names = ["lane", "user_id", "device_id", "device_label", "kind"]
    table = pd.DataFrame(rows, columns=[*names, "create_time", "end_time", "shown_until"])
    for name in ("create_time", "end_time", "shown_until"):
        table[name] = pd.to_datetime(table[name], utc=True).astype(TIME)
    return table


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    return table.reindex(columns=list(_COLUMNS)).astype(dict(_COLUMNS))
