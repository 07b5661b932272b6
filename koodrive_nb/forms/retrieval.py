"""Fetching for a form, part by part: what came is kept, what did not can be asked for again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb import progress
from koodrive_nb.columns import STRING, columns
from koodrive_nb.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailedError,
    IncompleteError,
    KooDriveError,
)
from koodrive_nb.streams import ATTRS, Failure, ledger
from koodrive_nb.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from koodrive_nb.client import Client

_BATCH = 200
_ERROR_CHARACTERS = 500
_NOT_ASKED = "not asked, because others failed"
_STOPPED = "stopped, because others failed"
FOR_ALL = (AuthenticationError, ConfigurationError, ConnectionFailedError)
_FOR_ALL_NAMES = tuple(kind.__name__ for kind in FOR_ALL)


class Retrieval(ABC):
    """What is asked for, what came, and what is left of it.

    `run` asks for all that is left, and stops where the rest would fail likewise.
    """

    unit = "record ids"

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.not_found: tuple[str, ...] = ()
        # In the order that was asked for, which setting a key again keeps.
        self._failures: dict[str | None, list[Failure]] = {}

    @property
    @abstractmethod
    def total(self) -> int:
        """How many parts are asked for."""

    @property
    @abstractmethod
    def n_done(self) -> int:
        """How many parts are settled: they came, or are known not to be there."""

    @property
    @abstractmethod
    def records(self) -> pd.DataFrame:
        """What came, in the order it was asked for."""

    @property
    def failures(self) -> pd.DataFrame:
        """What did not come and why, as in `IncompleteError.failures`."""
        rows = [failure for part in self._failures.values() for failure in part]
        table = pd.DataFrame(rows, columns=list(Failure.__annotations__))
        return table.astype(
            {
                **dict.fromkeys(("user_id", "what", "error"), STRING),
                "retryable": "bool",
                "retry_after_s": "float64",
            }
        )

    def run(self, client: Client, tell: Callable[[int], None]) -> None:
        """Ask for what is left, with a client of the user; `tell` how many parts are settled.

        What raises KeyboardInterrupt leaves what came before it.
        """
        with progress.hidden():
            for goes_on in self._steps(client):
                if not goes_on:
                    return
                tell(self.n_done)

    @abstractmethod
    def _steps(self, client: Client) -> Iterator[bool]:
        """Ask step by step; give after each whether it makes sense to go on."""

    def _failed(self, what: str, error: str, *, retryable: bool = True) -> list[Failure]:
        return [
            Failure(
                user_id=self.user_id,
                what=what,
                error=error,
                retryable=retryable,
                retry_after_s=None,
            )
        ]


class ById(Retrieval):
    """Records by their ids, some hundred at a time."""

    def __init__(self, user_id: str, ids: Sequence[str]) -> None:
        super().__init__(user_id)
        self._ids = list(ids)
        self._frames: list[pd.DataFrame] = []
        for each in self._ids:
            self._failures[each] = self._failed(f"record {each}", _NOT_ASKED)

    @property
    def total(self) -> int:
        """How many ids."""
        return len(self._ids)

    @property
    def n_done(self) -> int:
        """How many of them came, or are not there."""
        return len(self._ids) - len(self._failures)

    @property
    def records(self) -> pd.DataFrame:
        """What came, in the order of the ids."""
        frame = joined(self._frames)
        if len(self._frames) > 1:
            places = {identity: place for place, identity in enumerate(frame["record_id"])}
            order = [places[identity] for identity in self._ids if identity in places]
            frame = frame.iloc[order].reset_index(drop=True)
        return frame

    def _steps(self, client: Client) -> Iterator[bool]:
        # Those that failed before come last, lest they end it again for the others.
        left = sorted(
            (each for each in self._ids if each in self._failures),
            key=lambda each: self._failures[each][0]["error"] != _NOT_ASKED,
        )
        missing = set(self.not_found)
        for start in range(0, len(left), _BATCH):
            batch = left[start : start + _BATCH]
            try:
                # Collected, each failure tells its own reason, also where nothing came.
                frame = client.records_by_id(batch, errors="collect")
            except KooDriveError as error:
                for each in batch:
                    self._failures[each] = self._failed(
                        f"record {each}", _told(error), retryable=error.retryable
                    )
                yield False
                return
            failed = {
                failure["what"].removeprefix("record "): failure
                for failure in ledger(frame).attrs["failures"]
            }
            came = set(frame["record_id"])
            missing |= {
                each for each, why in failed.items() if why["error"].startswith("NotFoundError")
            }
            if came:
                self._frames.append(frame)
            for each in batch:
                if each in came or each in missing:
                    del self._failures[each]
                elif each in failed:
                    self._failures[each] = [failed[each]]
                else:
                    unfit = "ProtocolError: the answer is no record that can be read"
                    self._failures[each] = self._failed(f"record {each}", unfit, retryable=False)
            self.not_found = tuple(each for each in self._ids if each in missing)
            yield not any(_is_for_all(failure["error"]) for failure in failed.values())


class OfUser(Retrieval):
    """All records of a user, or those of some devices, a device at a time."""

    unit = "devices"

    def __init__(self, user_id: str, device_ids: Sequence[str]) -> None:
        super().__init__(user_id)
        self.device_ids = tuple(dict.fromkeys(device_ids))
        self._parts: tuple[str | None, ...] = self.device_ids or (None,)
        self._frames: dict[str | None, pd.DataFrame] = {}
        self._left: dict[str | None, IncompleteError | None] = dict.fromkeys(self._parts)
        for part in self._parts:
            self._failures[part] = self._failed(self._name(part), _NOT_ASKED)

    @property
    def total(self) -> int:
        """How many devices, or 1 for all at once."""
        return len(self._parts)

    @property
    def n_done(self) -> int:
        """How many of them came in full."""
        return len(self._parts) - len(self._left)

    @property
    def records(self) -> pd.DataFrame:
        """What came, device after device."""
        return joined([self._frames[part] for part in self._parts if part in self._frames])

    def _steps(self, client: Client) -> Iterator[bool]:
        for part, rest in list(self._left.items()):
            try:
                if rest is not None:
                    self._frames[part] = rest.resume(client)
                elif part is None:
                    self._frames[part] = client.records()
                else:
                    self._frames[part] = client.records(device_id=part)
            except IncompleteError as error:
                self._left[part] = error
                self._frames[part] = error.frame
                rows: list[Any] = error.failures.to_dict("records")
                self._failures[part] = rows
                yield not any(map(_is_for_all, error.failures["error"]))
            except KooDriveError as error:
                self._failures[part] = self._failed(
                    self._name(part), _told(error), retryable=error.retryable
                )
                yield not isinstance(error, FOR_ALL)
            else:
                del self._failures[part], self._left[part]
                yield True

    def _name(self, part: str | None) -> str:
        return "all records" if part is None else f"device {part}"


def joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join what several fetches brought: one alone keeps its ledger."""
    if not frames:
        return nothing()
    if len(frames) == 1:
        return frames[0]
    whole = pd.concat(frames, ignore_index=True)
    told: list[dict[str, Any]] = [frame.attrs[ATTRS] for frame in frames]
    whole.attrs = {
        ATTRS: {
            "source": told[0]["source"],
            "complete": all(each["complete"] for each in told),
        }
    }
    return whole


def nothing() -> pd.DataFrame:
    """Give records of which there are none, with all columns."""
    return pd.DataFrame(
        {column.name: pd.Series([], dtype=column.dtype) for column in columns("records")}
    )


def _told(error: KooDriveError) -> str:
    return f"{type(error).__name__}: {one_line(error, _ERROR_CHARACTERS)}"


def _is_for_all(error: str) -> bool:
    return error.startswith((*_FOR_ALL_NAMES, _STOPPED))
