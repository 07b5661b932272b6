"""Where snapshots lie: in a folder of this machine, or on a filesystem that pyarrow reaches."""

from __future__ import annotations

import os
import re
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.fs as pafs

from koodrive_nb import text
from koodrive_nb.errors import InvalidParameterError, SnapshotError

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "snapshot="
_LONGEST = 160
_BLOCK = 1 << 20
_MOST_BYTES = 256 << 20
_SLIPPED = re.compile(r"(?:s3|gs|gcs|hdfs|abfss?|file|https?)(?=:)|[A-Za-z][A-Za-z0-9+.-]+(?=:/)")
_TOLD_OF_QUERIES = {"region", "scheme", "endpoint_override"}
SNAPSHOT_NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z(?:-[1-9][0-9]{0,5})?")
"""The instant, in UTC, at which a sweep began; the second of the same instant ends in -2."""


@dataclass(frozen=True, slots=True, repr=False)
class Location:
    """A folder: `root` on a filesystem, and as a local path where it is one.

    `shown` is what messages call it: as it was given, but without what a URI may hold of secrets.
    """

    filesystem: pafs.FileSystem
    root: str
    folder: Path | None
    shown: str

    @classmethod
    def of(cls, place: object) -> Location:
        """Read a path or a URI.

        Raises:
            InvalidParameterError: It is neither, or pyarrow has no such filesystem.
        """
        if not isinstance(place, str | os.PathLike) or not isinstance(os.fspath(place), str):
            raise InvalidParameterError(
                f"Snapshots() takes a folder or a URI, not {type(place).__name__}."
            )
        given = os.fspath(place)
        scheme, slashes, rest = given.partition("://")
        if not slashes:
            folder = _folder(given)
            return cls(pafs.LocalFileSystem(), folder.as_posix(), folder, given)
        # The last @, since a key may hold what else ends the part that it is in.
        keys, _, public = rest.rpartition("@")
        parts = urlsplit(f"{scheme}://{public}")
        shown = urlunsplit(parts._replace(query="", fragment="")).rstrip("/")
        try:
            filesystem, root = pafs.FileSystem.from_uri(given)
        except (pa.ArrowException, OSError, ValueError) as error:
            cause = _cause(str(error).replace(given, shown), keys, parts.query)
            raise InvalidParameterError(
                f"{shown} is no URI that pyarrow can open{cause}. Give a path, or a "
                "URI such as s3://bucket/folder?region=eu-west-1, for a store of your own with "
                "&endpoint_override=host:port."
            ) from None
        is_local = isinstance(filesystem, pafs.LocalFileSystem)
        return cls(filesystem, root.rstrip("/"), Path(root) if is_local else None, shown)

    def path(self, *parts: str) -> str:
        """Give the path of something below, as the filesystem takes it."""
        return "/".join([self.root, *parts])

    def names(self) -> list[str]:
        """Give the names of what may be snapshots, finished or not.

        Raises:
            SnapshotError: The folder cannot be listed.
        """
        with self.reading(""):
            below = self.filesystem.get_file_info(
                pafs.FileSelector(self.root, allow_not_found=True)
            )
        found = [info.base_name.removeprefix(PREFIX) for info in below if _is_hive(info)]
        return sorted(name for name in found if SNAPSHOT_NAME.fullmatch(name))

    def content(self, *parts: str) -> bytes | None:
        """Read a small file whole; None where there is none.

        Raises:
            SnapshotError: It cannot be read.
        """
        with self.reading("/".join(parts)):
            path = self.path(*parts)
            info = self.filesystem.get_file_info(path)
            if info.type == pafs.FileType.NotFound:
                return None
            if info.type != pafs.FileType.File or (info.size or 0) > _MOST_BYTES:
                raise OSError(f"it is no file, or larger than {_MOST_BYTES >> 20} MiB")
            with self.filesystem.open_input_stream(path) as file:
                content: bytes = file.read()
            return content

    def sizes(self, *parts: str) -> dict[str, int]:
        """Give the sizes in bytes of the files that lie directly in a folder below, by name.

        Raises:
            SnapshotError: It cannot be listed.
        """
        with self.reading("/".join(parts)):
            base = self.path(*parts)
            below = self.filesystem.get_file_info(pafs.FileSelector(base, allow_not_found=True))
        files = (info for info in below if info.type == pafs.FileType.File)
        return {info.base_name: info.size for info in files}

    def crc32(self, *parts: str) -> int:
        """Compute the CRC-32 of a file, which finds what the checksums of its pages leave out.

        Raises:
            SnapshotError: It cannot be read.
        """
        found = 0
        path = self.path(*parts)
        with self.reading("/".join(parts)), self.filesystem.open_input_stream(path) as file:
            while block := file.read(_BLOCK):
                found = zlib.crc32(block, found)
        return found

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Say of what cannot be read which file of the folder it is.

        Raises:
            SnapshotError: In the place of what pyarrow and the system raise.
        """
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            named = f"{what} in {self.shown}" if what else self.shown
            raise SnapshotError(
                f"{named} cannot be read ({reason(error)}): restore it from a copy, or move the "
                "snapshot away."
            ) from error


def _folder(given: str) -> Path:
    """Read a local path, unless it is a slip that would make a folder with an odd name."""
    slipped = _SLIPPED.match(given)
    if slipped:
        raise InvalidParameterError(
            f"{slipped[0]}: without two slashes is no URI: write {slipped[0]}://..., or "
            "the full path of a folder of that name."
        )
    if not given.strip():
        raise InvalidParameterError("The folder of the snapshots is empty text: name one.")
    path = Path(given)
    try:
        found = (path.expanduser() if given.startswith("~") else path).absolute()
    except RuntimeError:
        raise InvalidParameterError(
            f"{given} names a user whom this machine does not know: write the path in full."
        ) from None
    if found.exists() and not found.is_dir():
        raise InvalidParameterError(f"{given} is a file: snapshots need a folder.")
    return found


def _cause(told: str, keys: str, query: str) -> str:
    """Give what was told in brackets, or nothing where one of the keys may be left in it."""
    pairs = (pair.partition("=") for pair in query.split("&"))
    values = re.split(r"[:/?#@]", keys)
    values += [value for name, _, value in pairs if name not in _TOLD_OF_QUERIES]
    secrets = {form for value in values if value for form in (value, unquote(value))}
    line = text.one_line(told, _LONGEST)
    return "" if any(secret in line for secret in secrets) else f" ({line})"


def _is_hive(info: pafs.FileInfo) -> bool:
    return bool(info.type == pafs.FileType.Directory and info.base_name.startswith(PREFIX))


def reason(error: BaseException) -> str:
    """Say in a few words why something failed, without paths of this machine."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else text.one_line(error, _LONGEST)
