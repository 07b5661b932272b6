"""What each number of a headline means, in words that can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_IN_SCOPE = "of bound devices in scope"
_MEANINGS = {
    "protected": (
        f"Devices with a completed backup within the RPO at the end of the window, {_IN_SCOPE}",
        ("RPO", "grace", "zone"),
    ),
    "protected_time": (
        f"Device-hours of the window with a completed backup within the RPO, {_IN_SCOPE}",
        ("RPO", "grace", "window", "zone"),
    ),
    "settled": (
        "Backups created in the window that completed, of those that came to an end",
        ("stuck", "window", "zone"),
    ),
    "never": (
        f"Devices without any completed backup at the end of the window, {_IN_SCOPE}",
        ("grace", "zone"),
    ),
    "stuck": (
        f"Devices whose newest attempts of a module are stuck as of the fetch, {_IN_SCOPE}",
        ("grace", "stuck"),
    ),
    "last_copy_at_risk": (
        f"Devices whose completed copies all wait for deletion as of the fetch, {_IN_SCOPE}",
        ("grace",),
    ),
}


def write(kpi: str, parts: Mapping[str, str]) -> str:
    """Say in one sentence what a number is, with all that decides it: "... (RPO = 7 d; ...)."."""
    meaning, names = _MEANINGS[kpi]
    return f"{meaning} ({'; '.join(f'{name} = {parts[name]}' for name in names)})."


def read(definition: str) -> tuple[str, dict[str, str]]:
    """Take a definition apart: what it says, and what decides it."""
    meaning, _, rest = definition.rstrip(".").rpartition(" (")
    pairs = (part.partition(" = ") for part in rest.removesuffix(")").split("; "))
    return meaning, {name: value for name, _, value in pairs}


def difference(old: str, new: str) -> str | None:
    """Say how a definition changed, such as "RPO 7 d -> 5 d"; None where it did not."""
    if old == new:
        return None
    (meant, before), (means, now) = read(old), read(new)
    if meant != means or set(before) != set(now):
        return "the definition changed"
    return ", ".join(
        f"{name} {before[name]} -> {now[name]}" for name in now if before[name] != now[name]
    )
