"""Files of a snapshot, checked against its manifest, for pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import narwhals as nw
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from koodrive_nb import decode, privacy
from koodrive_nb.columns import ORDERS, STRING, TIME, columns
from koodrive_nb.errors import InvalidParameterError, SnapshotError
from koodrive_nb.snapshots import layouts, lives, manifests
from koodrive_nb.snapshots.locations import PREFIX
from koodrive_nb.snapshots.manifests import Snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from koodrive_nb.snapshots.locations import Location

_COUNTS = ("users", "partial", "failed", "devices", "records", "sampled_of")
_SHARED = (
    *("module", "status", "device_id", "device_name", "device_os", "machine_code"),
    *("device_source", "version", "module_code", "status_code", "source"),
)
"""The columns of records to count by: a time, or an id of one record, makes no groups."""
_OF_RECORDS = {column.name for column in columns("records")}
_MODULE = next(column.dtype for column in columns("records") if column.name == "module")


def published(place: Location, name: str) -> Snapshot | None:
    """Read the manifest of a snapshot; None where it has none yet.

    Raises:
        SnapshotError: The manifest is damaged, or of another version.
    """
    content = place.content(f"{PREFIX}{name}", manifests.NAME)
    if content is None:
        return None
    where = f"{PREFIX}{name}/{manifests.NAME} in {place.shown}"
    return Snapshot(name, manifests.read(content, where))


def listing(place: Location, names: Sequence[str]) -> pd.DataFrame:
    """Give the table of `Snapshots.list`.

    Raises:
        SnapshotError: A manifest is damaged, or of another version.
    """
    found = [each for name in names if (each := published(place, name))]
    facts = [each.manifest for each in found]
    sizes = [sum(file["bytes"] for file in each["files"].values()) for each in facts]

    def times(name: str) -> pd.Series[Any]:
        read = pd.to_datetime([each[name] for each in facts], utc=True, format="ISO8601")
        return pd.Series(read, dtype=TIME)

    return pd.DataFrame(
        {
            "snapshot": pd.Series([each.name for each in found], dtype=STRING),
            "began_at": times("began_at"),
            "ended_at": times("ended_at"),
            "source": pd.Series([each["source"] for each in facts], dtype=STRING),
            "complete": pd.Series([each["complete"] for each in facts], dtype=bool),
            **{name: pd.Series([each[name] for each in facts], dtype="Int64") for name in _COUNTS},
            "bytes": pd.Series(sizes, dtype="Int64"),
        }
    )


def files(place: Location, snapshot: Snapshot, dataset: str) -> list[str]:
    """Give the files of a dataset by their path below the folder, once all are as they should be.

    Raises:
        SnapshotError: One is missing, or has another size than it was written with.
    """
    folder = f"{PREFIX}{snapshot.name}"
    found = place.sizes(folder, dataset)
    wanted = [path for path in snapshot.manifest["files"] if path.startswith(f"{dataset}/")]
    for path in wanted:
        size, written = found.get(path.partition("/")[2]), snapshot.manifest["files"][path]["bytes"]
        if size != written:
            what = "is missing" if size is None else f"has {size:,} bytes, not {written:,}"
            raise _damaged(place, f"{folder}/{path}", what)
    return [f"{folder}/{path}" for path in sorted(wanted)]


def table(
    place: Location, snapshot: Snapshot, dataset: str, names: Sequence[str] | None = None
) -> pa.Table:
    """Read a dataset, all columns of this version or those named, in the order of the files.

    Raises:
        SnapshotError: A file is missing, cut or altered.
    """
    pieces = []
    for path in files(place, snapshot, dataset):
        stored = snapshot.manifest["files"][path.partition("/")[2]]
        if place.crc32(path) != stored["crc32"]:
            raise _damaged(place, path, "was altered")
        with (
            place.reading(path),
            pq.ParquetFile(
                place.path(path),
                filesystem=place.filesystem,
                pre_buffer=True,
                page_checksum_verification=True,
            ) as file,
        ):
            # Of those named, it may not know all.
            piece = file.read(columns=None if names is None else list(names))
        fitted = layouts.fitted(piece, dataset, names)
        if fitted is None or len(piece) != stored["rows"]:
            raise _damaged(place, path, "has other columns or rows than were written")
        pieces.append(fitted)
    return pa.concat_tables(pieces)


def in_time(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """Order snapshots by when they ended: one that was stopped may end after one that began later.

    Their names tell when they began.
    """
    return sorted(snapshots, key=lambda each: pd.Timestamp(each.manifest["ended_at"]))


def history(place: Location, snapshots: Sequence[Snapshot]) -> pd.DataFrame:
    """Give the lives of records, from files that are read column by column as they are needed.

    Raises:
        SnapshotError: A file is missing, cut or altered.
    """
    records, users = (
        [nw.from_native(_plain(place, each, dataset, names)).lazy() for each in in_time(snapshots)]
        for dataset, names in (("records", lives.RECORDS), ("users", lives.USERS))
    )
    found: pd.DataFrame = lives.of_records(records, users).collect().to_native()
    # Categories come as the text that they are stored as, which has a maximum.
    found = found.astype({"module": _MODULE})
    return found.sort_values(["user_id", "create_time", "record_id"], ignore_index=True)


def looks(
    place: Location, snapshots: Sequence[Snapshot], by: str
) -> list[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Give the name, the records and the users of each snapshot in time, as far as they count.

    Raises:
        InvalidParameterError: Neither records nor users have a column `by` to count by.
        SnapshotError: A file is missing, cut or altered.
    """
    of_users = None
    if not isinstance(by, str) or by not in _SHARED:
        of_users = by
        for each in snapshots:
            others = _others(place, each)
            # Where records have it as well, nobody would know which one is meant.
            if by not in others or by in _OF_RECORDS:
                raise InvalidParameterError(
                    f"by= takes a column that records share ({', '.join(_SHARED)}), or one of the "
                    f"list of users (of {each.name}: {', '.join(others) or 'none'}), not {by!r}."
                )
    names = [*dict.fromkeys([*lives.KEYS, "status_code", *([] if of_users else [by])])]
    found = []
    for each in in_time(snapshots):
        records = _plain(place, each, "records", names)
        users = _plain(place, each, "users", [*lives.USERS, *([of_users] if of_users else [])])
        if of_users:
            records = records.merge(users[["user_id", by]], on="user_id", how="left")
        found.append((each.name, records, users))
    return found


def _others(place: Location, snapshot: Snapshot) -> list[str]:
    """Give the columns that the list of users of a snapshot came with."""
    first = files(place, snapshot, "users")[0]
    with place.reading(first):
        stored = pq.read_schema(place.path(first), filesystem=place.filesystem)
    return [name for name in stored.names if name not in layouts.USER_TYPES]


def _plain(place: Location, snapshot: Snapshot, dataset: str, names: Sequence[str]) -> pd.DataFrame:
    rows = table(place, snapshot, dataset, names).select(list(names))
    # Of one snapshot with names and one with pseudonyms, what is the same must be called the same.
    return privacy.protect(rows.to_pandas(types_mapper=decode.PANDAS.get))


def in_order(rows: pa.Table, dataset: str) -> pa.Table:
    """Sort rows as the client does, users by their id; column by column, to need little memory."""
    keys = ORDERS.get(dataset, ("user_id",))
    order = pc.sort_indices(rows, [(name, "ascending") for name in keys])
    taken = {}
    for name in rows.column_names:
        taken[name] = rows[name].take(order)
        rows = rows.drop_columns([name])
    return pa.table(taken)


def _damaged(place: Location, path: str, what: str) -> SnapshotError:
    return SnapshotError(
        f"{path} in {place.shown} {what}: restore it from a copy, or move the snapshot away."
    )
