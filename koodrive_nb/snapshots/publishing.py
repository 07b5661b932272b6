"""From a draft to a snapshot: by one rename, or, where folders cannot be moved, manifest last."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from itertools import chain, count
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.fs as pafs

from koodrive_nb import replacing
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.snapshots import manifests
from koodrive_nb.snapshots.locations import PREFIX
from koodrive_nb.snapshots.manifests import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from koodrive_nb.snapshots.locations import Location

DRAFT = "draft.json"
"""What a draft is of; it is left behind when the draft is published."""
PIECES = "pieces"
"""The folder of its writer, likewise: if publishing fails, all that it has is still needed."""
_UPLOAD = ".draft"


def publish(
    draft: Path, target: Location, manifest: Mapping[str, Any], wanted: str | None = None
) -> Snapshot:
    """Write the manifest of a draft and give it its name: the wanted one, or when it began.

    Raises:
        InvalidParameterError: The wanted name is taken.
        OSError: It cannot be written, and the draft is there as before.
        ArrowException: As above, on a filesystem of pyarrow.
    """
    if target.folder is None and (ours := _uploaded(target, manifest)):
        _forget(draft)
        return ours
    put(draft / manifests.NAME, manifest)
    name = wanted or _free(target, str(manifest["began_at"]))
    if wanted and not _is_free(target, wanted):
        raise InvalidParameterError(f"There is a snapshot {wanted} in {target.shown} already.")
    if target.folder is None:
        _upload(draft, target, name, [*manifest["files"], manifests.NAME])
        _forget(draft)
        return Snapshot(name, dict(manifest))
    for folder in (draft, *(each for each in draft.iterdir() if each.is_dir())):
        _sync(folder)
    published = target.folder / f"{PREFIX}{name}"
    draft.rename(published)
    # It is published, whatever else fails. While a power cut may undo that, all is still needed;
    # afterwards it is of no use any more, and of no harm to any reader.
    with suppress(OSError):
        _sync(target.folder)
        (published / DRAFT).unlink(missing_ok=True)
        shutil.rmtree(published / PIECES, ignore_errors=True)
    return Snapshot(name, dict(manifest))


def put(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON to a file, whole or not at all, and through to the disk.

    Raises:
        OSError: It cannot be written.
    """

    def write(file: Any) -> None:
        file.write(json.dumps(content, indent=1).encode())
        through(file)

    replacing.replace({path: write})


def through(file: BinaryIO) -> None:
    """See that what was written to a file is on the disk, and outlives a power cut.

    Raises:
        OSError: It cannot be written.
    """
    file.flush()
    os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    # Only then do the names in it outlive a power cut.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _forget(draft: Path) -> None:
    # It is published, whatever else fails. Without that, whoever comes next discards the rest.
    with suppress(OSError):
        (draft / DRAFT).unlink(missing_ok=True)
        shutil.rmtree(draft)


def _names(began_at: str) -> Iterator[str]:
    first = began_at.translate(str.maketrans("", "", "-:"))[:15] + "Z"
    return chain([first], (f"{first}-{number}" for number in count(2)))


def _free(target: Location, began_at: str) -> str:
    return next(name for name in _names(began_at) if _is_free(target, name))


def _uploaded(target: Location, manifest: Mapping[str, Any]) -> Snapshot | None:
    """Give the snapshot that has the same files: a kill came before the end of the draft."""
    # What is written from memory has no draft to go on with.
    for name in _names(str(manifest["began_at"])) if manifest["question"] else ():
        content = target.content(f"{PREFIX}{name}", manifests.NAME)
        if content is None:
            return None
        found = manifests.read(content, f"{PREFIX}{name}/{manifests.NAME} in {target.shown}")
        if found["files"] == manifest["files"]:
            return Snapshot(name, found)
    return None


def _is_free(target: Location, name: str) -> bool:
    path = target.path(f"{PREFIX}{name}")
    if target.filesystem.get_file_info(path).type == pafs.FileType.NotFound:
        return True
    if target.folder is None and target.content(f"{PREFIX}{name}", manifests.NAME) is None:
        # What an upload left that did not come to its end.
        target.filesystem.delete_dir(path)
        return True
    return False


def _upload(draft: Path, target: Location, name: str, files: list[str]) -> None:
    system = target.filesystem
    upload, published = target.path(_UPLOAD), target.path(f"{PREFIX}{name}")
    if system.get_file_info(upload).type != pafs.FileType.NotFound:
        system.delete_dir(upload)
    _make_folders(system, upload)
    for file in files:
        pafs.copy_files(
            (draft / file).as_posix(), f"{upload}/{file}", pafs.LocalFileSystem(), system
        )
    try:
        system.move(upload, published)
    except (OSError, pa.ArrowException, NotImplementedError):
        # Object stores have no folders to move. Ours is the last file, so readers wait for it.
        _make_folders(system, published)
        for file in files:
            system.move(f"{upload}/{file}", f"{published}/{file}")
        system.delete_dir(upload)


def _make_folders(system: pafs.FileSystem, root: str) -> None:
    for dataset in ("records", "devices", "users"):
        system.create_dir(f"{root}/{dataset}", recursive=True)
