"""Where snapshots lie: in a folder of this machine, or on a filesystem that pyarrow reaches."""

from __future__ import annotations

import os
import re
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

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
            return cls._of_folder(given)
        # The last @, since a key may hold what else ends the part that it is in.
        parts = urlsplit(f"{scheme}://{rest.rpartition('@')[2]}")
        shown = urlunsplit(parts._replace(query="", fragment="")).rstrip("/")
        try:
            filesystem, root = pafs.FileSystem.from_uri(given)
        except (pa.ArrowException, OSError, ValueError):
            # What pyarrow says may quote the keys in the URI.
            raise InvalidParameterError(
                f"{shown} is no URI that pyarrow can open: try s3://bucket/folder, or a path."
            ) from None
        is_local = isinstance(filesystem, pafs.LocalFileSystem)
        return cls(filesystem, root.rstrip("/"), Path(root) if is_local else None, shown)

    @classmethod
    def _of_folder(cls, given: str) -> Location:
        if not given.strip() or re.match(r"[a-z][a-z0-9]+:/", given):
            raise InvalidParameterError(
                f"{given!r} is no folder: pass a path, or a URI such as s3://bucket/folder."
            )
        folder = Path(given).expanduser().absolute()
        return cls(pafs.LocalFileSystem(), folder.as_posix(), folder, given)

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


def _is_hive(info: pafs.FileInfo) -> bool:
    return bool(info.type == pafs.FileType.Directory and info.base_name.startswith(PREFIX))


def reason(error: BaseException) -> str:
    """Say in a few words why something failed, without paths of this machine."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else text.one_line(error, _LONGEST)
