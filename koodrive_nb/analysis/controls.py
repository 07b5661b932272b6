"""What each control of a policy observes, and who is behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import narwhals as nw
import pandas as pd

from koodrive_nb.analysis import (
    adherences,
    headline_counts,
    headlines,
    protection,
    quality,
    rules,
)
from koodrive_nb.analysis.states import classify
from koodrive_nb.analysis.windows import Window
from koodrive_nb.streams import ATTRS
from koodrive_nb.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from koodrive_nb.analysis.policy_files import Policy

_MOST_OFFENDERS = 5
_LONGEST_LABEL = 60
_DEVICE = ("user_id", "device_id", "device_label")
_WINDOW = pd.Timedelta("7D")


@dataclass(frozen=True, slots=True)
class Observed:
    """A value (not a number: unknown), of how many, and how many were left out."""

    value: float = math.nan
    n: int | None = None
    excluded: int | None = None


@dataclass(frozen=True)
class Fleet:
    """What a policy is checked on; each table is made when the first control asks for it."""

    records: Any
    devices: Any
    users: pd.DataFrame | None
    policy: Policy
    window: object
    as_of: pd.Timestamp | None

    def observed(self, control: str) -> Observed:
        """Measure what a control asks for."""
        if control in headline_counts.KPIS:
            return self._kpi(control)
        measure: Callable[[], Observed] = getattr(self, f"_{control}")
        return measure()

    def offenders(self, control: str, limit: float) -> str:
        """Name the worst behind a control that failed, at most five."""
        if control == "users_answered" and self.users is not None:
            lost = self.users[self.users["outcome"] != "complete"]
            return _named(lost["user_id"])
        if control == "data_quality":
            errors = self._errors
            bad = errors[errors["share"] > limit].sort_values("share", ascending=False)
            return _named(bad["rule"])
        counted = {"adherence": self._missed, "settled": self._unsettled}
        if control in counted:
            rows = counted[control]()
            counts = rows.groupby([*_DEVICE], observed=True, sort=False, dropna=False).size()
            worst = counts.sort_values(ascending=False, kind="stable").reset_index()
            return _named(worst["device_label"])
        if control in {"fetch_span", "data_age", "users_answered"}:
            return ""
        status = self._status[self._status["in_scope"]]
        if control == "stuck":
            worst = status.sort_values("stuck_in_a_row", ascending=False, kind="stable")
            return _named(worst.loc[worst["stuck_in_a_row"] > 0, "device_label"])
        states = {
            "never": ("never", "deleting"),
            "outdated": ("outdated",),
            "last_copy_at_risk": ("deleting",),
        }
        is_behind = status["state"].isin(states.get(control, protection.EXPOSED))
        return _named(status.loc[is_behind, "device_label"])

    @cached_property
    def _fetched(self) -> tuple[pd.Timestamp, pd.Timestamp] | None:
        """Give when the first and the last of it were fetched."""
        found = []
        for frame, kind in ((self.records, "records"), (self.devices, "devices")):
            if frame is not None:
                at = nw.col("fetched_at")
                table = rules.lazy(frame, ("fetched_at",), kind).select(a=at.min(), b=at.max())
                first, last = rules.collect(table).iloc[0]
                found += [] if pd.isna(first) else [(first, last)]
        if not found:
            return None
        return min(first for first, _ in found), max(last for _, last in found)

    @cached_property
    def span(self) -> tuple[pd.Timestamp, pd.Timestamp] | object:
        """Give the window, by default the last seven days that all of it knows of."""
        if self.window is not None or self._fetched is None:
            return self.window
        end = self._fetched[0] if self.as_of is None else min(self._fetched[0], self.as_of)
        return end - _WINDOW, end

    @cached_property
    def _options(self) -> dict[str, Any]:
        policy = self.policy
        return {"as_of": self.as_of, "tz": policy.tz, "stuck_after": policy.stuck_after}

    @cached_property
    def _headline(self) -> pd.DataFrame:
        table = headlines.headline(
            self.records,
            self.devices,
            window=self.span,
            rpo=self.policy.rpo,
            grace=self.policy.grace,
            **self._options,
        )
        return table.set_index("kpi")

    @cached_property
    def _status(self) -> pd.DataFrame:
        policy = self.policy
        goal = {"rpo": policy.rpo, "grace": policy.grace, "slack": policy.slack}
        return protection.protection_status(self.records, self.devices, **goal, **self._options)

    @cached_property
    def _errors(self) -> pd.DataFrame:
        table = quality.data_quality(
            self.records, self.devices, as_of=self.as_of, tz=self.policy.tz
        )
        return table[table["severity"] == "error"].dropna(subset="share")

    def _kpi(self, name: str) -> Observed:
        if self.span is None:
            return Observed()
        row = self._headline.loc[name]
        if pd.isna(row["value"]):
            return Observed()
        return Observed(float(row["value"]), int(row["denominator"]), int(row["excluded"]))

    def _outdated(self) -> Observed:
        judged = self._status[self._status["in_scope"]]
        if self.devices is None or judged.empty:
            return Observed()
        n = len(judged)
        hits = int((judged["state"] == "outdated").sum())
        return Observed(hits / n, n, len(self._status) - n)

    def _adherence(self) -> Observed:
        if self.span is None:
            return Observed()
        table = self._days("day")
        n = table["expected"].sum(min_count=1)
        if pd.isna(n) or not n:
            return Observed()
        left_out = table.attrs[ATTRS]["n_devices_left_out"]
        return Observed(float(table["adhered"].sum() / n), int(n), int(left_out))

    def _days(self, per: str) -> pd.DataFrame:
        window = Window.read(self.span, "window", self.policy.tz)
        return adherences.adherence(
            self.records,
            self.devices,
            per=per,
            since=window.start,
            until=window.end,
            **self._options,
        )

    def _missed(self) -> pd.DataFrame:
        days = self._days("device")
        return days[days["cell"] == "missed"]

    def _unsettled(self) -> pd.DataFrame:
        window = Window.read(self.span, "window", self.policy.tz)
        frame = classify(self.records, as_of=self.as_of, stuck_after=self.policy.stuck_after)
        columns = ("create_time", "end_time", "as_of", "state", *_DEVICE)
        created, state = nw.col("create_time"), nw.col("state")
        is_lost = (state == "to_be_deleted") & nw.col("end_time").is_null()
        ill = rules.lazy(frame, columns).filter(
            created >= nw.lit(window.start.to_pydatetime()),
            created < nw.lit(window.end.to_pydatetime()),
            ~rules.later(nw.col("as_of")),
            (state == "stuck") | is_lost,
        )
        return rules.collect(ill.select(*_DEVICE).sort(*_DEVICE))

    def _data_quality(self) -> Observed:
        errors = self._errors
        if errors.empty:
            return Observed()
        worst = errors.sort_values("share", kind="stable").iloc[-1]
        return Observed(float(worst["share"]), int(worst["of"]), 0)

    def _users_answered(self) -> Observed:
        if self.users is None or self.users.empty:
            return Observed()
        n = len(self.users)
        return Observed(float((self.users["outcome"] == "complete").sum() / n), n, 0)

    def _fetch_span(self) -> Observed:
        if self._fetched is None:
            return Observed()
        first, last = self._fetched
        return Observed((last - first).total_seconds() / 3600)

    def _data_age(self) -> Observed:
        if self._fetched is None or self.as_of is None:
            return Observed()
        return Observed(max(0.0, (self.as_of - self._fetched[0]).total_seconds() / 3600))


def scoped(records: Any, modules: list[str] | None) -> Any:
    """Leave the records of some modules, each in the state that it has among all."""
    if modules is None:
        return records
    # What counts as stuck is decided module by module, so that nothing changes by this.
    return rules.lazy(records, ("module",)).filter(nw.col("module").is_in(modules)).to_native()


def _named(labels: pd.Series[Any]) -> str:
    return "; ".join(one_line(label, _LONGEST_LABEL) for label in labels.head(_MOST_OFFENDERS))
