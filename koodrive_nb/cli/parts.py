"""What came so far of one question, in a folder beside the file that it is for."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from typing import TYPE_CHECKING, Any

import click
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from koodrive_nb import replacing
from koodrive_nb.columns import ORDERS, columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_MANIFEST = "manifest.json"
_UNITS = b"koodrive_nb.units"


class Parts:
    """The parts of one question, each there whole or not at all.

    `question` says in a few plain values what is asked; `secretly` is the rest of it, of which only
    a digest is kept. A part tells which units of the question it has, by their numbers.
    """

    def __init__(
        self, folder: Path, question: Mapping[str, Any], secretly: object, *, restart: bool = False
    ) -> None:
        self.folder = folder
        digest = hashlib.sha256(json.dumps([question, secretly]).encode()).hexdigest()
        manifest = {**question, "digest": digest}
        if restart and self._is_ours():
            shutil.rmtree(folder)
        # Killed between the two, it left an empty folder; somebody else's may be open to all.
        if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
            folder.rmdir()
        if folder.exists():
            self._check(manifest)
        else:
            folder.mkdir(mode=0o700)
            self._put(_MANIFEST, json.dumps(manifest, indent=1).encode())
        self._known = self.finished()

    def _is_ours(self) -> bool:
        return (self.folder / _MANIFEST).is_file() and not self.folder.is_symlink()

    def _check(self, manifest: Mapping[str, Any]) -> None:
        if not self._is_ours():
            raise click.ClickException(
                f"{self.folder} is there and is not of an earlier fetch: move it, or choose "
                "another output."
            )
        try:
            found = json.loads((self.folder / _MANIFEST).read_bytes())
            asked = ", ".join(f"{name} {found[name]}" for name in found if name != "digest")
        except (ValueError, TypeError, AttributeError, IndexError, RecursionError):
            found, asked = {}, "unreadable"
        if found != manifest:
            raise click.ClickException(
                f"{self.folder} has what came of another question ({asked}): finish that one, "
                "choose another output, or begin anew with --restart."
            )

    def finished(self) -> set[int]:
        """Give the numbers of the units that came.

        Raises:
            ClickException: A unit came twice, which two fetches at once would do, or a part is
                spoilt.
        """
        numbers = [number for path in self._files() for number in _units_in(path)]
        if len({*numbers}) < len(numbers):
            raise self._shared()
        return {*numbers}

    def add(self, frame: pd.DataFrame, units: Sequence[int]) -> None:
        """Keep the rows of these units."""
        plain = frame.copy(deep=False)
        plain.attrs = {}
        table = pa.Table.from_pandas(plain, preserve_index=False)
        metadata = {**table.schema.metadata, _UNITS: json.dumps([*units]).encode()}
        sink = pa.BufferOutputStream()
        pa.parquet.write_table(table.replace_schema_metadata(metadata), sink)
        self._put(f"{min(units):08}-{secrets.token_hex(4)}.parquet", sink.getvalue())
        self._known.update(units)

    def frame(self, dataset: str) -> pd.DataFrame:
        """Give all rows that came, in the types and the order of the dataset.

        Raises:
            ClickException: Another fetch has added to them meanwhile, or deleted some.
        """
        types = {column.name: column.dtype for column in columns(dataset)}
        frames = [pd.read_parquet(path).astype(types) for path in self._files()]
        if self.finished() != self._known:
            raise self._shared()
        whole = pd.concat(frames, ignore_index=True)
        if dataset == "records":
            # As of one listing: a record that two modules have is kept in its highest status.
            rank = ["status_code", "version"]
            whole = whole.sort_values(rank, kind="stable", na_position="first")
            whole = whole.drop_duplicates(["user_id", "record_id"], keep="last").sort_index()
        return whole.sort_values([*ORDERS[dataset]], kind="stable", ignore_index=True)

    def delete(self) -> None:
        """Delete all parts."""
        shutil.rmtree(self.folder)

    def _shared(self) -> click.ClickException:
        return click.ClickException(
            f"Two fetches at once wrote to {self.folder}: begin anew with --restart, one at a time."
        )

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.parquet"))

    def _put(self, name: str, content: bytes | pa.Buffer) -> None:
        replacing.replace({self.folder / name: lambda file: file.write(content)})


def _units_in(path: Path) -> list[int]:
    try:
        found: list[int] = json.loads(pa.parquet.read_schema(path).metadata[_UNITS])
    except (KeyError, TypeError, ValueError):
        raise click.ClickException(
            f"{path} is spoilt, or no part of a fetch: begin anew with --restart."
        ) from None
    return found
