"""How a frame was fetched: one line for each stream of pages."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence

ATTRS = "koodrive"
"""The key in `DataFrame.attrs`. pandas copies attrs deeply, so only plain values go there."""

_kept: dict[str, tuple[Stream, ...]] = {}
_MOST_KEPT = 10_000


@dataclass(slots=True)
class Stream:
    """One listing, or one single answer: what was asked, and what came of it."""

    source: str
    user_id: str
    dataset: str
    module: str | None
    fetched_at: pd.Timestamp
    pages: int = 0
    rows: int = 0
    duplicates: int = 0
    coerced: int = 0
    ended: str = "not started"
    set_aside: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether the service said that there is no more."""
        return self.ended in {"no cursor", "single answer"}


def keep(streams: Sequence[Stream]) -> dict[str, object]:
    """Remember how a frame was fetched and give what belongs into its `attrs`."""
    # attrs travel in Parquet files and pickles: a counter would name another process's fetch.
    identity = secrets.token_hex(8)
    _kept[identity] = tuple(streams)
    if len(_kept) > _MOST_KEPT:
        del _kept[next(iter(_kept))]
    return {
        "source": streams[0].source,
        "complete": all(stream.is_complete for stream in streams),
        "ledger_id": identity,
    }


def ledger(frame: pd.DataFrame) -> pd.DataFrame:
    """Tell how a frame was fetched, one row per stream of pages.

    Columns: `source`, `user_id`, `dataset`, `module`, `pages` and `rows` received, `duplicates`
    dropped, `set_aside` (rows without a usable id; their text is in `attrs["set_aside"]`),
    `coerced` (values that were bent to fit, such as a time without a zone taken as UTC), `ended`
    (why the stream ended), `complete`, `fetched_at`.

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
    table = pd.DataFrame(
        {
            "source": [stream.source for stream in streams],
            "user_id": [stream.user_id for stream in streams],
            "dataset": [stream.dataset for stream in streams],
            "module": [stream.module for stream in streams],
            "pages": [stream.pages for stream in streams],
            "rows": [stream.rows for stream in streams],
            "duplicates": [stream.duplicates for stream in streams],
            "set_aside": [len(stream.set_aside) for stream in streams],
            "coerced": [stream.coerced for stream in streams],
            "ended": [stream.ended for stream in streams],
            "complete": [stream.is_complete for stream in streams],
            "fetched_at": [stream.fetched_at for stream in streams],
        }
    )
    table.attrs["set_aside"] = [text for stream in streams for text in stream.set_aside]
    return table
