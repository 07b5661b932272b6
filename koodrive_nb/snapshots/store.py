"""A folder of snapshots: written one by one, never changed, read one by one or all together."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import narwhals as nw
import pandas as pd

from koodrive_nb import privacy, streams
from koodrive_nb.columns import STRING
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.snapshots import changes, choosing, drafts, fleets, layouts, lives, reading, scans
from koodrive_nb.snapshots.locations import SNAPSHOT_NAME, Location

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from koodrive_nb.snapshots.drafts import Draft
    from koodrive_nb.snapshots.manifests import Snapshot

    Dataset = Literal["records", "devices", "users"]


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
        self._drafts = self._place.folder if drafts is None else Location.of(drafts).folder
        if drafts is not None and self._drafts is None:
            raise InvalidParameterError("drafts= takes a folder of this machine, not a URI.")

    def __repr__(self) -> str:
        names = choosing.names(self._place)
        newest = f", newest {names[-1]}" if names else ""
        begun = drafts.unfinished(self._drafts)
        return f"Snapshots({len(names):,}{newest}{f'; {begun}' if begun else ''})"

    def list(self) -> pd.DataFrame:
        """Tell what snapshots there are, the newest last.

        Columns: `snapshot` (its name, the instant in UTC at which it began), `began_at`,
        `ended_at`, `source`, `complete` (all of all users came), `users`, of them `partial` and
        `failed`, `devices`, `records`, `sampled_of` (of how many users these are a sample; missing
        where they are all), `bytes` on disk.

        Raises:
            SnapshotError: A manifest is damaged or of another version, or the folder cannot be
                read.
        """
        return reading.listing(self._place, choosing.names(self._place))

    def read(
        self, dataset: Dataset = "records", snapshot: str | Snapshot = "newest"
    ) -> pd.DataFrame:
        """Read a dataset into pandas, with the types and in the order of the client.

        `dataset` is records, devices or users, `snapshot` "newest", a name of `list()`, what
        `sweep()` returned, or "all", which adds a column `snapshot`: there, a record comes once for
        each snapshot that has it.
        All bytes of the files are verified by their checksums.

        Raises:
            InvalidParameterError: There is no such dataset or snapshot.
            SnapshotError: There is no snapshot yet, or a file is missing, cut or altered.
            ConfigurationError: A setting of privacy is unfit.
        """
        layouts.columns_of(dataset)
        chosen = self._chosen(snapshot)
        frames = []
        for each in chosen:
            rows = reading.in_order(reading.table(self._place, each, dataset), dataset)
            frames.append(layouts.to_frame(rows, dataset))
        frame = frames[0]
        if snapshot == "all":
            names = [
                pd.Series(each.name, one.index, dtype=STRING)
                for each, one in zip(chosen, frames, strict=True)
            ]
            frame = pd.concat(frames, ignore_index=True).assign(
                snapshot=pd.concat(names, ignore_index=True)
            )
        # Of snapshots without names, errors tell no more than was allowed then.
        is_told = all(each.manifest["privacy"] != "names" for each in chosen)
        protect = privacy.protect_users if dataset == "users" and is_told else privacy.protect
        return _told(protect(frame), chosen)

    def scan(
        self,
        dataset: Dataset = "records",
        snapshot: str | Snapshot = "newest",
        *,
        engine: Literal["duckdb", "polars", "spark"] = "duckdb",
    ) -> Any:
        """Give a dataset as a lazy frame of an engine, which reads no more than it needs.

        It goes into `kd.analysis` as it is. DuckDB gives a relation in UTC, Polars a LazyFrame,
        Spark a DataFrame of the active session, or of a new one in UTC. `dataset` and `snapshot`
        are those of `read()`; rows are in no promised order. The sizes of all files are checked
        here, their content is not.

        Raises:
            InvalidParameterError: There is no such dataset, snapshot or engine.
            SnapshotError: There is no snapshot yet, or a file is missing or cut.
            ConfigurationError: The engine is not installed, or `KOODRIVE_PRIVACY` forbids names,
                which the snapshots have.
        """
        layouts.columns_of(dataset)
        chosen = self._chosen(snapshot)
        (frames,) = scans.frames(self._place, chosen, engine, dataset)
        if snapshot != "all":
            return frames[0].to_native()
        named = [
            frame.with_columns(snapshot=nw.lit(each.name))
            for frame, each in zip(frames, chosen, strict=True)
        ]
        # Of one list of users to the next, columns come and go.
        return nw.concat(named, how="diagonal").to_native()

    def history(self, *, engine: Literal["pandas", "duckdb", "polars", "spark"] = "pandas") -> Any:
        """Tell what became of each record over all snapshots, in a frame of the engine.

        One row a record, by `user_id` and `record_id`: `module`, `device_id`, `create_time` and
        `end_time` (where snapshots differ, the earliest creation, and else the greatest),
        `first_seen` and `last_seen` (`fetched_at` of the first and last snapshot that has it), and
        `snapshots`, how many have it. A change lies between two looks, after one and up to the
        other: completion after `new_until` (last seen as new) and by `completed_by` (first seen as
        completed); the mark after `to_be_deleted_after` and by `to_be_deleted_by`; deletion after
        `disappeared_after` (last seen) and by `disappeared_by` (its user was seen whole next, and
        without it). A missing begin: it was so when first seen, or at the latest then. A missing
        end: not yet. A user who failed, came in part or was not asked makes nothing disappear, and
        a record that came back never did, yet `snapshots` lacks those without it.

        Snapshots follow each other as they ended, since one that was stopped may begin before
        another and end after it. Rows are in no promised order, in pandas by `user_id`,
        `create_time`, `record_id`.

        Source: interval censoring, as in Turnbull (1976), J. R. Stat. Soc. B 38, 290-295.

        Raises:
            InvalidParameterError: There is no such engine.
            SnapshotError: There is no snapshot yet, or a file is missing, cut or altered.
            ConfigurationError: The engine is not installed, or `KOODRIVE_PRIVACY` forbids names,
                which the snapshots have (pandas gets pseudonyms), or is unfit.
        """
        chosen = self._chosen("all")
        if engine != "pandas":
            ordered = reading.in_time(chosen)
            both = scans.frames(self._place, ordered, engine, "records", "users")
            return lives.of_records(*both).to_native()
        return _told(privacy.protect(reading.history(self._place, chosen)), chosen)

    def changes(self, by: str = "module") -> pd.DataFrame:
        """Count what changed from each snapshot to the next, by a column of the records or users.

        `by` is a column of the records that many share, or one that the list of users came with.

        One row for each pair of neighbours (`previous`, `snapshot`) and group: `n_users`, those
        seen whole in both, whose records alone are counted: `created` (not there before; what came
        and went in between was never seen), `completed` and `to_be_deleted` (not so before),
        `disappeared`, `open` (new in the later one), and of those that disappeared, the median
        hours from when they were first seen as to be deleted to when they were last seen
        (`waited_at_least_h`, 0 for those never seen so), and from when they were last seen as not
        to be deleted to when they were missed (`waited_at_most_h`; missing where more than half had
        the mark when first seen).

        Raises:
            InvalidParameterError: Neither records nor users have such a column to count by.
            SnapshotError: There is no snapshot yet, a file is missing, cut or altered, or
                neighbours have no users in common.
            ConfigurationError: A setting of privacy is unfit.
        """
        chosen = self._chosen("all")
        looks = reading.looks(self._place, chosen, by)
        counted = changes.counted(looks, reading.history(self._place, chosen), by)
        return _told(privacy.protect(counted), chosen)

    def write(self, fleet: Any, *, name: str | None = None) -> Snapshot:
        """Write a fleet that `kd.fleet.fetch` returned as a snapshot.

        Its `name` is the instant at which the fetch began, or another one in the same form. What
        `KOODRIVE_PRIVACY` forbids is not written.

        Raises:
            InvalidParameterError: It is no fleet, nothing came of it, or the name is taken or
                unfit.
            SnapshotError: Another writer is at work, or it cannot be written; nothing is published.
            ConfigurationError: A setting of privacy is unfit.
        """
        frames = fleets.frames(fleet)
        facts = fleets.facts(frames)
        if name is not None and not SNAPSHOT_NAME.fullmatch(str(name)):
            raise InvalidParameterError(
                f"name= takes an instant in UTC, such as '20251217T083000Z', not {name!r}."
            )
        folder = self._folder()
        with drafts.locked(folder, self._place):
            # Apart from the draft of a sweep, which may go on later.
            draft = drafts.begin(folder / ".writing", self._place, {}, facts, restart=True)
            draft.add(0, frames)
            return draft.publish({}, fleets.ledger(fleet), name=name)

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
                folder / drafts.NAME, self._place, question, facts or {}, restart=restart
            )

    def _folder(self) -> Path:
        if self._drafts is None:
            raise InvalidParameterError(
                "To write to a URI, say where the draft is to lie on this machine: "
                "Snapshots(uri, drafts='folder')."
            )
        return self._drafts

    def _chosen(self, snapshot: object) -> Sequence[Snapshot]:
        return choosing.chosen(self._place, snapshot, self._drafts)


def _told(frame: pd.DataFrame, chosen: Sequence[Snapshot]) -> pd.DataFrame:
    frame.attrs = {streams.ATTRS: choosing.facts(chosen)}
    return frame
