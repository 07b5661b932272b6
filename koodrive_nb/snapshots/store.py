"""A folder of snapshots: written one by one, never changed, read one by one or all together."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import narwhals as nw
import pandas as pd

from koodrive_nb import privacy, streams
from koodrive_nb.columns import STRING, TIME
from koodrive_nb.errors import InvalidParameterError, SnapshotError
from koodrive_nb.snapshots import drafts, layouts, reading, scans
from koodrive_nb.snapshots.locations import SNAPSHOT_NAME, Location

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from koodrive_nb.snapshots.drafts import Draft
    from koodrive_nb.snapshots.manifests import Snapshot

    Dataset = Literal["records", "devices", "users"]

_COUNTS = ("users", "partial", "failed", "devices", "records", "sampled_of")


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

    def __repr__(self) -> str:
        names = self._names()
        newest = f", newest {names[-1]}" if names else ""
        return f"Snapshots({len(names):,}{newest})"

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
        found = [each for name in self._names() if (each := reading.published(self._place, name))]
        facts = [each.manifest for each in found]
        sizes = [sum(file["bytes"] for file in each["files"].values()) for each in facts]
        times = {
            name: pd.Series(
                pd.to_datetime([each[name] for each in facts], utc=True, format="ISO8601"),
                dtype=TIME,
            )
            for name in ("began_at", "ended_at")
        }
        return pd.DataFrame(
            {
                "snapshot": pd.Series([each.name for each in found], dtype=STRING),
                **times,
                "source": pd.Series([each["source"] for each in facts], dtype=STRING),
                "complete": pd.Series([each["complete"] for each in facts], dtype=bool),
                **{
                    name: pd.Series([each[name] for each in facts], dtype="Int64")
                    for name in _COUNTS
                },
                "bytes": pd.Series(sizes, dtype="Int64"),
            }
        )

    def read(self, dataset: Dataset = "records", snapshot: str = "newest") -> pd.DataFrame:
        """Read a dataset into pandas, with the types and in the order of the client.

        `dataset` is records, devices or users, `snapshot` "newest", a name of `list()`, or "all",
        which adds a column `snapshot`: there, a record comes once for each snapshot that has it.
        Every page of the files is verified by its checksum.

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
        protected = privacy.protect(frame)
        if dataset == "users" and all(each.manifest["privacy"] != "names" for each in chosen):
            # They tell no more than was allowed then.
            protected = protected.assign(error=frame["error"])
        protected.attrs = {streams.ATTRS: _facts(chosen)}
        return protected

    def scan(
        self,
        dataset: Dataset = "records",
        snapshot: str = "newest",
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
        chosen = self._chosen(snapshot)
        frames = scans.frames(self._place, chosen, dataset, engine)
        if snapshot != "all":
            return frames[0].to_native()
        named = [
            frame.with_columns(snapshot=nw.lit(each.name))
            for frame, each in zip(frames, chosen, strict=True)
        ]
        # Of one list of users to the next, columns come and go.
        return nw.concat(named, how="diagonal").to_native()

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
        frames = _protected(fleet)
        times = pd.concat([frame["fetched_at"] for frame in frames.values()]).dropna()
        sources = {*frames["records"]["source"].dropna(), *frames["devices"]["source"].dropna()}
        known = fleet.users.attrs.get(streams.ATTRS, {}).get("source")
        if times.empty or len(sources | {known} - {None}) != 1:
            raise InvalidParameterError(
                "Of this fleet nobody knows when, or from which one service, it was fetched: pass "
                "what kd.fleet.fetch() returned."
            )
        if name is not None and not SNAPSHOT_NAME.fullmatch(str(name)):
            raise InvalidParameterError(
                f"name= takes an instant in UTC, such as '20251217T083000Z', not {name!r}."
            )
        facts = {
            "began_at": times.min().isoformat(),
            "ended_at": times.max().isoformat(),
            "source": sources.pop() if sources else known,
            "privacy": privacy.mode(),
        }
        folder = self._folder()
        with drafts.locked(folder, self._place):
            # Apart from the draft of a sweep, which may go on later.
            draft = drafts.begin(folder / ".writing", self._place, {}, facts, restart=True)
            draft.add(0, frames)
            return draft.publish({}, _ledger(fleet), name=name)

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

    def _chosen(self, snapshot: str) -> Sequence[Snapshot]:
        """Give the snapshots that are meant, the oldest first."""
        if snapshot not in {"newest", "all"}:
            is_name = isinstance(snapshot, str) and SNAPSHOT_NAME.fullmatch(snapshot)
            found = reading.published(self._place, snapshot) if is_name else None
            if found is None:
                raise InvalidParameterError(
                    f"There is no snapshot {snapshot!r} in {self._place.shown}: take a name of "
                    "list(), 'newest' or 'all'."
                )
            return [found]
        each = (reading.published(self._place, name) for name in reversed(self._names()))
        # Those without a manifest are not finished.
        finished = (one for one in each if one is not None)
        chosen = [*finished] if snapshot == "all" else [*islice(finished, 1)]
        if not chosen:
            raise SnapshotError(
                f"There is no snapshot in {self._place.shown} yet: write one with "
                "Snapshots.write(kd.fleet.fetch(...))."
            )
        return chosen[::-1]

    def _names(self) -> Sequence[str]:
        return sorted(self._place.names(), key=_age)


def _age(name: str) -> tuple[str, int]:
    first, _, number = name.partition("-")
    return first, int(number or 1)


def _facts(chosen: Sequence[Snapshot]) -> dict[str, Any]:
    manifests = [each.manifest for each in chosen]
    facts = {
        "source": " and ".join(sorted({each["source"] for each in manifests})),
        "complete": all(each["complete"] for each in manifests),
    }
    samples = {each["sampled_of"] for each in manifests}
    # Of snapshots together it is no more than said where it is the same for all.
    only = samples.pop() if len(samples) == 1 else None
    return facts if only is None else facts | {"sampled_of": only}


def _protected(fleet: Any) -> dict[str, pd.DataFrame]:
    given = {name: getattr(fleet, name, None) for name in layouts.DATASETS}
    frames = {name: frame for name, frame in given.items() if isinstance(frame, pd.DataFrame)}
    if len(frames) < len(given) or any("user_id" not in each for each in frames.values()):
        raise InvalidParameterError(
            f"write() takes a fleet, as kd.fleet.fetch() returns it, not {type(fleet).__name__}."
        )
    protected = {name: privacy.protect(frame) for name, frame in frames.items()}
    users = frames["users"]
    if users["user_id"].astype(str).str.fullmatch(privacy.PSEUDONYM).all():
        # Whoever made them let errors tell no more.
        protected["users"] = protected["users"].assign(error=users["error"])
    return protected


def _ledger(fleet: Any) -> Sequence[dict[Any, Any]]:
    lines: Sequence[dict[Any, Any]] = []
    for frame in (fleet.records, fleet.devices):
        try:
            lines = [*lines, *streams.ledger(frame).to_dict("records")]
        except InvalidParameterError:
            # Fetched in another process: how is not known any more.
            continue
    return lines
