"""How far a sweep is: which users are left, and which parts of their list are whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from koodrive_nb.fleet import arrow_memory, pieces
from koodrive_nb.fleet.pieces import PART_USERS
from koodrive_nb.snapshots import publishing
from koodrive_nb.snapshots.manifests import summed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import pandas as pd

    from koodrive_nb.fleet.pieces import Kept
    from koodrive_nb.snapshots.drafts import Draft
    from koodrive_nb.streams import Failure


class Parts:
    """The parts of a list of users: whole in the draft, or in pieces.

    `ids` are the users in their order, `others` what their list says of them besides. `complete`
    counts the users of whom all came, `failures` tells what failed in this run, by the user's
    place. A part of which somebody failed stays in pieces, so that it can be put together anew.
    """

    def __init__(self, draft: Draft, ids: pd.Series[str], others: pd.DataFrame) -> None:
        self._draft = draft
        self._ids = ids
        self._others = others
        self.folder = draft.folder / publishing.PIECES
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.failures: dict[int, Failure] = {}
        self._whole: set[int] = set()
        self._ledger: list[dict[str, Any]] = []
        self._source: str | None = None
        there = draft.parts()
        for path in self.folder.glob("*.json"):
            note = _note(path) if int(path.stem) in there else None
            if note is None:
                # A power cut took it or its part: its users are asked again.
                path.unlink()
            else:
                self._count(int(path.stem), note)
        self._pieces: dict[int, list[Kept]] = {}
        for kept in pieces.found(self.folder, self._whole):
            self._pieces.setdefault(kept.part, []).append(kept)
        self.complete = sum(len(self._range(number)) for number in self._whole)
        self.complete += sum(len(each.complete) for mine in self._pieces.values() for each in mine)
        for number in [*self._pieces]:
            self._join_if_whole(number)

    def failed(self) -> set[int]:
        """Give the places of those who failed, in this run or before, and are not complete."""
        failed = {place for mine in self._pieces.values() for kept in mine for place in kept.failed}
        return failed.difference(
            *(kept.complete for mine in self._pieces.values() for kept in mine)
        )

    def left(self, among: Callable[[int], bool]) -> Iterator[tuple[int, str]]:
        """Give place and id of the users who are not complete, among those of some places."""
        for number in range(-(-len(self._ids) // PART_USERS)):
            for place in self._left_of(number):
                if among(place):
                    yield place, str(self._ids.iloc[place])

    def note(self, kept: Kept) -> None:
        """Take note of a piece, and put its part together if it is whole now.

        Raises:
            SnapshotError: The part cannot be written.
        """
        self._pieces.setdefault(kept.part, []).append(kept)
        self.complete += len(kept.complete)
        for place in kept.complete:
            self.failures.pop(place, None)
        self.failures.update(zip(kept.failed, kept.failures, strict=True))
        self._join_if_whole(kept.part)

    def finish(self) -> list[dict[str, Any]]:
        """Put together what is in pieces, with those who failed, and give the ledger.

        Raises:
            SnapshotError: A part cannot be written.
        """
        is_complete = not self._pieces
        lines = [line for number in [*self._pieces] for line in self._join(number)]
        return [line | {"complete": is_complete} for line in (*self._ledger, *lines)]

    def source(self) -> str | None:
        """Tell which service answered, if one did."""
        return self._source or next(
            (each.source for mine in self._pieces.values() for each in mine), None
        )

    def _range(self, number: int) -> range:
        return range(number * PART_USERS, min((number + 1) * PART_USERS, len(self._ids)))

    def _left_of(self, number: int) -> list[int]:
        if number in self._whole:
            return []
        complete = {place for kept in self._pieces.get(number, ()) for place in kept.complete}
        return [place for place in self._range(number) if place not in complete]

    def _join_if_whole(self, number: int) -> None:
        complete = sum(len(kept.complete) for kept in self._pieces[number])
        if complete < len(self._range(number)):
            return
        note = {"source": self._pieces[number][0].source, "ledger": self._join(number)}
        # The last that is written of a part tells that it is whole.
        publishing.put(self.folder / f"{number:06}.json", note)
        self._count(number, note)
        for kept in self._pieces.pop(number):
            (self.folder / kept.name).unlink()

    def _count(self, number: int, note: Mapping[str, Any]) -> None:
        self._whole.add(number)
        self._source = self._source or note["source"]
        self._ledger = summed([*self._ledger, *note["ledger"]])

    def _join(self, number: int) -> list[dict[str, Any]]:
        places = self._range(number)
        others = self._others.iloc[places.start : places.stop].reset_index(drop=True)
        paths = [self.folder / kept.name for kept in self._pieces[number]]
        # What others left behind need not be there beside a whole part, nor its own afterwards.
        arrow_memory.give_back()
        rows, ledger = pieces.joined(paths, others)
        self._draft.add(number, rows)
        del rows
        arrow_memory.give_back()
        return ledger


def _note(path: Path) -> dict[str, Any] | None:
    try:
        note: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError:
        return None
    return note
