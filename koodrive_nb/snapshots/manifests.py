"""What a snapshot says of itself: counts, files, how it was fetched; and nobody's name.

A manifest is JSON. What is read is checked field by field before anything relies on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import pandas as pd

from koodrive_nb.errors import SnapshotError
from koodrive_nb.text import counted, one_line, sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NAME = "manifest.json"
VERSION = 1
"""Of the layout; it changes where an older reader would go wrong."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Instant = Annotated[datetime, msgspec.Meta(tz=True)]
_FilePath = Annotated[
    str, msgspec.Meta(pattern=r"\A(?:records|devices|users)/part-[0-9]{6,9}\.parquet\Z")
]
_COUNTED = ("pages", "rows", "duplicates", "set_aside", "coerced")


class Stored(msgspec.Struct):
    """A file: its size in bytes, the CRC-32 of all of them, and its rows."""

    bytes: _Count
    crc32: _Count
    rows: _Count


class Line(msgspec.Struct):
    """A line of the ledger, as `kd.ledger` explains it, summed over users."""

    dataset: str
    module: str | None
    pages: _Count
    rows: _Count
    duplicates: _Count
    set_aside: _Count
    coerced: _Count
    complete: bool


class Manifest(msgspec.Struct, kw_only=True):
    """The facts of a snapshot; `question` is what was asked, without naming anybody."""

    schema_version: Literal[1]
    began_at: _Instant
    ended_at: _Instant
    source: Literal["live", "sandbox"]
    privacy: Literal["names", "pseudonyms", "counts"]
    complete: bool
    users: _Count
    partial: _Count
    failed: _Count
    devices: _Count
    records: _Count
    sampled_of: _Count | None = None
    seed: int | None = None
    ledger: list[Line]
    files: dict[_FilePath, Stored]
    question: dict[str, Any] = {}


@dataclass(frozen=True, slots=True, repr=False)
class Snapshot:
    """A published snapshot: its name, and its manifest as plain values."""

    name: str
    manifest: dict[str, Any]

    def __repr__(self) -> str:
        facts = self.manifest
        lost = [f"{facts[name]:,} {name}" for name in ("partial", "failed") if facts[name]]
        state = ": ".join(["incomplete", *filter(None, [", ".join(lost)])])
        state = "complete" if facts["complete"] else state
        drawn = sample(facts["sampled_of"], facts["users"])
        users = f"a {drawn}" if drawn else counted(facts["users"], "user")
        return f"Snapshot({self.name}, {users}, {counted(facts['records'], 'record')}, {state})"


def made(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Give the manifest that these facts make, as plain values; further ones are left out."""
    built: dict[str, Any] = msgspec.to_builtins(msgspec.convert(facts, Manifest))
    return built


def read(text: bytes, where: str) -> dict[str, Any]:
    """Read a manifest; `where` it is, is for the errors.

    Raises:
        SnapshotError: It is broken, or of another version.
    """
    found = plain(text, where)
    try:
        facts = made(found)
    except (msgspec.ValidationError, RecursionError) as error:
        why = one_line(error, 300)
    else:
        why = _contradiction(facts)
        if not why:
            return facts
    raise SnapshotError(
        f"{where} is not what this version writes ({why}): restore the snapshot from a copy, or "
        "move its folder away."
    )


def _contradiction(facts: Mapping[str, Any]) -> str:
    """Say where the counts are not those of the files, of which one may have been left out."""
    for dataset in ("records", "devices", "users"):
        rows = [
            stored["rows"]
            for path, stored in facts["files"].items()
            if path.startswith(f"{dataset}/")
        ]
        if not rows or sum(rows) != facts[dataset]:
            return f"its files have {sum(rows):,} {dataset}, not {facts[dataset]:,}"
    return ""


def plain(text: bytes, where: str) -> dict[str, Any]:
    """Read JSON that says a version, and refuse other versions.

    Raises:
        SnapshotError: It is broken, or of another version.
    """
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        found = None
    version = found.get("schema_version") if isinstance(found, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise SnapshotError(
            f"{where} is damaged, or is no manifest: restore the snapshot from a copy, or move its "
            "folder away."
        )
    if version != VERSION:
        what = (
            "is of a newer version of this package: update koodrive_nb"
            if version > VERSION
            else "is of an older version that is no longer read: sweep again, or read it with the "
            "koodrive_nb that wrote it"
        )
        raise SnapshotError(f"{where} {what} (layout {version}, here {VERSION}).")
    kept: dict[str, Any] = found
    return kept


def summed(ledger: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add the lines of ledgers up by dataset and module, so that nobody is named."""
    lines: dict[tuple[str, str | None], dict[str, Any]] = {}
    for line in ledger:
        module = line["module"]
        # What pandas has for missing is unequal to itself, or refuses to tell.
        module = module if isinstance(module, str) else None
        total = lines.setdefault(
            (str(line["dataset"]), module), dict.fromkeys(_COUNTED, 0) | {"complete": True}
        )
        for name in _COUNTED:
            total[name] += int(line[name])
        total["complete"] = total["complete"] and bool(line["complete"])
    return [
        {"dataset": dataset, "module": module, **total}
        for (dataset, module), total in sorted(lines.items(), key=lambda item: str(item[0]))
    ]


def instant(value: Any) -> str:
    """Write an instant that has a zone as a manifest has it: ISO 8601, in UTC, whole ms."""
    return pd.Timestamp(value).tz_convert("UTC").floor("ms").isoformat()
