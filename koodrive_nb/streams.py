"""How a frame was fetched: one line for each stream of pages."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypedDict

import pandas as pd

from koodrive_nb import privacy
from koodrive_nb.columns import STRING, TIME
from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence

ATTRS = "koodrive"
"""The key in `DataFrame.attrs`. pandas copies attrs deeply, so only plain values go there."""

_COMPLETE = ("no cursor", "single answer", "filter ignored", "filter unproven")

_TYPES = dict.fromkeys(("source", "user_id", "dataset", "module", "ended"), STRING) | {
    "fetched_at": TIME
}

_kept: dict[str, tuple[Stream, ...]] = {}
_MOST_KEPT = 10_000
_lock = threading.Lock()


class Failure(TypedDict):
    """A part of a fetch that did not come, in plain values."""

    user_id: str
    what: str
    error: str
    retryable: bool
    retry_after_s: float | None


@dataclass(slots=True, repr=False)
class Stream:
    """One listing, or one single answer: what was asked, and what came of it.

    `given` are values that the rows do not carry, since they were in the question; `labels` marks
    a listing that was read only to learn the device of records.
    """

    source: str
    user_id: str
    dataset: str
    module: str | None = None
    given: dict[str, str] = field(default_factory=dict)
    labels: bool = False
    fetched_at: pd.Timestamp | None = None
    pages: int = 0
    rows: int = 0
    duplicates: int = 0
    coerced: int = 0
    ended: str = "not started"
    set_aside: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether the service said that there is no more."""
        return self.ended in _COMPLETE

    def line(self) -> dict[str, Any]:
        """Give its line in the ledger."""
        return {
            "source": self.source,
            "user_id": self.user_id,
            "dataset": "device labels" if self.labels else self.dataset,
            "module": self.module,
            "pages": self.pages,
            "rows": self.rows,
            "duplicates": self.duplicates,
            "set_aside": len(self.set_aside),
            "coerced": self.coerced,
            "ended": self.ended,
            "complete": self.is_complete,
            "fetched_at": self.fetched_at,
        }

    def begin_again(self) -> None:
        """Forget what came so far."""
        self.pages = self.rows = self.duplicates = self.coerced = 0
        self.ended = "not started"
        self.set_aside.clear()


def merged(streams: Sequence[Stream]) -> Stream:
    """Add streams of one kind up, so that a question for each of many ids is one line."""
    first = streams[0]
    times = [stream.fetched_at for stream in streams if stream.fetched_at is not None]
    return replace(
        first,
        given={},
        fetched_at=min(times, default=None),
        pages=sum(stream.pages for stream in streams),
        rows=sum(stream.rows for stream in streams),
        duplicates=sum(stream.duplicates for stream in streams),
        coerced=sum(stream.coerced for stream in streams),
        ended=next((stream.ended for stream in streams if not stream.is_complete), first.ended),
        set_aside=[text for stream in streams for text in stream.set_aside],
        failures=[failure for stream in streams for failure in stream.failures],
    )


def keep(streams: Sequence[Stream]) -> dict[str, object]:
    """Remember how a frame was fetched and give what belongs into its `attrs`."""
    # attrs travel in Parquet files and pickles: a counter would name another process's fetch.
    identity = secrets.token_hex(8)
    with _lock:
        _keep(identity, streams)
    return {
        "source": streams[0].source,
        "complete": all(stream.is_complete for stream in streams),
        "ledger_id": identity,
    }


def _keep(identity: str, streams: Sequence[Stream]) -> None:
    # What comes later, when a fetch goes on, is not of this frame.
    _kept[identity] = tuple(merged([stream]) for stream in streams)
    if len(_kept) > _MOST_KEPT:
        del _kept[next(iter(_kept))]


def ledger(frame: pd.DataFrame) -> pd.DataFrame:
    """Tell how a frame was fetched, one row per stream of pages.

    Columns: `source`, `user_id`, `dataset`, `module`, `pages` and `rows` received, `duplicates`
    dropped, `set_aside` (rows without a usable id; their text is in `attrs["set_aside"]`, unless
    `KOODRIVE_PRIVACY` forbids it),
    `coerced` (values that were bent to fit, such as a time without a zone taken as UTC), `ended`
    (why the stream ended), `complete`, `fetched_at`. What failed is in `attrs["failures"]`, a
    list of dicts. The dataset "device labels" is a listing by device, read to learn which device
    records belong to that do not say so.

    Raises:
        InvalidParameterError: The frame no longer says where it came from. pandas drops that when
            frames of different fetches are joined, and it does not outlive the Python process.
    """
    identity = frame.attrs.get(ATTRS, {}).get("ledger_id")
    if identity not in _kept:
        raise InvalidParameterError(
            "This frame does not say how it was fetched: ask for the ledger of the frame that the "
            "client returned, in the same session, before it is joined with another."
        )
    streams = _kept[identity]
    lines = [one.line() for one in streams]
    table = pd.DataFrame(
        {
            name: pd.Series([line[name] for line in lines], dtype=_TYPES.get(name))
            for name in lines[0]
        }
    )
    table = privacy.protect(table)
    table.attrs["failures"] = [failure for stream in streams for failure in stream.failures]
    # Nobody knows whom rows name that could not be read.
    has_names = privacy.mode() == "names"
    table.attrs["set_aside"] = [text for one in streams for text in one.set_aside if has_names]
    return table
