"""What a policy asks for, read from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb import settings
from koodrive_nb.analysis import arguments, protection, rules
from koodrive_nb.analysis.objective import Objective
from koodrive_nb.errors import InvalidParameterError, KooDriveError
from koodrive_nb.text import one_line

if TYPE_CHECKING:
    from os import PathLike
    from typing import Self


@dataclass(frozen=True, slots=True)
class Control:
    """What a control asks: a share of at least or at most its limit, or at most so many hours."""

    is_least: bool
    unit: str = "share"


CONTROLS = {
    "protected": Control(is_least=True),
    "protected_time": Control(is_least=True),
    "settled": Control(is_least=True),
    "never": Control(is_least=False),
    "outdated": Control(is_least=False),
    "stuck": Control(is_least=False),
    "last_copy_at_risk": Control(is_least=False),
    "adherence": Control(is_least=True),
    "data_quality": Control(is_least=False),
    "users_answered": Control(is_least=True),
    "fetch_span": Control(is_least=False, unit="h"),
    "data_age": Control(is_least=False, unit="h"),
}
_ALWAYS = {"users_answered": 0.99, "fetch_span": "24h", "data_age": "48h"}
_NO_DURATIONS = pd.DataFrame(columns=["module", "n_finished", "p99_s"])
_NO_DATA = ("skip", "fail")
_KEYS = ("rpo", "grace", "slack", "stuck_after", "tz", "no_data", "scope", "controls")


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as it was read; `limits` in shares or hours, in the order of the controls."""

    rpo: Any
    grace: Any
    slack: float
    stuck_after: Any
    tz: str
    modules: list[str] | None
    limits: Mapping[str, float]
    no_data: str

    @classmethod
    def read(cls, policy: str | PathLike[str] | Mapping[str, Any]) -> Self:
        """Read a policy from a TOML file, or from a mapping of the same shape.

        Raises:
            InvalidParameterError: It cannot be read, has an unknown key, or a value that does not
                fit; the message names the file and the key.
        """
        if isinstance(policy, Mapping):
            return cls._checked(policy, "policy")
        try:
            path = Path(policy)
        except TypeError:
            raise InvalidParameterError(
                "policy= takes the path of a TOML file, or a mapping of the same shape, not "
                f"{type(policy).__name__}."
            ) from None
        try:
            given = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InvalidParameterError(
                f"{path.name} cannot be read ({error.strerror}): pass the path of a TOML file."
            ) from None
        except (RecursionError, ValueError) as error:
            raise InvalidParameterError(f"{path.name} is no TOML: {error}.") from None
        return cls._checked(given, path.name)

    @classmethod
    def _checked(cls, given: Mapping[str, Any], file: str) -> Self:
        try:
            _known(given, _KEYS, "the policy")
            rpo, grace = given.get("rpo", "7D"), given.get("grace", "7D")
            slack = given.get("slack", protection.SLACK)
            Objective.read(rpo, grace, slack)
            stuck_after = given.get("stuck_after", "auto")
            rules.stuck_limits(_NO_DURATIONS, stuck_after)
            no_data = given.get("no_data", "skip")
            if no_data not in _NO_DATA:
                raise InvalidParameterError(
                    f"no_data takes {' or '.join(_NO_DATA)}, not {no_data!r}."
                )
            tz = given.get("tz")
            return cls(
                rpo=rpo,
                grace=grace,
                slack=slack,
                stuck_after=stuck_after,
                tz=settings.display_zone(tz).key,
                modules=_modules(given.get("scope", {})),
                limits=_limits(given.get("controls", {})),
                no_data=no_data,
            )
        except KooDriveError as error:
            raise InvalidParameterError(f"{file}: {error}") from None


def _known(given: object, keys: tuple[str, ...], name: str) -> None:
    if not isinstance(given, Mapping):
        raise InvalidParameterError(f"{name} takes a table of {', '.join(keys)}.")
    unknown = [one_line(key, 40) for key in given if key not in keys]
    if unknown:
        raise InvalidParameterError(
            f"unknown key {', '.join(unknown)}: {name} takes {', '.join(keys)}."
        )


def _modules(scope: Mapping[str, Any]) -> list[str] | None:
    _known(scope, ("modules",), "scope")
    if "modules" not in scope:
        return None
    modules = scope["modules"]
    if (
        not isinstance(modules, list)
        or not modules
        or not all(module in rules.MODULE_LABELS for module in modules)
    ):
        raise InvalidParameterError(
            f"scope.modules takes a list of {', '.join(rules.MODULE_LABELS)}, not {modules!r}."
        )
    return modules


def _limits(given: Mapping[str, Any]) -> dict[str, float]:
    _known(given, tuple(CONTROLS), "controls")
    asked = {**_ALWAYS, **given}
    return {
        name: _limit(name, asked[name], CONTROLS[name].unit)
        for name in CONTROLS
        if name in asked and asked[name] is not False
    }


def _limit(name: str, value: object, unit: str) -> float:
    if unit == "h":
        return arguments.duration(value, f"controls.{name}").total_seconds() / 3600
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidParameterError(
            f"controls.{name} takes a share from 0 to 1, or false to leave it out, not {value!r}."
        )
    return float(value)
