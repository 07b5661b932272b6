"""Some of the records, by what an analyst asks for, each in the state it has among all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import reduce
from itertools import count
from operator import or_
from typing import TYPE_CHECKING, Any, TypeVar

import narwhals as nw
import pandas as pd

from koodrive_nb import settings
from koodrive_nb.analysis import arguments, holdings, rules
from koodrive_nb.analysis.protection import judged_devices
from koodrive_nb.analysis.states import classify
from koodrive_nb.columns import MODULES
from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from typing import Self

    from koodrive_nb.analysis.arguments import StuckAfter

Frame = TypeVar("Frame")

SEARCHED = (
    "device_name",
    "device_os",
    "machine_code",
    "record_id",
    "device_id",
    "user_id",
    "properties",
)
_WORDS: Mapping[str, Mapping[str, str]] = {
    "module": {label: label for label in rules.MODULE_LABELS} | dict(MODULES),
    "state": {state: state for state in rules.STATES},
    "os_family": {family: family for family in rules.OS_FAMILIES},
    "protection": {state: state for state in rules.PROTECTION},
    "cause": {cause: cause for cause in rules.CAUSES},
}
_IDS = ("device_id", "user_id")
_OTHERS = ("since", "until", "text")
# What a device is judged to be, and the column that says so.
_JUDGED = {"protection": "state", "cause": "cause"}
_UNIT_SEPARATOR = 0x1F


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of records: `chosen` has the words for each column that is asked about."""

    chosen: Mapping[str, list[str]]
    since: object
    until: object
    text: str | None

    @classmethod
    def read(cls, asked: Mapping[str, Any]) -> Self:
        """Read it from the keywords of `select`; what is None is not asked.

        Raises:
            InvalidParameterError: A keyword or a word is not known, an id is no text, or `text`
                cannot be any.
        """
        for name in asked:
            if name not in (*_WORDS, *_IDS, *_OTHERS):
                known = ", ".join((*_WORDS, *_IDS, *_OTHERS))
                raise InvalidParameterError(f"There is no {name}= to select by: use {known}.")
        given = {name: value for name, value in asked.items() if value is not None}
        chosen = {name: _words(name, given[name]) for name in _WORDS if name in given}
        chosen |= {name: _ids(name, given[name]) for name in _IDS if name in given}
        text = given.get("text")
        if text is not None and (not isinstance(text, str) or not _can_be_stored(text) or not text):
            raise InvalidParameterError(
                f"text= takes the text to look for, or nothing to keep all records, not {text!r}."
            )
        return cls(chosen, given.get("since"), given.get("until"), text)

    def window(
        self, zone: str, newest: pd.Timestamp | None
    ) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
        """Give the edges of the creation time, of records whose newest "now" is this.

        Raises:
            InvalidParameterError: `since` or `until` is no time, or nothing lies between them.
        """
        return arguments.window(self.since, self.until, zone, newest)


def select(  # noqa: PLR0913 -- each is a question of its own, and keyword-only
    records: Frame,
    *,
    module: str | Iterable[str] | None = None,
    state: str | Iterable[str] | None = None,
    device_id: str | Iterable[str] | None = None,
    user_id: str | Iterable[str] | None = None,
    os_family: str | Iterable[str] | None = None,
    protection: str | Iterable[str] | None = None,
    cause: str | Iterable[str] | None = None,
    devices: Any = None,
    since: object = None,
    until: object = None,
    text: str | None = None,
    as_of: object = None,
    tz: str | None = None,
    stuck_after: StuckAfter = "auto",
) -> Frame:
    """Classify the records, then keep those that fit all that is asked.

    The frame is of the kind that came in, with the columns that `kd.analysis.classify` adds, its
    rows in their order (DuckDB and Spark know none). All records are classified before any is left
    out, so that a filter never changes a state.

    `module` (label or code), `state`, `device_id`, `user_id`, `os_family`, `protection` and `cause`
    take one value or several; an empty list fits nothing. `since` and `until` (not included) bound
    the creation time, in `tz` where they name no zone; a duration such as "14D" for `since` counts
    back from `until`, or from the newest "now" of the records given. `text` is looked for as it
    stands, whether upper or lower case, in device name, system and id, machine code, record id,
    user id and properties. What is missing fits nothing.

    `protection` and `cause` keep all records of the devices that `kd.analysis.protection_status`
    judges so by itself, of all the records given: ask for them together with the rest, not of what
    another filter left. `devices`, those that are bound, tells which are not, and which were bound
    lately; without it none is unbound. Left out are records without a device, and those of a
    device that is not in `devices` and of which no record has a creation time that its "now" can
    know.

    Raises:
        InvalidParameterError: A column is missing, a word is not known, an id is no text, or an
            argument is not what this takes.
    """
    zone = settings.display_zone(tz).key
    asked: dict[str, Any] = {"module": module, "state": state, "os_family": os_family, "text": text}
    asked |= {"device_id": device_id, "user_id": user_id, "since": since, "until": until}
    question = Question.read(asked | {"protection": protection, "cause": cause})
    classified = classify(records, as_of=as_of, stuck_after=stuck_after)
    frame = rules.lazy(classified, SEARCHED if text is not None else ())
    chosen = dict(question.chosen)
    judged = {column: chosen.pop(name) for name, column in _JUDGED.items() if name in chosen}
    fits = [nw.col(name).is_in(values) for name, values in chosen.items()]
    if devices is not None:
        rules.lazy(devices, holdings.NEEDED_OF_DEVICES, "devices")
    if judged:
        status = judged_devices(classified, devices, as_of)
        fits.append(_is_of(status[status[list(judged)].isin(judged).all(axis=1)]))
    first, end = question.window(zone, _newest_now(frame) if since is not None else None)
    if first is not None:
        fits.append(nw.col("create_time") >= nw.lit(first.to_pydatetime()))
    if end is not None:
        fits.append(nw.col("create_time") < nw.lit(end.to_pydatetime()))
    if text is not None:
        fits.append(holds(text, SEARCHED))
    native: Any = classified
    kept: Any = nw.from_native(native).filter(*fits).to_native() if fits else native
    if isinstance(kept, pd.DataFrame):
        # What is left of a frame is a view to pandas, which warns when a column is added to it.
        kept = kept.copy()
        kept.attrs = deepcopy(native.attrs)
    return kept  # type: ignore[no-any-return]  # the engine that came in


def _newest_now(frame: nw.LazyFrame[Any]) -> pd.Timestamp | None:
    newest = rules.collect(frame.select(nw.col("as_of").max()))["as_of"].iloc[0]
    return newest if isinstance(newest, pd.Timestamp) else None


def _is_of(devices: pd.DataFrame) -> nw.Expr:
    """Tell which records are of one of these devices; two users may have one of the same id."""
    # What stands between two ids is in none of them, so that no other two give the same text.
    known = devices[list(holdings.DEVICE)].dropna()
    users, ids = (known[name].tolist() for name in holdings.DEVICE)
    signs = set("".join([*users, *ids]))
    separator = next(sign for sign in map(chr, count(_UNIT_SEPARATOR)) if sign not in signs)
    pairs = [f"{user}{separator}{identity}" for user, identity in zip(users, ids, strict=True)]
    return nw.concat_str(*holdings.DEVICE, separator=separator).is_in(pairs)


def _words(name: str, value: object) -> list[str]:
    known = _WORDS[name]
    words = []
    for one in _several(value):
        if not isinstance(one, str) or one not in known:
            raise InvalidParameterError(
                f"{name}= takes {', '.join(known)}, or several of them in a list, not {one!r}."
            )
        words.append(known[one])
    return words


def _ids(name: str, value: object) -> list[str]:
    found = []
    for one in _several(value):
        if not isinstance(one, str) or not _can_be_stored(one):
            raise InvalidParameterError(
                f"{name}= takes ids as text, in quotes, or several of them in a list, not {one!r}: "
                "as numbers ids lose digits, and what is missing fits nothing."
            )
        found.append(one)
    return found


def _several(value: object) -> list[object]:
    is_list = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    return list(value) if is_list else [value]  # type: ignore[call-overload]  # iterable


def _can_be_stored(text: str) -> bool:
    # Half of a surrogate pair is text to Python alone.
    return text.encode("utf-8", "ignore").decode() == text


def holds(text: str, names: Iterable[str]) -> nw.Expr:
    """Tell where one of these columns holds a text, whether upper or lower case."""

    def look(name: str) -> nw.Expr:
        column = nw.col(name).cast(nw.String)
        found = column.str.to_lowercase().str.contains(text.lower(), literal=True)
        if not text.isascii():
            # Engines differ in a few lower-case letters; what is written the same is the same.
            found = found | column.str.contains(text, literal=True)
        return found.fill_null(value=False)

    return reduce(or_, map(look, names))
