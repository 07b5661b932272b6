"""What is being written: parts that are there whole or not at all, until one rename publishes them.

A draft outlives whatever stops its writer, and the next one of the same question goes on with it.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import filelock
import pandas as pd
import pyarrow as pa

from koodrive_nb import replacing, text
from koodrive_nb.errors import SnapshotError
from koodrive_nb.snapshots import contents, layouts, manifests, publishing
from koodrive_nb.snapshots.locations import reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from koodrive_nb.snapshots.locations import Location
    from koodrive_nb.snapshots.manifests import Snapshot

_SHORT = 40
NAME = ".draft"
"""The folder, below that of the snapshots, in which a sweep keeps what came."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A snapshot that is being written, in a local `folder`.

    `facts` are those that it began with, as JSON has them, also where it goes on. The folder
    `pieces` in it is the writer's own until the snapshot is published, which leaves it behind.
    """

    folder: Path
    target: Location
    question: Mapping[str, Any]
    facts: Mapping[str, Any]

    def idle_s(self) -> float:
        """Tell for how many seconds nothing was added to it, by the clock of this machine.

        Raises:
            OSError: Its files cannot be looked at.
        """
        # Of those half written, a process that still ends may take one away meanwhile.
        files = (path for path in self.folder.rglob("[!.]*") if path.is_file())
        return time.time() - max(path.stat().st_mtime for path in files)

    def parts(self) -> set[int]:
        """Give the numbers of the parts that are whole.

        Raises:
            OSError: They cannot be read, though they may be whole.
        """
        return contents.parts(self.folder)

    def add(self, number: int, rows: Mapping[str, pd.DataFrame | pa.Table]) -> None:
        """Put a part into the draft, whole or not at all, in the place of one of that number.

        It is on the disk then, so that what is written after it never outlives it.

        `rows` are `records`, `devices` and `users`, each as the client has them or as they are
        stored.

        Raises:
            InvalidParameterError: Columns are missing, or values do not fit them.
            SnapshotError: It cannot be written; the parts that are there are as they were.
        """
        mark = self._path("users", number)

        def write(name: str, file: BinaryIO) -> None:
            layouts.write(rows[name], name, file)
            publishing.through(file)

        def write_users(file: BinaryIO) -> None:
            write("users", file)
            # From here until all files are in their places, the part is not whole.
            mark.unlink(missing_ok=True)

        writers = {
            self._path(name, number): partial(write, name) for name in ("records", "devices")
        }
        with writing(self.target):
            replacing.replace(writers | {mark: write_users})

    def publish(
        self,
        facts: Mapping[str, Any],
        ledger: Sequence[Mapping[str, Any]],
        *,
        name: str | None = None,
    ) -> Snapshot:
        """Make a snapshot of the draft, at once and for good.

        `facts`, with those of the beginning: `began_at`, `ended_at`, `source`, `privacy`, and of a
        sample `sampled_of` and `seed`. `ledger` has the lines of `kd.ledger`, summed or not.

        Raises:
            SnapshotError: It cannot be written, has no part, or other users than were asked for;
                the draft is as it was.
            InvalidParameterError: There is a snapshot of that `name`.
        """
        with writing(self.target):
            if not self.parts():
                raise SnapshotError(f"The draft in {self.target.shown} has no part to publish.")
            known = {**self.facts, **facts, "question": dict(self.question)}
            manifest = contents.manifest(self.folder, known, ledger)
            found, asked = manifest["users"], self.question.get("users")
            if asked not in {None, found}:
                raise SnapshotError(
                    f"The draft in {self.target.shown} is damaged, with rows of {found:,} users "
                    f"where {asked:,} were asked for: discard it with restart=True."
                )
            return publishing.publish(self.folder, self.target, manifest, name)

    def _path(self, dataset: str, number: int) -> Path:
        return self.folder / dataset / f"part-{number:06}.parquet"


@contextmanager
def locked(folder: Path, target: Location) -> Iterator[None]:
    """Be the only writer in a local folder, which is made where there is none.

    The system lets go of the lock when the process ends, however it ends.

    Raises:
        SnapshotError: Another writer is at work, or nothing can be written there.
    """
    with writing(target):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        lock = filelock.FileLock(folder / ".lock")
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            raise SnapshotError(
                f"Another sweep or write is at work in {target.shown}: let it end, or choose "
                "another folder."
            ) from None
    try:
        yield
    finally:
        lock.release()


def begin(
    folder: Path,
    target: Location,
    question: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    restart: bool,
) -> Draft:
    """Go on with the draft in a folder, or begin it.

    Raises:
        SnapshotError: There is a draft of another question, or one that cannot be read, and
            `restart` does not discard it; or nothing can be written.
    """
    asked = json.loads(json.dumps(dict(question)))
    about = folder / publishing.DRAFT
    with writing(target):
        # Killed before it had that, it has nothing else that is of use.
        if folder.exists() and (restart or not about.exists()):
            shutil.rmtree(folder)
        if folder.exists():
            _take_over(folder, target)
        else:
            folder.mkdir(mode=0o700)
            for dataset in layouts.DATASETS:
                (folder / dataset).mkdir(mode=0o700)
            begun = {"schema_version": manifests.VERSION, "question": asked, "facts": dict(facts)}
            publishing.put(about, begun)
        content = about.read_bytes()
    try:
        found = manifests.plain(content, f"The draft in {target.shown}")
    except SnapshotError as error:
        raise SnapshotError(f"{error} restart=True discards the draft.") from None
    kept, known = found.get("facts"), found.get("question")
    if not isinstance(kept, dict) or known != asked:
        raise SnapshotError(
            f"{target.shown} has a draft of another question ({_differing(known, asked)}): finish "
            "that one, choose another folder, or discard it with restart=True."
        )
    return Draft(folder, target, asked, kept)


def _take_over(folder: Path, target: Location) -> None:
    """Let nobody else look into a draft, which is no draft of ours if it leads elsewhere.

    Raises:
        SnapshotError: It is somebody else's, or has links for folders.
    """
    owner = os.geteuid() if hasattr(os, "geteuid") else folder.stat().st_uid
    for each in (folder, folder / publishing.PIECES, *(folder / name for name in layouts.DATASETS)):
        if each.name == publishing.PIECES and not os.path.lexists(each):
            continue
        found = each.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner:
            raise SnapshotError(
                f"The draft in {target.shown} has a link for a folder, or is of another user: "
                "nothing of it is taken. Remove its folder .draft by hand, or choose another "
                "folder."
            )
        each.chmod(0o700)


def unfinished(folder: Path | None) -> str:
    """Say which sweep has its draft in a folder; nothing where there is none that can be told."""
    try:
        about = (folder or Path()) / NAME / publishing.DRAFT
        found = manifests.plain(about.read_bytes(), "The draft") if folder else {}
        began = pd.Timestamp(found["facts"]["began_at"]).tz_convert("UTC")
        users = text.counted(int(found["question"]["users"]), "user")
    except (OSError, SnapshotError, LookupError, TypeError, ValueError):
        return ""
    return f"a sweep of {users} that began at {began:%Y-%m-%d %H:%M} UTC is not finished"


def _differing(known: object, asked: Mapping[str, Any]) -> str:
    """Tell how another question differs, in its short plain values."""
    found = known if isinstance(known, dict) else {}
    names = [name for name in {**asked, **found} if found.get(name) != asked.get(name)]
    each = []
    for name in names:
        there, here = (json.dumps(one.get(name)) for one in (found, asked))
        is_short = max(len(there), len(here)) < _SHORT
        what = "list of users or service" if name == "digest" else name
        each.append(f"{name} {there}, not {here}" if is_short else f"another {what}")
    return text.one_line("; ".join(each), 300)


@contextmanager
def writing(target: Location) -> Iterator[None]:
    """Say what cannot be written, and that nothing is lost.

    Raises:
        SnapshotError: In the place of what the system and pyarrow raise.
    """
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise SnapshotError(
            f"{target.shown} cannot be written ({reason(error)}). Nothing was published and "
            "nothing is lost: make room or choose another folder, and do the same again."
        ) from error
