"""Which of many records fit a question, found fast enough to draw while somebody waits.

The answers are those of `kd.analysis.select`; what is slow about it for a million records, words
and copies, is done once.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cached_property
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np
import pandas as pd

from koodrive_nb import settings
from koodrive_nb.analysis import arguments, rules
from koodrive_nb.analysis.holdings import DEVICE, NEEDED_OF_DEVICES
from koodrive_nb.analysis.protection import protection_status
from koodrive_nb.analysis.selection import SEARCHED, Question, holds
from koodrive_nb.analysis.states import classify
from koodrive_nb.columns import STRING, categories
from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from koodrive_nb.analysis.arguments import StuckAfter

    Mask = np.ndarray[Any, np.dtype[np.bool_]]

_REPEATED = ("user_id", "device_id", "device_label", "module_code", "device_name", "device_os")
_NEEDED = (
    *_REPEATED,
    *("record_id", "module", "state", "stuck_reason", "stuck_after_s", "os_family", "status_code"),
    *("create_time", "end_time", "duration_s", "as_of", "fetched_at", "source"),
    "device_create_time",
)
_WORST_FIRST = ("stuck", "unknown", "in_progress", "to_be_deleted", "completed")
_NAMED = ("device_id", "device_label")
_JUDGED = (
    *(*DEVICE, "device_label", "os_family", "state", "cause"),
    *("rpo_age_h", "last_completed_time", "stuck_in_a_row"),
)
_WORDS = {"module": rules.MODULE_LABELS, "state": rules.STATES, "os_family": rules.OS_FAMILIES}
_OWN = "record_id"
"""The text that every record has for itself."""


class Selector:
    """Records, classified once, with the devices that they are of and those without any.

    `frame` is what `kd.analysis.classify` gives, `devices` has a row for each device, the worst
    protected first, with the columns of `kd.analysis.protection_status`, those missing that it does
    not judge.

    Raises:
        InvalidParameterError: The records are no pandas frame, columns are missing, or an argument
            is not what `kd.analysis.classify` takes.
    """

    def __init__(
        self,
        records: Any,
        devices: Any,
        *,
        as_of: object,
        tz: str | None,
        stuck_after: StuckAfter,
    ) -> None:
        if not isinstance(records, pd.DataFrame):
            raise InvalidParameterError(
                f"A form takes records as a pandas frame, not {type(records).__name__}: "
                "client.records() gives one; of others, take a part to pandas."
            )
        self.zone = settings.display_zone(tz)
        self.frame = classify(records, as_of=as_of, stuck_after=stuck_after)
        rules.lazy(self.frame, (*_NEEDED, *SEARCHED))
        if devices is not None and not isinstance(devices, pd.DataFrame):
            devices = rules.collect(rules.lazy(devices, NEEDED_OF_DEVICES, "devices"))
        self._listed: pd.DataFrame | None = devices
        self.oldest = self.frame["create_time"].min()
        newest = self.frame["as_of"].max()
        is_known = isinstance(newest, pd.Timestamp) and newest.year in arguments.YEARS
        self.newest: pd.Timestamp | None = newest if is_known else None
        self.narrow = _narrowed(self.frame)
        status = (
            protection_status(self.frame, devices, tz=tz)
            if as_of is None
            else protection_status(records, devices, as_of=as_of, tz=tz, stuck_after=stuck_after)
        )
        # Whatever else a list of devices carries along could have any name.
        self._number_devices(status[list(_JUDGED)].rename(columns={"state": "protection"}))
        self._texts: tuple[str, Mask] | None = None
        self._part: tuple[Mask, pd.DataFrame] | None = None

    def _number_devices(self, status: pd.DataFrame) -> None:
        """List the devices of the records and those that are judged, and number both alike."""
        grouped = self.narrow.groupby(list(DEVICE), sort=False, observed=True)
        group = grouped.ngroup().fillna(-1).to_numpy("int64")
        _, first = np.unique(group[group >= 0], return_index=True)
        told = [*DEVICE, "device_label", "os_family"]
        own = self.narrow.loc[group >= 0, told].iloc[first].astype(dict.fromkeys(told, "object"))
        own["group"] = np.arange(len(own))
        status = status.astype(dict.fromkeys(DEVICE, "object")).assign(rank=np.arange(len(status)))
        devices = status.merge(own, on=list(DEVICE), how="outer", suffixes=("", "_own"))
        devices = devices.sort_values("rank", kind="stable").reset_index(drop=True)
        # Devices are not judged of which no record has a time.
        for name in ("device_label", "os_family"):
            label = devices[name].astype("object")
            devices[name] = label.where(label.notna(), devices[f"{name}_own"])
        self.has_records = devices["group"].notna().to_numpy()
        numbers = np.full(len(own) + 1, -1)
        has_records = np.flatnonzero(self.has_records)
        numbers[devices["group"].to_numpy()[has_records].astype("int64")] = has_records
        self.device_numbers = numbers[group]
        own_columns = ["rank", "group", "device_label_own", "os_family_own"]
        texts = dict.fromkeys(told, STRING)
        self.devices = devices.drop(columns=own_columns).astype(texts)

    def labels(self) -> dict[str, str]:
        """Give for each device id what the device is called, those of no user included."""
        records = self.narrow.drop_duplicates("device_id").dropna(subset="device_id")
        every = pd.concat([records[list(_NAMED)], self.devices[list(_NAMED)]]).astype(STRING)
        return dict(zip(every["device_id"], every["device_label"], strict=True))

    def fits(self, question: Question, without: Collection[str] = ()) -> Mask:
        """Tell for each record whether it fits, leaving out some of what is asked."""
        mask = np.ones(len(self.frame), dtype=bool)
        chosen = {name: words for name, words in question.chosen.items() if name not in without}
        for name in ("module", "state", "os_family", *DEVICE):
            if name in chosen:
                column = self.narrow[name].cat
                is_chosen = np.append(column.categories.isin(chosen[name]), False)
                mask &= is_chosen[column.codes.to_numpy()]
        judged = ("protection", "cause")
        asked: dict[str, list[str]] = {name: chosen[name] for name in judged if name in chosen}
        if asked:
            mask &= np.append(self._devices_that(asked), False)[self.device_numbers]
        first, end = self.window(question)
        created = self.narrow["create_time"]
        if first is not None:
            mask &= (created >= first).to_numpy()
        if end is not None:
            mask &= (created < end).to_numpy()
        if question.text is not None:
            mask &= self._holds(question.text)
        return mask

    def listed(self, numbers: np.ndarray[Any, Any]) -> pd.DataFrame | None:
        """Give these devices as the list of devices has them; None where it has none of them."""
        if self._listed is None or not len(numbers):
            return None
        pairs = [frame[list(DEVICE)] for frame in (self.devices.iloc[numbers], self._listed)]
        wanted, known = map(pd.MultiIndex.from_frame, pairs)
        return self._listed[known.isin(wanted)]

    def window(self, question: Question) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
        """Give the edges of the time that is asked for; None leaves a side open."""
        return question.window(self.zone.key, self.newest)

    def devices_that_fit(self, question: Question) -> Mask:
        """Tell for each device whether it fits, whatever is asked of its records."""
        of_records = {"module", "state"}
        chosen = question.chosen
        return self._devices_that({name: chosen[name] for name in chosen if name not in of_records})

    def _devices_that(self, asked: Mapping[str, Sequence[str]]) -> Mask:
        mask = np.ones(len(self.devices), dtype=bool)
        for name, words in asked.items():
            mask &= self.devices[name].isin(words).to_numpy()
        return mask

    def _holds(self, text: str) -> Mask:
        if self._texts is None or self._texts[0] != text:
            ids = nw.from_native(self.frame[[_OWN]]).select(found=holds(text, [_OWN]))
            mask = ids["found"].to_numpy().astype(bool)
            for name, (codes, texts) in self._dictionaries.items():
                found = nw.from_native(texts.to_frame(name)).select(found=holds(text, [name]))
                mask |= np.append(found["found"].to_numpy().astype(bool), False)[codes]
            self._texts = text, mask
        return self._texts[1]

    @cached_property
    def _dictionaries(self) -> dict[str, tuple[np.ndarray[Any, Any], pd.Series[Any]]]:
        names = [name for name in SEARCHED if name != _OWN]
        found = {name: pd.factorize(self.frame[name]) for name in names}
        return {name: (codes, pd.Series(texts)) for name, (codes, texts) in found.items()}

    def devices_in(self, mask: Mask) -> Mask:
        """Tell for each device whether one of these records is of it."""
        # Records without a device have the number -1.
        counts = np.bincount(self.device_numbers[mask] + 1, minlength=len(self.devices) + 1)
        return counts[1:] > 0

    def part(self, mask: Mask) -> pd.DataFrame:
        """Give the records of a mask, with what figures need; twice the same mask costs once."""
        if self._part is None or self._part[0] is not mask:
            self._part = mask, self.narrow if mask.all() else self.narrow[mask]
        return self._part[1]

    def take(self, mask: Mask) -> pd.DataFrame:
        """Give the records of a mask, classified, as `kd.analysis.select` gives them."""
        kept = self.frame[mask].copy()
        kept.attrs = deepcopy(self.frame.attrs)
        return kept

    @cached_property
    def worst_first(self) -> np.ndarray[Any, np.dtype[np.intp]]:
        """The places of all records: the stuck ones first, of them the longest open ones."""
        column = self.narrow["state"].cat
        severity = [_WORST_FIRST.index(state) for state in column.categories]
        of_record = np.append(severity, len(_WORST_FIRST))[column.codes.to_numpy()]
        created = self.narrow["create_time"]
        at = created.astype("int64").to_numpy()
        at = np.where(of_record <= _WORST_FIRST.index("in_progress"), at, -at)
        # Those without a time are last of their state.
        return np.lexsort((np.where(created.isna(), np.iinfo("int64").max, at), of_record))


def _narrowed(frame: pd.DataFrame) -> pd.DataFrame:
    """Give what figures and tables need, texts that repeat as numbered categories."""
    narrow = frame[list(_NEEDED)].reset_index(drop=True)
    for name in _REPEATED:
        # In order, since the newest label of a device is the greatest.
        narrow[name] = narrow[name].astype("category").cat.as_ordered()
    for name, words in _WORDS.items():
        # Other engines give words back as text.
        kind = categories(words)
        if narrow[name].dtype != kind:
            known = narrow[name].astype(STRING)
            narrow[name] = known.where(known.isin(words)).astype(kind)
    return narrow
