"""Which records are seen together with all others of their time, whatever was purged before.

The service drops old copies, and leaves what was abandoned. Of an old day it so shows too few
backups, and a share of stuck ones that is too high.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import narwhals as nw

from koodrive_nb.analysis import groups, holdings, rules
from koodrive_nb.analysis.zones import epoch_ms
from koodrive_nb.columns import MODULES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

NEEDED = ("user_id", "device_id", "module_code", "create_time", "end_time", "as_of", "state")
_LANE = ("_user", "_device", "_code")
_NEVER = -(2**62)
MOST = 0.9
"""From when on so many lanes are complete, shares count. Where copies are purged by their number,
long histories are those of devices that fail."""


def was_completed() -> nw.Expr:
    """Tell copies that wait for deletion by now."""
    return (nw.col("state") == "to_be_deleted") & ~nw.col("end_time").is_null()


def is_copy() -> nw.Expr:
    """Tell what completed, what waits for deletion by now included."""
    return (nw.col("state") == "completed") | was_completed()


def is_failed() -> nw.Expr:
    """Tell what came to an end without completing, as far as can be inferred."""
    abandoned = (nw.col("state") == "to_be_deleted") & nw.col("end_time").is_null()
    return (nw.col("state") == "stuck") | abandoned


def with_oldest(frame: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Add `_ms`, the creation, and `_oldest`, that of the oldest copy left of the lane it is in.

    A lane is a module of a device. `_oldest` lies before all records where no copy of the lane
    waits for deletion: nothing shows that any was purged.
    """
    lanes = {
        "_user": nw.col("user_id"),
        # Records that name no device are a lane of their user.
        "_device": nw.col("device_id").fill_null(""),
        "_code": nw.col("module_code").fill_null(""),
    }
    frame = frame.with_columns(**lanes, _ms=epoch_ms(frame, "create_time"))
    frame = rules.coded(frame, *_LANE)
    known = nw.col("create_time") <= nw.col("as_of")
    frame = frame.with_columns(
        _copy=nw.when(is_copy() & known).then(nw.col("_ms")),
        _waits=was_completed().fill_null(value=False).cast(nw.Int64),
    )
    frame = frame.with_columns(
        _oldest=nw.col("_copy").min().over(*_LANE), _waits=nw.col("_waits").max().over(*_LANE)
    )
    oldest = nw.when(nw.col("_waits") > 0).then(nw.col("_oldest"))
    return frame.with_columns(_oldest=oldest.otherwise(nw.lit(_NEVER)).fill_null(_NEVER))


def is_whole(since_ms: int | None = None) -> nw.Expr:
    """Tell records that are younger than the oldest copy left of their lane, after `with_oldest`.

    That copy itself is there because it completed, and would make shares too good. With
    `since_ms`, only those of lanes that are whole since that instant.
    """
    whole = nw.col("_ms") > nw.col("_oldest")
    return whole if since_ms is None else whole & (nw.col("_oldest") < since_ms)


def complete_from(
    frame: nw.LazyFrame[Any], keys: Sequence[str], share: float
) -> tuple[pd.DataFrame, list[pd.Timestamp | None]]:
    """Give each group of records, and from when on that share of its lanes is complete.

    What was abandoned stays, so that only copies tell how far back nothing is missing.
    """
    device = ("user_id", "device_id", "_code")
    asked = [*dict.fromkeys((*device, *keys))]
    # What is filtered is copied, and text takes longest.
    told = frame.select(*dict.fromkeys((*NEEDED, *keys))).with_columns(
        # A device that invents modules would be as many as it likes.
        _code=nw.when(nw.col("module_code").is_in([*MODULES])).then(nw.col("module_code"))
    )
    marked = told.filter(~nw.col("device_id").is_null(), nw.col("create_time") <= nw.col("as_of"))
    marked = marked.with_columns(
        _copy=nw.when(is_copy()).then(nw.col("create_time")),
        _waits=was_completed().cast(nw.Int64),
    ).select(*asked, "_copy", "_waits")
    lanes = rules.collect(
        rules.coded(marked, *asked)
        .group_by(*asked)
        .agg(oldest_copy=nw.col("_copy").min(), n_deleting=nw.col("_waits").sum())
    )
    code, found = groups.numbered(lanes, keys)
    edges: list[pd.Timestamp | None] = [
        holdings.complete_from(lanes[code == place], share) for place in range(len(found))
    ]
    return found, edges
