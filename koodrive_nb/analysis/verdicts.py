"""What a headline says, in lines that can be pasted into a mail."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb import privacy
from koodrive_nb.analysis import definitions
from koodrive_nb.analysis.policies import PolicyCheck, amount, limit_of, sentence
from koodrive_nb.analysis.policy_files import CONTROLS
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.streams import ATTRS
from koodrive_nb.text import sample

if TYPE_CHECKING:
    from collections.abc import Mapping

_TURNED = {name for name, control in CONTROLS.items() if control.is_least}
_SAID = {
    "protected": "{share} of {n} devices have no backup from the last {rpo}",
    "protected_time": "for {share} of {n} device-hours there was no backup from the last {rpo}",
    "settled": "{share} of {n} backups that came to an end did not complete",
    "never": "{share} of {n} devices have never completed a backup",
    "stuck": "on {share} of {n} devices the newest attempts are stuck",
    "last_copy_at_risk": "on {share} of {n} devices every copy waits for deletion",
}
_SAID_OF_CONTROLS = {
    "outdated": "{share} of {n} devices are outdated",
    "adherence": "on {share} of {n} device-days no backup completed",
    "data_quality": "{share} of {n} rows break a rule of the data's quality",
    "users_answered": "the data of {share} of {n} users did not come whole",
    "fetch_span": "the fetch took {share}",
    "data_age": "the data is {share} old",
}
_NEEDED = ("kpi", "value", "denominator", "change_pp", "why_not", "definition")
_WINDOW = ("window_start", "window_end")
_WEEK = pd.Timedelta("7D")
_HOUR = pd.Timedelta("1h")


def verdict(headline: pd.DataFrame, check: PolicyCheck | None = None) -> list[str]:
    """Say what a headline shows, one plain sentence a line, the worst first.

    What the policy `check` found wrong comes first, by how far it is off, then what got worse by
    how much, then the rest, then what nobody knows. Shares are those of what is not well; where the
    privacy is counts, those of fewer than 5 are not told.

    Raises:
        InvalidParameterError: `headline` is no table of `kd.analysis.headline`, or `check` no
            result of `kd.analysis.check_policy`.
    """
    if not isinstance(headline, pd.DataFrame) or not {*_NEEDED, *_WINDOW} <= {*headline.columns}:
        raise InvalidParameterError("verdict() takes the table that kd.analysis.headline() gave.")
    if check is not None and not isinstance(check, PolicyCheck):
        raise InvalidParameterError("check= takes what kd.analysis.check_policy() gave.")
    controls: dict[str, Mapping[Any, Any]] = {} if check is None else _by_control(check.controls)
    failed = [name for name, row in controls.items() if row["result"] == "fail"]
    lines: list[tuple[tuple[float, float], str]] = []
    said = set()
    before = _before(headline)
    for row in headline.to_dict("records"):
        kpi = str(row["kpi"])
        if pd.isna(row["value"]):
            lines.append(((3, 0), f"Not known: {kpi.replace('_', ' ')} ({row['why_not']})."))
            continue
        worse = _worsening(row)
        control = controls.get(kpi, {})
        # A check of another window saw another value.
        if kpi in failed and math.isclose(control["observed"], row["value"], rel_tol=1e-9):
            said.add(kpi)
            lines.append(((0, -_excess(control)), f"Attention: {_told(row, before, control)}"))
        else:
            text = _told(row, before)
            lines.append(((1, -worse), text[0].upper() + text[1:]))
    for name in failed:
        if name not in said:
            place = (0, -_excess(controls[name]))
            lines.append((place, f"Attention: {_of_control(controls[name])}."))
    if controls:
        lines.append(((2, 0), _counts(controls)))
    ordered = [line for _, line in sorted(lines, key=lambda line: line[0])]
    return [*_reservations(headline.attrs.get(ATTRS, {})), *ordered]


def _by_control(controls: pd.DataFrame) -> dict[str, Mapping[Any, Any]]:
    return {str(row["control"]): row for row in controls.to_dict("records")}


def _counts(controls: Mapping[str, Mapping[Any, Any]]) -> str:
    n_passed = sum(row["result"] == "pass" for row in controls.values())
    unknown = [name for name, row in controls.items() if row["result"] == "no_data"]
    rest = f"; without data: {', '.join(unknown)}" if unknown else ""
    return f"{n_passed} of {len(controls)} controls passed{rest}."


def _excess(control: Mapping[Any, Any]) -> float:
    """Tell how far a control is off its limit, in parts of the whole; hours in parts of it."""
    if pd.isna(control["observed"]):
        return 0.0
    off = abs(float(control["observed"]) - float(control["threshold"]))
    return off if control["unit"] == "share" else off / max(float(control["threshold"]), off)


def _worsening(row: Mapping[Any, Any]) -> float:
    if pd.isna(row["change_pp"]):
        return 0.0
    return -float(row["change_pp"]) if row["kpi"] in _TURNED else float(row["change_pp"])


def _told(row: Mapping[Any, Any], before: str, control: Mapping[Any, Any] | None = None) -> str:
    kpi = str(row["kpi"])
    share = 1 - row["value"] if kpi in _TURNED else row["value"]
    rpo = definitions.read(str(row["definition"]))[1].get("RPO", "")
    total = float(row["denominator"])
    few = _few(share, total)
    said = _SAID[kpi].format(share=few or amount(share), n=f"{total:,.0f}", rpo=rpo)
    if control is not None:
        said += f" (limit {limit_of(control, turned=kpi in _TURNED)})"
    return f"{said}." if few else f"{said}{_change(row, before)}."


def _few(share: float, total: float) -> str:
    """Say how few it is, where that is all that may be said; else nothing."""
    if privacy.mode() != "counts" or not privacy.is_few(share * total, total):
        return ""
    rest = "" if privacy.is_few(share * total) else "all but "
    return f"{rest}fewer than {privacy.FEW}"


def _of_control(control: Mapping[Any, Any]) -> str:
    name = str(control["control"])
    if pd.isna(control["observed"]):
        return sentence(control)
    if name not in _SAID_OF_CONTROLS:
        return f"in the window of the check, {sentence(control)}"
    is_turned = name in _TURNED
    observed = 1 - control["observed"] if is_turned else control["observed"]
    few = "" if pd.isna(control["n"]) else _few(observed, control["n"])
    share = few or amount(observed, control["unit"])
    n = "" if pd.isna(control["n"]) else f"{control['n']:,}"
    said = _SAID_OF_CONTROLS[name].format(share=share, n=n)
    return f"{said} (limit {limit_of(control, turned=is_turned)})"


def _before(headline: pd.DataFrame) -> str:
    """Name the window that a headline was compared with."""
    about = headline.attrs.get(ATTRS, {})
    if not headline.empty and "previous_end" in about:
        start, end = (headline[name].iloc[0] for name in _WINDOW)
        edges = pairwise((pd.Timestamp(about["previous_start"]), start, end))
        # A week in which the clocks change is an hour shorter or longer.
        are_weeks = all(abs(end - start - _WEEK) <= _HOUR for start, end in edges)
        if are_weeks and pd.Timestamp(about["previous_end"]) == start:
            return "the week before"
    return "the earlier window"


def _change(row: Mapping[Any, Any], before: str) -> str:
    if pd.notna(row["why_not"]):
        return f"; not comparable: {row['why_not']}"
    change = round(_worsening(row), 1)
    if not change:
        return f", as in {before}"
    return f", {abs(change):.1f} pp {'more' if change > 0 else 'less'} than in {before}"


def _reservations(about: Mapping[str, Any]) -> list[str]:
    """Say what is missing from the data, before anything is said of it."""
    drawn = sample(about.get("sampled_of"), about.get("sampled"))
    said = [f"This is of a {drawn}, not of all."] if drawn else []
    users = about.get("users")
    if users and users["n_incomplete"]:
        lost = f"{users['n_incomplete']:,} of {users['n']:,}"
        return [f"Incomplete: the data of {lost} users did not come whole.", *said]
    whole = about.get("complete", True)
    return said if whole else ["Incomplete: part of the data did not come.", *said]
