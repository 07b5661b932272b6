"""Files of a snapshot, checked against its manifest, for pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from koodrive_nb.columns import ORDERS
from koodrive_nb.errors import SnapshotError
from koodrive_nb.snapshots import layouts, manifests
from koodrive_nb.snapshots.locations import PREFIX
from koodrive_nb.snapshots.manifests import Snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from koodrive_nb.snapshots.locations import Location


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
    """Read a dataset, all columns or those named, in the order of the files.

    Raises:
        SnapshotError: A file is missing, cut or altered.
    """
    pieces = []
    for path in files(place, snapshot, dataset):
        with place.reading(path):
            piece = pq.read_table(
                place.path(path),
                columns=None if names is None else list(names),
                filesystem=place.filesystem,
                partitioning=None,
                page_checksum_verification=True,
            )
        own = layouts.schema_of(dataset)
        kinds = {field.name: field.type for field in piece.schema}
        expected = {
            name: own.field(name).type for name in own.names if names is None or name in names
        }
        others = kinds.keys() - expected
        rows = snapshot.manifest["files"][path.partition("/")[2]]["rows"]
        is_fit = expected.items() <= kinds.items() and all(
            dataset == "users" and kinds[name] == pa.string() for name in others
        )
        if not is_fit or len(piece) != rows:
            raise _damaged(place, path, "has other columns or rows than were written")
        pieces.append(piece)
    return pa.concat_tables(pieces)


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
