"""Whether a fleet keeps a policy, as a table, as an error, and as a report for CI servers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pandas as pd

from koodrive_nb import replacing
from koodrive_nb.analysis import arguments, publications
from koodrive_nb.analysis import controls as observing
from koodrive_nb.analysis.policy_files import CONTROLS, Control, Policy
from koodrive_nb.columns import STRING
from koodrive_nb.errors import InvalidParameterError, PolicyError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from koodrive_nb.analysis.controls import Observed

_COLUMNS: dict[str, Any] = {
    "control": STRING,
    **dict.fromkeys(("observed", "threshold"), "float64"),
    "unit": STRING,
    **dict.fromkeys(("n", "excluded"), "Int64"),
    **dict.fromkeys(("result", "offenders"), STRING),
}


@dataclass(frozen=True, slots=True, eq=False)
class PolicyCheck:
    """What each control of a policy observed: `controls`, one row each."""

    controls: pd.DataFrame

    def raise_for_failures(self) -> None:
        """Raise if a control failed.

        Raises:
            PolicyError: It tells which did, and by how much.
        """
        failed = self.controls[self.controls["result"] == "fail"].reset_index(drop=True)
        if len(failed):
            told = ", ".join(sentence(row) for row in failed.to_dict("records"))
            raise PolicyError(
                f"{len(failed)} of {len(self.controls)} controls failed: {told}.", failed
            )

    def to_junit(self, path: str | PathLike[str]) -> None:
        """Write the controls as JUnit XML, one test case each; those without data as skipped.

        The same controls give the same bytes. What was there stays until all of it is written.

        Raises:
            InvalidParameterError: It is no path, or cannot be written there.
        """
        results = self.controls["result"]
        counts = {
            "tests": str(len(results)),
            "failures": str(int((results == "fail").sum())),
            "errors": "0",
            "skipped": str(int((results == "no_data").sum())),
        }
        root = ET.Element("testsuites", counts)
        suite = ET.SubElement(root, "testsuite", {"name": "policy", **counts})
        for row in self.controls.to_dict("records"):
            case = ET.SubElement(suite, "testcase", classname="policy", name=row["control"])
            if row["result"] == "fail":
                failure = ET.SubElement(case, "failure", message=sentence(row), type="policy")
                failure.text = row["offenders"]
            elif row["result"] == "no_data":
                ET.SubElement(case, "skipped", message=sentence(row))
        ET.indent(root)
        _write(path, ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")


def check_policy(  # noqa: PLR0913 -- each is a question of its own, and keyword-only
    records: Any,
    devices: Any = None,
    *,
    policy: str | PathLike[str] | Mapping[str, Any],
    users: pd.DataFrame | None = None,
    window: object = None,
    as_of: object = None,
) -> PolicyCheck:
    """Check records and devices against a policy, a TOML file or a mapping of the same shape.

    Gives `controls`, one row each: `control`, `observed` and `threshold` in `unit` (share, from 0
    to 1, or h, hours), `n` and `excluded` as in `kd.analysis.headline`, `result` (pass, fail,
    no_data) and `offenders`, at most five behind a failure, the worst first: devices as of the
    fetch, for settled and adherence those of the window. A limit that is met exactly passes.

    Top level: `rpo`, `grace`, `slack`, `stuck_after` and `tz` as in
    `kd.analysis.protection_status`; `no_data` = "skip" or "fail": what becomes of a control that
    nobody can judge; `scope.modules`, a list. `controls` names those that are asked for, with the
    limit of each: at least protected, protected_time, settled (as in `kd.analysis.headline`) and
    adherence (device-days with a completed backup); at most never, stuck, last_copy_at_risk,
    outdated (devices whose newest completed backup is older than `slack` times the `rpo`) and
    data_quality (the largest share of a rule of severity error in `kd.analysis.data_quality`).

    Asked for unless they are false: users_answered, the share of `users` that came whole, at least
    0.99; fetch_span, from the first to the last of the fetch, at most "24h"; data_age, from the
    first of the fetch to `as_of`, at most "48h", without data where no `as_of` is given.

    `window` is as in `kd.analysis.headline`, by default the last seven days. What is purged by now
    counts as if it had never been there: check a window soon after its end.

    Raises:
        InvalidParameterError: The policy has an unknown key or a wrong value, columns are missing,
            or an argument is not what this takes.
    """
    asked = Policy.read(policy)
    if users is not None:
        publications.incomplete_users(users)
    fleet = observing.Fleet(
        records=observing.scoped(records, asked.modules),
        devices=devices,
        users=users,
        policy=asked,
        window=window,
        as_of=None if as_of is None else arguments.instant(as_of, "as_of"),
    )
    rows = []
    for name, limit in asked.limits.items():
        observed = fleet.observed(name)
        result = _result(CONTROLS[name], observed, limit, asked.no_data)
        is_behind = result == "fail" and not math.isnan(observed.value)
        rows.append(
            {
                "control": name,
                "observed": observed.value,
                "threshold": limit,
                "unit": CONTROLS[name].unit,
                "n": observed.n,
                "excluded": observed.excluded,
                "result": result,
                "offenders": fleet.offenders(name, limit) if is_behind else "",
            }
        )
    return PolicyCheck(pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS))


def _result(control: Control, observed: Observed, limit: float, no_data: str) -> str:
    value = observed.value
    if math.isnan(value):
        return "fail" if no_data == "fail" else "no_data"
    # Hours are added up in a different order on each engine.
    if math.isclose(value, limit, rel_tol=1e-9):
        return "pass"
    return "pass" if (value > limit) == control.is_least else "fail"


def sentence(row: Mapping[Any, Any]) -> str:
    """Say what a control observed and what its limit is."""
    name = str(row["control"])
    side = "at least" if CONTROLS[name].is_least else "at most"
    limit = f"limit {side} {limit_of(row)}"
    if pd.isna(row["observed"]):
        return f"{name} has no data ({limit})"
    return f"{name} is {amount(row['observed'], row['unit'])} ({limit})"


def limit_of(row: Mapping[Any, Any], *, turned: bool = False) -> str:
    """Write the limit of a control as exactly as it was set; turned: of the other part."""
    limit = float(row["threshold"])
    if row["unit"] == "h":
        return amount(limit, "h")
    return f"{100 * (1 - limit if turned else limit):.10g} %"


def amount(value: float, unit: str = "share") -> str:
    """Write a share as per cent and hours as hours; what is not all or nothing never looks so."""
    if unit == "h":
        return f"{value:.1f}".removesuffix(".0") + " h"
    if 0 < value < 0.0005:  # noqa: PLR2004 -- half of the last digit
        return "less than 0.1 %"
    if 0.9995 <= value < 1:  # noqa: PLR2004 -- as above
        return "more than 99.9 %"
    return f"{100 * value:.1f}".removesuffix(".0") + " %"


def _write(target: str | PathLike[str], content: bytes) -> None:
    try:
        path = Path(target)
    except TypeError:
        raise InvalidParameterError(
            f"to_junit() takes the path of a file, not {type(target).__name__}."
        ) from None
    try:
        replacing.replace({path: lambda file: file.write(content)})
    except OSError as error:
        raise InvalidParameterError(
            f"{path.name} cannot be written ({error.strerror}): pass the path of a file in a "
            "folder that is there."
        ) from None
