"""The records behind a row of a table, so that no number has to be believed."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import narwhals as nw
import pandas as pd

from koodrive_nb.analysis import (
    activities,
    adherences,
    breakdowns,
    changes,
    concentrations,
    duration_tables,
    exposures,
    jobs,
    loads,
    protection,
    quality,
    rules,
    states,
    unusual_days,
)
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Behind = Callable[[nw.LazyFrame[Any], Mapping[str, Any], Mapping[str, Any]], nw.LazyFrame[Any]]

_TABLES: Mapping[str, Behind] = {
    "activity": activities.records_behind,
    "adherence": adherences.records_behind,
    "anomalies": unusual_days.records_behind,
    "concentration": concentrations.records_behind,
    "data_quality": quality.records_behind,
    "deletion_backlog": breakdowns.records_behind,
    "explain_change": changes.records_behind,
    "durations": duration_tables.records_behind,
    "load": loads.records_behind,
    "protection_status": protection.records_behind,
    "status_breakdown": breakdowns.records_behind,
    "timeline": jobs.records_behind,
}


def rows(
    records: Any, table: pd.DataFrame, position: int, *, devices: Any = None, configs: Any = None
) -> Any:
    """Give the records behind the row at a position of a table, as many as its `n` says.

    `records` are those that the table was made of, of any engine, and come back classified, in the
    same kind of frame. Of a table of devices by age (`exposure`) the devices come back instead, as
    `protection_status` has them; it needs the same `devices` and `configs` once more.

    Raises:
        InvalidParameterError: The table no longer says how it was made, since pandas drops that
            when tables are joined, or its rows are not made of single records.
    """
    made = getattr(table, "attrs", {}).get(ATTRS, {}).get("made")
    known = [*_TABLES, "exposure"]
    if not isinstance(table, pd.DataFrame) or not made or made["table"] not in known:
        raise InvalidParameterError(
            f"rows() takes records, a table that kd.analysis made ({', '.join(known)}) and that "
            "still says how, and the position of one of its rows, as in rows(records, table, 0)."
        )
    # Positions that pandas gives, such as those of argmax, are whole numbers of another kind.
    is_place = hasattr(position, "__index__") and not isinstance(position, bool | str)
    if not is_place or not -len(table) <= position < len(table):
        raise InvalidParameterError(
            f"The table has {len(table):,} rows: pass the position of one, from 0."
        )
    row = {str(name): value for name, value in table.iloc[position].items()}
    if made["table"] == "exposure":
        return exposures.devices_behind(records, devices, configs, row, made)
    options = {name: made[name] for name in ("as_of", "stuck_after")}
    classified = records if rules.is_classified(records) else states.classify(records, **options)
    frame = rules.lazy(rules.spelled(classified, made.get("by", [])), ())
    names = frame.collect_schema().names()
    behind = _TABLES[made["table"]](frame, row, made).select(*names)
    if isinstance(nw.from_native(classified), nw.LazyFrame):
        return behind.to_native()
    result: Any = behind.collect(frame.implementation).to_native()
    if isinstance(result, pd.DataFrame):
        result = result.reset_index(drop=True)
        result.attrs = deepcopy(classified.attrs)
    return result
