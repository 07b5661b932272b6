"""What came of some users of a part, in one file each time, until the part is whole.

A piece is there whole or not at all, in the privacy of what is handed over. It holds the tables of
records, devices and users one after the other, and the ledger of its users.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from koodrive_nb import decode, device_labels, privacy, replacing
from koodrive_nb.fetching import told, untraced
from koodrive_nb.snapshots import layouts
from koodrive_nb.snapshots.contents import is_broken
from koodrive_nb.snapshots.manifests import summed

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from pathlib import Path

    from koodrive_nb.fleet.visits import Visit
    from koodrive_nb.jobs import Job
    from koodrive_nb.streams import Failure

PART_USERS = 1_000
"""So many users are held in memory at once when their part is put together."""
_LEDGER, _SOURCE = b"koodrive_nb.ledger", b"koodrive_nb.source"
_PLACE = "place"
_ENDING = ".arrows"
_DATASETS = ("records", "devices", "users")
_COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Kept:
    """What a piece has: its file, which service answered, the places of users, and what failed."""

    name: str
    source: str
    complete: list[int]
    failed: list[int]
    failures: list[Failure] = field(default_factory=list)

    @property
    def part(self) -> int:
        """The number of the part that all its users are of."""
        return (self.complete or self.failed)[0] // PART_USERS


def keep(visits: Iterable[Visit], folder: Path) -> list[Kept]:
    """Write what visits brought, one piece for each part that they are of.

    Raises:
        OSError: It cannot be written.
    """
    by_part: dict[int, list[Visit]] = {}
    for visit in visits:
        by_part.setdefault(visit.place // PART_USERS, []).append(visit)
    return [_keep(part, mine, folder) for part, mine in by_part.items()]


def _keep(part: int, visits: Sequence[Visit], folder: Path) -> Kept:
    whole = [visit for visit in visits if visit.is_whole()]
    frames = {name: _frame([*_jobs(whole, name)], name) for name in _DATASETS[:2]}
    labels = [visit.labels for visit in whole]
    device_labels.put_on(frames["records"], labels)
    streams = [job.stream for visit in whole for job in visit.asked()]
    failures = [failure for visit in visits if (failure := visit.failure())]
    frames["users"] = _users(visits, frames)
    name = f"{part:06}-{secrets.token_hex(8)}{_ENDING}"
    sources = {visit.jobs[0].stream.source for visit in visits}
    source = "sandbox" if "sandbox" in sources else "live"
    packed = _packed(frames, [stream.line() for stream in streams], source)
    replacing.replace({folder / name: lambda file: file.write(packed)})
    failed = [visit.place for visit in visits if not visit.is_whole()]
    return Kept(name, source, [visit.place for visit in whole], failed, failures)


def _jobs(visits: Iterable[Visit], dataset: str) -> Iterable[Job]:
    return (job for visit in visits for job in visit.jobs if job.stream.dataset == dataset)


def _frame(jobs: Sequence[Job], dataset: str) -> pd.DataFrame:
    if not jobs:
        return layouts.to_frame(layouts.schema_of(dataset).empty_table(), dataset)
    parts = [(job.stream, [*job.tables]) for job in jobs]
    return decode.to_frame(parts, dataset, [job.waiting for job in jobs])


def _users(visits: Sequence[Visit], frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    n_devices, n_records = (
        frames[name]["user_id"].value_counts().to_dict() for name in ("devices", "records")
    )
    rows = []
    for visit in visits:
        times = [job.stream.fetched_at for job in visit.jobs if job.stream.fetched_at is not None]
        failure = visit.failure()
        mine = visit.user_id
        counts = (None, None) if failure else (n_devices.get(mine, 0), n_records.get(mine, 0))
        rows.append(
            (
                mine,
                "failed" if failure else _COMPLETE,
                *counts,
                min(times, default=None),
                told([untraced(failure)], 1) if failure else None,
                visit.place,
            )
        )
    return pd.DataFrame(rows, columns=[*layouts.USER_TYPES, _PLACE]).astype(layouts.USER_TYPES)


def _packed(frames: dict[str, pd.DataFrame], lines: list[dict[str, Any]], source: str) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    for name in _DATASETS:
        protect = privacy.protect_users if name == "users" else privacy.protect
        frame = protect(frames[name], remember=False)
        schema = layouts.schema_of(name)
        if name == "users":
            schema = schema.append(pa.field(_PLACE, pa.int64()))
            schema = schema.with_metadata({_LEDGER: json.dumps(summed(lines)), _SOURCE: source})
        table = pa.Table.from_pandas(frame, preserve_index=False).cast(schema)
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write_table(table)
    return sink.getvalue()


def found(folder: Path, whole: Container[int]) -> list[Kept]:
    """Give the pieces of an earlier run; those of whole parts, or of users again, are deleted.

    A worker process whose parent was killed may have kept users whom the next run asked again. What
    a power cut broke is deleted, too, so that its users are asked again.

    Raises:
        OSError: One cannot be read, though it may be whole.
    """
    known: set[int] = set()
    pieces = []
    for path in sorted(folder.glob(f"*{_ENDING}")):
        if int(path.name.partition("-")[0]) in whole:
            path.unlink()
            continue
        try:
            users = _read(path)["users"]
        except (OSError, pa.ArrowException) as error:
            if not is_broken(error):
                raise
            path.unlink()
            continue
        is_complete = pc.equal(users["outcome"], _COMPLETE)
        complete = users.filter(is_complete)[_PLACE].to_pylist()
        if known.intersection(complete):
            path.unlink()
            continue
        known.update(complete)
        failed = users.filter(pc.invert(is_complete))[_PLACE].to_pylist()
        source = users.schema.metadata[_SOURCE].decode()
        pieces.append(Kept(path.name, source, complete, failed))
    return pieces


def joined(
    paths: Sequence[Path], others: pd.DataFrame
) -> tuple[dict[str, pa.Table], list[dict[str, Any]]]:
    """Make a part of its pieces; give its rows as they are stored, and its ledger.

    `others` are the columns of the list of users, a row for each user of the part in their order.
    """
    found = [_read(path) for path in paths]
    lines = [
        line for piece in found for line in json.loads(piece["users"].schema.metadata[_LEDGER])
    ]
    tables = {
        name: pa.concat_tables(piece[name].replace_schema_metadata() for piece in found)
        for name in _DATASETS
    }
    # Asked again, a user who failed may be complete; never the other way round.
    users = tables["users"].sort_by([(_PLACE, "ascending"), ("outcome", "ascending")])
    is_first = np.diff(users[_PLACE].to_numpy(), prepend=-1) > 0
    users = users.filter(pa.array(is_first)).drop_columns([_PLACE])
    for name in others.columns:
        users = users.append_column(name, pa.Array.from_pandas(others[name]).cast(pa.string()))
    return tables | {"users": users}, summed(lines)


def _read(path: Path) -> dict[str, pa.Table]:
    with pa.memory_map(str(path)) as source:
        return {name: pa.ipc.open_stream(source).read_all() for name in _DATASETS}
