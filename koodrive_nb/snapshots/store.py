"""A folder of snapshots: written one by one, never changed, read one by one or all together."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.snapshots import drafts
from koodrive_nb.snapshots.locations import Location

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from koodrive_nb.snapshots.drafts import Draft


class Snapshots:
    """The snapshots in a folder, or at the URI of a filesystem that pyarrow reaches.

    Each is a folder of Parquet files that any reader takes, `snapshot=20251217T083000Z/records/`
    and likewise `devices` and `users`, published by one rename, so that nobody sees half of it, and
    only its owner may look in. Where a filesystem cannot move folders, as object stores cannot,
    its `manifest.json` comes last, and only with that is it a snapshot here; other readers must
    look for it themselves. One process at a time writes to a folder.

    At a URI that is not of this machine, writing needs `drafts`, a local folder for what is not
    published yet; there, only writers with the same `drafts` know of each other.

    Raises:
        InvalidParameterError: It is no path, or pyarrow cannot open it.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, drafts: str | os.PathLike[str] | None = None
    ) -> None:
        self._place = Location.of(path)
        if drafts is not None and self._place.folder is not None:
            raise InvalidParameterError(
                "drafts= is for a URI of another machine: in a folder of this one, the draft is in "
                "the folder itself."
            )
        self._drafts = self._place.folder if drafts is None else Path(drafts).absolute()

    @contextmanager
    def _draft(
        self,
        question: Mapping[str, Any],
        facts: Mapping[str, Any] | None = None,
        *,
        restart: bool = False,
    ) -> Iterator[Draft]:
        """Be the only writer, and go on with the draft of a question, or begin it with `facts`.

        Both are plain values, and name nobody.

        Raises:
            SnapshotError: Another writer is at work, the draft is of another question, or nothing
                can be written.
            InvalidParameterError: A URI without `drafts`.
        """
        folder = self._folder()
        with drafts.locked(folder, self._place):
            yield drafts.begin(
                folder / ".draft", self._place, question, facts or {}, restart=restart
            )

    def _folder(self) -> Path:
        if self._drafts is None:
            raise InvalidParameterError(
                "To write to a URI, say where the draft is to lie on this machine: "
                "Snapshots(uri, drafts='folder')."
            )
        return self._drafts
