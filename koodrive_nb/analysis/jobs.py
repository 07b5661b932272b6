"""When each device backed up, and where a backup is missing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import narwhals as nw
import pandas as pd

from koodrive_nb import settings
from koodrive_nb.analysis import arguments, rules
from koodrive_nb.analysis.activities import per_bin
from koodrive_nb.analysis.lanes import choose, drawable, find_gaps, find_lanes, place
from koodrive_nb.analysis.states import prepared
from koodrive_nb.analysis.zones import check_session
from koodrive_nb.columns import STRING, TIME, UNKNOWN, categories
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from koodrive_nb.analysis.arguments import Duration, StuckAfter

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
_NEEDED = ("record_id", "module_code", "device_create_time")
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
    "shown_until",
    "duration_s",
)


@dataclass(frozen=True, slots=True)
class _Window:
    since: pd.Timestamp | None
    until: pd.Timestamp | None


def timeline(  # noqa: PLR0913 -- each is a question of its own, and keyword-only
    records: Any,
    *,
    devices: Any = None,
    since: object = "14D",
    until: object = None,
    gap_after: Duration = "7D",
    form: str = "auto",
    max_lanes: int = 30,
    max_marks: int = 800,
    as_of: object = None,
    tz: str | None = None,
    stuck_after: StuckAfter = "auto",
) -> pd.DataFrame:
    """Lay the backups of each device out in time, with the gaps where one is missing.

    In the form "lanes", one row per mark: `lane` (0 is the device longest without a newer
    completed backup), `user_id`, `device_id`, `device_label`, `kind`, `module`, `state`,
    `stuck_reason`, `record_id`, `create_time`, `end_time`, `shown_until` (the end; while it is open
    the record's "now", or the start of the record that superseded it) and `duration_s`. A row of
    kind gap covers a stretch longer than `gap_after` in which the device completed no backup, from
    its binding on where that is known; waiting is a device of `devices` with no backup yet that was
    bound more recently than that.

    In the form "flow", for more than 1 000 devices, one row per bin of time, with the columns of
    `activity`: `bin_start`, `created`, `ended`, `presumed_stuck`, `open` at its end and so on.

    `since` (an instant, or a duration before `until` or "now"; None: everything) and `until` (not
    included) bound the window, in `tz` where they name no zone; a backup counts when any part of it
    lies inside. Lanes above `max_lanes` are left out, those first that have no record in the
    window, and the window starts later where more than `max_marks` backups would be shown; both are
    told in `attrs`, which the chart prints.

    Raises:
        InvalidParameterError: Columns are missing, or an argument is not what this takes.
    """
    if form not in FORMS:
        raise InvalidParameterError(f"form= takes {', '.join(FORMS)}, not {form!r}.")
    arguments.whole(max_lanes, "max_lanes", 100)
    arguments.whole(max_marks, "max_marks", 10_000)
    zone = settings.display_zone(tz)
    gap = arguments.duration(gap_after, "gap_after")
    frame, context = prepared(records, _NEEDED, zone.key, as_of, stuck_after)
    window = _Window(*arguments.window(since, until, zone.key, context.as_of))
    lanes = find_lanes(frame, devices, as_of)
    if context.as_of is None and lanes["as_of"].notna().any():
        context = replace(context, as_of=lanes["as_of"].max())
    facts: dict[str, Any] = {
        "n_devices": int(lanes["device_id"].notna().sum()),
        "n_undated": int(lanes["undated"].sum()),
        "n_later": int(lanes["later"].sum()),
        "gap_after_s": gap.total_seconds(),
        "since": None if window.since is None else window.since.isoformat(),
        "until": None if window.until is None else window.until.isoformat(),
        "made": {
            "table": "timeline",
            **arguments.plain(as_of=as_of, tz=zone.key, stuck_after=stuck_after),
        },
    }
    is_fleet = form == "auto" and len(lanes) > _LANES_UP_TO_DEVICES
    if form == "flow" or is_fleet:
        check_session(records)
        table, bins = per_bin(frame, context, (window.since, window.until))
        table.attrs[ATTRS] = context.as_attrs(form="flow", **(facts | bins))
        return table
    table, left_out = _marks(frame, lanes, window, gap, (max_lanes, max_marks))
    table.attrs[ATTRS] = context.as_attrs(form="lanes", **facts, **left_out)
    return table


def _inside(frame: nw.LazyFrame[Any], window: _Window) -> nw.LazyFrame[Any]:
    if window.since is not None:
        frame = frame.filter(nw.col("shown_until") >= nw.lit(window.since.to_pydatetime()))
    if window.until is not None:
        frame = frame.filter(nw.col("create_time") < nw.lit(window.until.to_pydatetime()))
    return frame


def _marks(
    frame: nw.LazyFrame[Any],
    lanes: pd.DataFrame,
    window: _Window,
    gap: pd.Timedelta,
    limits: tuple[int, int],
) -> tuple[pd.DataFrame, dict[str, object]]:
    max_lanes, max_marks = limits
    chosen = choose(lanes, max_lanes, window.since)
    chosen["lane"] = chosen.index
    on_lanes = _with_shown_until(drawable(frame, chosen))
    inside = _inside(on_lanes, window)
    n_inside = int(rules.collect(inside.select(n=nw.len()))["n"].iloc[0])
    shown = _backups(inside, chosen, max_marks)
    cut = shown["create_time"].min() if n_inside > len(shown) else None
    start = cut if cut is not None else window.since
    gaps = find_gaps(on_lanes, chosen, gap)
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


def _backups(inside: nw.LazyFrame[Any], chosen: pd.DataFrame, at_most: int) -> pd.DataFrame:
    newest = inside.select(*_BACKUP_COLUMNS).sort("create_time", "record_id", descending=True)
    table = place(rules.collect(newest.head(at_most)), chosen)
    table["kind"] = "backup"
    table["module"] = table["module"].where(table["module"].isin(rules.MODULE_LABELS), UNKNOWN)
    return table


def _with_shown_until(frame: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Add until when a record is drawn; before any window, which must not change it."""
    created, end, state = nw.col("create_time"), nw.col("end_time"), nw.col("state")
    device = ("user_id", "device_id", "module_code")
    frame = frame.with_columns(_next=created.shift(-1).over(*device, order_by="create_time"))
    until = (
        nw.when(end > created)
        .then(end)
        .when(~end.is_null())
        # An end before its beginning is drawn as an instant; the table keeps both as they came.
        .then(created)
        .when(nw.col("stuck_reason") == "superseded")
        # A filter may have taken away the record that superseded it.
        .then(nw.coalesce(nw.col("_next"), created))
        .when(state.is_in(["in_progress", "stuck"]))
        .then(nw.col("as_of"))
        .otherwise(created)
    )
    return frame.with_columns(shown_until=until)


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    return table.reindex(columns=list(_COLUMNS)).astype(dict(_COLUMNS))


def records_behind(
    frame: nw.LazyFrame[Any], row: Mapping[str, Any], made: Mapping[str, Any]
) -> nw.LazyFrame[Any]:
    """Give the classified record that a mark of `timeline` stands for; a gap stands for none.

    Raises:
        InvalidParameterError: The table counts over time.
    """
    if "record_id" not in row:
        raise InvalidParameterError(
            "These are counts over time: make them by kd.analysis.activity() to see their records."
        )
    del made
    is_mark = row["kind"] == "backup"
    return frame.filter(
        rules.same("user_id", row["user_id"]),
        nw.col("record_id") == (row["record_id"] if is_mark else ""),
    )
