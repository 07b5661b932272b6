"""Pseudonyms in the place of users, devices and machines, in all that a fetch hands over.

`KOODRIVE_PRIVACY` says what frames may tell: names (also where it is not set), pseudonyms, or
counts, whose frames are those of pseudonyms. `KOODRIVE_PRIVACY_KEY` is the secret that pseudonyms
are made with: the same key gives the same pseudonyms, and nobody makes them without it.

Source: HMAC (RFC 2104) with SHA-256, the first 60 bits of it in base32 (RFC 4648).
"""

from __future__ import annotations

import base64
import hmac
import os
import re
import secrets
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from koodrive_nb.columns import STRING
from koodrive_nb.errors import (
    ConfigurationError,
    InvalidParameterError,
    KooDriveError,
    ServiceError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

Error = TypeVar("Error", bound=KooDriveError)

PSEUDONYM = re.compile(r"(?:user|device|machine)-[a-z2-7]{12}")
"""What a pseudonym looks like."""

MODES = ("names", "pseudonyms", "counts")
FEW = 5
_CHARACTERS = 12
KEY = re.compile(r"[0-9a-fA-F]{64}")
_KINDS = {"user_id": "user", "device_id": "device", "machine_code": "machine"}
# What people and their clients write freely may name anybody.
_FREE_TEXT = (
    "device_name",
    "properties",
    "extra",
    "file_name",
    "description",
    "local_path",
    "target_folder_path",
)
_OF_FAILURES = ("what", "error")
_LABELS = ("device_label", "offenders")
_CODE = re.compile(r"(?:[A-Z]{2,8}\.)?\d{1,8}")
_HOW_TO_GET_A_KEY = (
    "set it to 64 hexadecimal digits that you keep secret, as koodrive_nb.privacy.new_key() makes "
    "them"
)

# So that a call takes a pseudonym that this process has made.
_meant: dict[str, str] = {}


def mode() -> str:
    """Tell what frames may hold: names, pseudonyms or counts, from `KOODRIVE_PRIVACY`.

    Raises:
        ConfigurationError: It is set to something else.
    """
    return _checked_mode(os.environ.get("KOODRIVE_PRIVACY") or MODES[0], "KOODRIVE_PRIVACY")


def is_few(count: float, total: float | None = None) -> bool:
    """Tell whether a count, or what it lacks of a total, is so small that it may point at somebody.

    They are 1 to 4; counts that come from shares may be a little off.
    """
    each = (count, 0 if total is None else total - count)
    return any(1 / 2 <= one < FEW - 1 / 2 for one in each)


def new_key() -> str:
    """Draw a key, 64 hexadecimal digits: keep it secret, and as long as its pseudonyms matter."""
    return secrets.token_hex(32)


def protect(
    frame: pd.DataFrame,
    privacy: str | None = None,
    key: str | None = None,
    *,
    remember: bool = True,
) -> pd.DataFrame:
    """Put pseudonyms in the place of users, devices and machines, and drop what people wrote.

    `privacy` is names, pseudonyms or counts (else `KOODRIVE_PRIVACY`), `key` the secret (else
    `KOODRIVE_PRIVACY_KEY`). Names of devices and files, paths, descriptions, `properties`, `extra`,
    and what failed and why become missing; pseudonyms stay as they are. Columns of your own are
    kept. Calls of this process take the pseudonyms, unless `remember` is off, which keeps what
    goes to disk out of memory.

    Raises:
        ConfigurationError: A setting is missing or unfit.
        InvalidParameterError: It is no pandas frame, or names may be in its index or headers.
    """
    wanted = mode() if privacy is None else _checked_mode(privacy, "privacy=")
    if not isinstance(frame, pd.DataFrame):
        raise InvalidParameterError(
            f"protect() takes a pandas frame, not {type(frame).__name__}: Polars and DuckDB give "
            "one with .to_pandas() or .df()."
        )
    if wanted == MODES[0]:
        return frame
    secret = _secret(key)
    _check_layout(frame)
    changed: dict[str, Any] = {
        name: _pseudonyms(frame[name], kind, secret, remember=remember)
        for name, kind in _KINDS.items()
        if name in frame.columns
    }
    for name in frame.columns:
        is_of_failures = name in _OF_FAILURES and "error" in frame.columns
        if name in _FREE_TEXT or is_of_failures or str(name).startswith("properties."):
            changed[name] = pd.Series(pd.NA, frame.index, STRING)
    if "offenders" in frame.columns:
        named = frame["offenders"].astype(STRING)
        several = rf"(?:{PSEUDONYM.pattern}(?:; )?)*"
        changed["offenders"] = named.where(named.str.fullmatch(several).fillna(value=False))
    if "device_label" in frame.columns:
        # It holds the name, and the end of the id.
        labels = frame["device_label"].astype(STRING)
        safe = labels.where(labels.str.fullmatch(PSEUDONYM.pattern).fillna(value=False))
        changed["device_label"] = changed.get("device_id", safe).fillna("(unknown device)")
    protected = frame.assign(**changed)
    # What else is there may repeat rows as they came.
    protected.attrs = {name: frame.attrs[name] for name in ("koodrive",) if name in frame.attrs}
    return protected


def protect_users(users: pd.DataFrame, *, remember: bool = True) -> pd.DataFrame:
    """Protect a table of users, whose errors were told as frames may tell them from the start.

    Raises:
        ConfigurationError: A setting is missing or unfit.
        InvalidParameterError: As `protect`.
    """
    return protect(users, remember=remember).assign(error=users["error"])


def pseudonym(value: str, kind: str, *, remember: bool = True) -> str:
    """Give what to call a user, a device or a machine in messages and frames.

    Raises:
        ConfigurationError: A setting is missing or unfit.
    """
    return value if mode() == MODES[0] else _made(value, kind, _secret(None), remember=remember)


def shown(value: str, kind: str) -> str:
    """Give a pseudonym for a repr, which unfit settings must not keep from being shown."""
    try:
        return pseudonym(value, kind)
    except ConfigurationError:
        return f"({kind})"


def without_names(error: Error, **ids: object) -> Error:
    """Let an error tell no more than frames may: with names, all that it does.

    Pseudonyms take the place of `ids`, one by kind, and the service's own words, which may name
    anybody, are left out.

    Raises:
        ConfigurationError: A setting is missing or unfit.
    """
    if mode() == MODES[0]:
        return error
    # What it came from says more.
    error.__cause__ = error.__context__ = None
    known = {str(value): pseudonym(str(value), kind) for kind, value in ids.items() if value}

    def masked(text: str) -> str:
        for value, name in known.items():
            whole = rf"(?<![0-9A-Za-z_-]){re.escape(value)}(?![0-9A-Za-z_-])"
            text = re.sub(whole, name, text)
        return text

    if isinstance(error, ServiceError):
        error.message = ""
        # The service may write there what it likes.
        error.code = error.code if error.code and _CODE.fullmatch(error.code) else None
        error.path, error.trace_id = masked(error.path), masked(error.trace_id)
        facts = (error.status, error.code, error.message, error.advice, error.trace_id, error.path)
        error.args = facts
    else:
        error.args = (masked(str(error)),)
    return error


def meant_by(value: str) -> str:
    """Give the id that a pseudonym of this process stands for; another id is given back.

    Raises:
        InvalidParameterError: It is a pseudonym, but was made elsewhere.
    """
    if value in _meant or mode() == MODES[0] or not PSEUDONYM.fullmatch(value):
        return _meant.get(value, value)
    raise InvalidParameterError(
        f"What {value} stands for is not known in this process: fetch the frame that has it first, "
        "with the same KOODRIVE_PRIVACY_KEY, or pass the id itself."
    )


def lookup(
    pseudonyms: str | Iterable[str], frame: pd.DataFrame, key: str | None = None
) -> pd.DataFrame:
    """Find the rows of a frame with names that these pseudonyms stand for.

    `key` is the secret that they were made with (else `KOODRIVE_PRIVACY_KEY`).

    Raises:
        ConfigurationError: There is no key, or it is unfit.
        InvalidParameterError: Something is no pseudonym, or the frame has no ids to compare.
    """
    wanted = {pseudonyms} if isinstance(pseudonyms, str) else {*pseudonyms}
    odd = sum(not isinstance(one, str) or not PSEUDONYM.fullmatch(one) for one in wanted)
    if odd:
        raise InvalidParameterError(
            f"{odd:,} of these are no pseudonyms: copy them whole, as in device-abcdefgh2345."
        )
    names = [name for name in _KINDS if name in getattr(frame, "columns", ())]
    if not names:
        raise InvalidParameterError(
            f"lookup() takes a frame with a column {', '.join(_KINDS)}, as it was fetched with "
            "KOODRIVE_PRIVACY=names."
        )
    secret = _secret(key)
    hits = [
        _pseudonyms(frame[name], _KINDS[name], secret, remember=True).isin(wanted) for name in names
    ]
    return frame[pd.concat(hits, axis=1).any(axis=1).to_numpy()]


def _checked_mode(value: str, origin: str) -> str:
    if value not in MODES:
        # What was put there by mistake may be the key.
        del value
        raise ConfigurationError(f"{origin} takes one of {', '.join(MODES)}.")
    return value


def _check_layout(frame: pd.DataFrame) -> None:
    telling = {*_KINDS, *_FREE_TEXT, *_LABELS} & {*frame.index.names, *frame.columns.names}
    if telling or frame.columns.nlevels > 1 or not frame.columns.is_unique:
        raise InvalidParameterError(
            "protect() takes ids and names in plain columns, each once, not in the index or in "
            "headers: pass the frame as it was before it was grouped or pivoted, or after "
            ".reset_index()."
        )


def _secret(key: str | None) -> bytes:
    origin = "KOODRIVE_PRIVACY_KEY" if key is None else "key="
    found = os.environ.get("KOODRIVE_PRIVACY_KEY") if key is None else key
    is_fit = isinstance(found, str) and KEY.fullmatch(found) is not None
    said = "is no key for pseudonyms" if found else "is not set, and pseudonyms are made with it"
    secret = bytes.fromhex(str(found)) if is_fit else b""
    # Tracebacks may show the variables of a frame.
    del found, key
    if not is_fit:
        raise ConfigurationError(f"{origin} {said}: {_HOW_TO_GET_A_KEY}.")
    return secret


def _pseudonyms(
    column: pd.Series[Any], kind: str, secret: bytes, *, remember: bool
) -> pd.Series[Any]:
    # Rows are many, and the people behind them few.
    places, values = pd.factorize(column)
    each = [_made(str(value), kind, secret, remember=remember) for value in values]
    made = pd.array([*each, pd.NA], dtype=STRING)
    return pd.Series(made.take(places, allow_fill=False), column.index)


def _made(value: str, kind: str, secret: bytes, *, remember: bool) -> str:
    if not value or (value.startswith(f"{kind}-") and PSEUDONYM.fullmatch(value)):
        return value
    # Text of the service may hold half a surrogate pair.
    said = f"{kind}{value}".encode("utf-8", "surrogatepass")
    digest = hmac.digest(secret, said, "sha256")
    made = f"{kind}-{base64.b32encode(digest).decode().lower()[:_CHARACTERS]}"
    if remember:
        _meant[made] = value
    return made
