"""What becomes of each record from snapshot to snapshot, which the API cannot tell.

A change is never seen, only that it lies between two looks at the user it belongs to: it is known
up to an interval, open at its begin and closed at its end.

Source: interval-censored observation (Turnbull 1976, J. R. Stat. Soc. B 38, 290-295).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import narwhals as nw

from koodrive_nb.columns import STATUSES

if TYPE_CHECKING:
    from collections.abc import Sequence

KEYS = ("user_id", "record_id")
RECORDS = (*KEYS, "module", "device_id", "create_time", "end_time", "status_code", "fetched_at")
USERS = ("user_id", "outcome", "fetched_at")
_NEW, _COMPLETED, _TO_BE_DELETED = STATUSES
COLUMNS = (
    *("user_id", "record_id", "module", "device_id", "create_time", "end_time"),
    *("first_seen", "last_seen", "snapshots", "new_until", "completed_by"),
    *("to_be_deleted_after", "to_be_deleted_by", "disappeared_after", "disappeared_by"),
)


def of_records(
    records: Sequence[nw.LazyFrame[Any]], users: Sequence[nw.LazyFrame[Any]]
) -> nw.LazyFrame[Any]:
    """Give the life of each record, from the records and users of each snapshot, the oldest first.

    The columns are `COLUMNS`, as `Snapshots.history` explains them.
    """
    status, seen = nw.col("status_code"), nw.col("fetched_at")
    # What is unknown counts as not waiting for deletion.
    is_deleting = (status == _TO_BE_DELETED).fill_null(value=False)
    rows = _numbered(records, RECORDS).with_columns(
        _new=nw.when(status == _NEW).then(seen),
        _completed=nw.when(status == _COMPLETED).then(seen),
        _kept=nw.when(~is_deleting).then(seen),
        _deleting=nw.when(is_deleting).then(seen),
    )
    found = rows.group_by(*KEYS).agg(
        nw.col("module").max(),
        nw.col("device_id").max(),
        nw.col("create_time").min(),
        nw.col("end_time").max(),
        first_seen=seen.min(),
        last_seen=seen.max(),
        snapshots=nw.len(),
        _last=nw.col("_n").max(),
        _new=nw.col("_new").max(),
        completed_by=nw.col("_completed").min(),
        _kept=nw.col("_kept").max(),
        to_be_deleted_by=nw.col("_deleting").min(),
    )
    looks = _next_looks(_numbered(users, USERS))
    gone = found.join(looks, how="left", left_on=["user_id", "_last"], right_on=["_user", "_n"])
    looked, first, last = nw.col("disappeared_by"), nw.col("first_seen"), nw.col("last_seen")
    return gone.with_columns(
        snapshots=nw.col("snapshots").cast(nw.Int64),
        new_until=_until("_new", "completed_by", first),
        to_be_deleted_after=nw.when(~nw.col("to_be_deleted_by").is_null()).then(
            _until("_kept", "to_be_deleted_by", first)
        ),
        disappeared_after=nw.when(~looked.is_null()).then(last),
    ).select(*COLUMNS)


def _until(last: str, by: str, first: nw.Expr) -> nw.Expr:
    """Give when a record was last seen before a change; one that went back was, at first."""
    before, change = nw.col(last), nw.col(by)
    return (
        nw.when(change.is_null() | (before < change))
        .then(before)
        .when(~before.is_null() & (first < change))
        .then(first)
    )


def _numbered(frames: Sequence[nw.LazyFrame[Any]], names: Sequence[str]) -> nw.LazyFrame[Any]:
    """Put frames of snapshots together, with the place of each in `_n`."""
    return nw.concat(
        [frame.select(*names).with_columns(_n=nw.lit(n)) for n, frame in enumerate(frames)]
    )


def _next_looks(users: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Tell for each user and snapshot when all of the user was seen next, if ever.

    Columns: `_user`, `_n`, `disappeared_by`. A user who failed or was not asked in a snapshot was
    not looked at there, so nothing of theirs is gone.
    """
    counted = users.with_columns(
        _is_whole=(nw.col("outcome") == "complete").cast(nw.Int64)
    ).with_columns(_looks=nw.col("_is_whole").cum_sum().over("user_id", order_by="_n"))
    numbered = counted.select(
        "_n", "_is_whole", "fetched_at", _user="user_id", _looks=nw.col("_looks").cast(nw.Int64)
    )
    whole = numbered.filter(nw.col("_is_whole") == 1).select(
        "_user", _looks=nw.col("_looks") - 1, disappeared_by="fetched_at"
    )
    return numbered.join(whole, how="left", on=["_user", "_looks"]).select(
        "_user", "_n", "disappeared_by"
    )
