"""Colours for how exposed devices are, and how their shares are written."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from koodrive_nb.analysis.rules import span
from koodrive_nb.charts import theme

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FEW = 20
"""Below so many devices no colour judges them."""
NEUTRAL = "#6C6969"
_PALE = "#DDDEE0"
MOST_GROUPS = 12
NOT_COMPUTABLE = (
    "Without devices= nobody knows of those that never backed up: shares are not computable."
)

# As in `theme`: 3:1 on white and on #111, and apart from those in the same figure for every eye.
COLOURS = {
    "protected": theme.COLOURS["completed"],
    "attempts_stuck": theme.COLOURS["stuck"],
    "no_attempt": "#C78500",
    "never_attempted": "#B27DAE",
    "only_deleted_copies": theme.COLOURS["to_be_deleted"],
    "late": "#C78500",
    "outdated": theme.COLOURS["stuck"],
    "never": "#B27DAE",
    "adhered": theme.COLOURS["completed"],
    "missed": theme.COLOURS["stuck"],
    "running": theme.COLOURS["in_progress"],
    "unknown": theme.COLOURS["unknown"],
}
PATTERNS = {
    "protected": "",
    "attempts_stuck": "x",
    "no_attempt": "/",
    "never_attempted": "-",
    "only_deleted_copies": ".",
    "late": "/",
    "outdated": "x",
    "never": "-",
    "adhered": "",
    "missed": "x",
    "running": "/",
    "unknown": "+",
}
CAUSES = ("attempts_stuck", "no_attempt", "never_attempted", "only_deleted_copies")
"""Why devices in scope are exposed."""


def fill(name: str, *, is_judged: bool) -> dict[str, Any]:
    """Give the colour and the pattern of a cause, a protection or a day; without judging, grey."""
    if is_judged:
        return theme.patterned(COLOURS[name], PATTERNS[name])
    found = theme.patterned(_PALE if PATTERNS[name] else NEUTRAL, PATTERNS[name])
    # Patterns have to tell apart what colours do not: dark ink on pale bars.
    found["pattern"] |= {"fgcolor": NEUTRAL, "fgopacity": 1}
    return found


def percent(share: float) -> str:
    """Write a share in whole percent, never all or nothing where it is not."""
    if math.isnan(share):
        return "–"
    whole = round(100 * share)
    if whole == 0 and share > 0:
        return "under 1 %"
    return "over 99 %" if whole == 100 and share < 1 else f"{whole} %"  # noqa: PLR2004 -- percent


def objective(about: Mapping[str, Any]) -> str:
    """Write how old a newest completed backup may be, such as "7 days"."""
    hours = about.get("rpo_h")
    if hours is None:
        return "RPO"
    days = hours / 24
    return f"{days:.0f} days" if days > 1 and days.is_integer() else span(3600 * hours)


def things(about: Mapping[str, Any]) -> str:
    """Name what is counted."""
    return "modules of devices" if about.get("per") == "module" else "devices"


def headline(exposed: float, of: int, about: Mapping[str, Any]) -> str:
    """Say how many would lose more than the RPO: in numbers where they are few."""
    since = f"a completed backup from the last {objective(about)}"
    if not of or math.isnan(exposed):
        return f"{things(about).capitalize()} by age of their newest completed backup"
    if not exposed:
        return f"All {of:,} {things(about)} have {since}"
    if of < FEW:
        verb = "has" if exposed == 1 else "have"
        return f"{exposed:.0f} of {of} {things(about)} {verb} no {since.removeprefix('a ')}"
    return f"{percent(exposed / of)} of {things(about)} have no {since.removeprefix('a ')}"


def counted(about: Mapping[str, Any], n_devices: int) -> str:
    """Say how many devices a figure is of, and where its numbers come from."""
    return _origin(theme.counted(n_devices, "device"), about)


def _origin(whom: str, about: Mapping[str, Any]) -> str:
    records = theme.counted(about.get("n_records", 0), "record")
    return f"{whom}, from {records}, {theme.window(about)}, {theme.provenance(about)}"


def caution(n: int) -> str:
    """Say why nothing is judged."""
    return f"Grey: fewer than {FEW} devices, which no colour judges." if n < FEW else ""


def scope(about: Mapping[str, Any], sizes: Sequence[int]) -> list[str]:
    """Say of whom the figure is, from the sizes of its groups, and who is left out of it."""
    in_scope, n_groups = sum(sizes), len(sizes)
    is_known = about.get("devices_known", True)
    whom = f"{in_scope:,} {things(about)}" + (" in scope" if is_known else " with records")
    grace = about.get("grace_h")
    out = [
        (about.get("n_new"), f"new, bound for less than {span(3600 * grace)}" if grace else "new"),
        (about.get("n_unbound"), "with records, but not bound any more"),
    ]
    named = [f"{n:,} {what}" for n, what in out if n]
    unplaced = about.get("n_unplaced")
    if unplaced:
        named.append(f"{theme.counted(unplaced, 'record')} without a device or a time")
    return [
        _origin(whom, about)
        + (f"; the {MOST_GROUPS} largest of {n_groups} groups" if n_groups > MOST_GROUPS else ""),
        f"Not drawn: {', '.join(named)}." if named else "",
        "" if is_known else NOT_COMPUTABLE,
        caution(min(sizes, default=0)),
        theme.shown(about.get("stuck_rule", ""), 400),
    ]
