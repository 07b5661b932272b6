"""What lies in a draft: which of its parts are whole, and what a manifest says of them."""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from koodrive_nb.snapshots import layouts, manifests
from koodrive_nb.snapshots.locations import Location

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PART = re.compile(r"part-([0-9]{6,9})\.parquet")


def parts(folder: Path) -> set[int]:
    """Give the numbers of the parts in a draft that are whole.

    Raises:
        OSError: They cannot be read, though they may be whole.
    """
    # The file of the users is the last to come.
    found = [_PART.fullmatch(path.name) for path in (folder / "users").iterdir()]
    return {number for match in found if match and _is_whole(folder, number := int(match[1]))}


def manifest(
    folder: Path, facts: Mapping[str, Any], ledger: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Make the manifest of the parts in a draft, and delete what is of none.

    Raises:
        OSError: Something cannot be read or deleted.
        SnapshotError: As above.
    """
    whole = parts(folder)
    outcomes: dict[str, int] = dict.fromkeys(layouts.OUTCOMES, 0)
    rows = dict.fromkeys(layouts.DATASETS, 0)
    files = {}
    for dataset in layouts.DATASETS:
        for path in sorted((folder / dataset).iterdir()):
            match = _PART.fullmatch(path.name)
            if not match or int(match[1]) not in whole:
                # What a kill left half written.
                path.unlink()
                continue
            n = pq.read_metadata(path).num_rows
            rows[dataset] += n
            crc32 = Location.of(folder).crc32(dataset, path.name)
            about = {"bytes": path.stat().st_size, "crc32": crc32, "rows": n}
            files[f"{dataset}/{path.name}"] = about
            if dataset == "users":
                column = pq.read_table(path, columns=["outcome"], partitioning=None)[0]
                for count in column.value_counts().to_pylist():
                    outcomes[count["values"]] += count["counts"]
    return manifests.made(
        {
            **facts,
            "schema_version": manifests.VERSION,
            "began_at": manifests.instant(facts["began_at"]),
            "ended_at": manifests.instant(facts["ended_at"]),
            "complete": outcomes["complete"] == rows["users"],
            **rows,
            "partial": outcomes["partial"],
            "failed": outcomes["failed"],
            "ledger": manifests.summed(ledger),
            "files": files,
        }
    )


def is_broken(error: BaseException) -> bool:
    """Tell of a file that could not be read whether what it holds is broken, as a power cut does.

    Else the system refused to read it, and it may be whole.
    """
    return getattr(error, "errno", None) in {None, errno.ENOENT}


def _is_whole(folder: Path, number: int) -> bool:
    try:
        for dataset in layouts.DATASETS:
            pq.read_metadata(folder / dataset / f"part-{number:06}.parquet")
    except (OSError, pa.ArrowException) as error:
        if is_broken(error):
            return False
        raise
    return True
