"""Where endpoint, user, credentials and display zone come from: an argument, then the environment.

Nothing here prompts: a notebook that CI runs must fail with a sentence instead of waiting.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from requests.auth import AuthBase

from koodrive_nb import privacy
from koodrive_nb.auth import AppAuth, TokenAuth
from koodrive_nb.errors import ConfigurationError, InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping

_HOST = re.compile(r"[0-9a-f:]*:[0-9a-f:.]*|(?:[\w-]{1,63}\.)*[\w-]{1,63}\.?", re.ASCII)
_ID = re.compile(r"[0-9A-Za-z_-]{1,128}")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a connection needs; `origins` says for each setting where it was found."""

    endpoint: str
    user_id: str
    auth: AuthBase
    origins: Mapping[str, str]


def resolve(
    *, endpoint: str | None = None, auth: AuthBase | None = None, user_id: str | None = None
) -> Settings:
    """Find the settings of a live connection: the argument if given, else the environment.

    Raises:
        ConfigurationError: Something is missing or unfit. The message names every variable that
            is missing.
        InvalidParameterError: An argument has the wrong type.
    """
    if auth is not None and not isinstance(auth, AuthBase):
        # What was passed may be the secret itself, so it is not repeated.
        raise InvalidParameterError(
            "auth= takes credentials: kd.TokenAuth('<token>') or kd.AppAuth('<AppId>', "
            "'<AppSecret>')."
        )
    # An empty variable is one that a shell script failed to fill.
    has_token, has_id, has_secret = (
        bool(os.environ.get(f"KOODRIVE_{name}")) for name in ("TOKEN", "APP_ID", "APP_SECRET")
    )
    endpoint_found = (
        endpoint if endpoint is not None else os.environ.get("KOODRIVE_ENDPOINT") or None
    )
    user_found = user_id if user_id is not None else os.environ.get("KOODRIVE_USER_ID") or None
    missing = [
        variable
        for variable, is_there in (
            ("KOODRIVE_ENDPOINT", endpoint_found is not None),
            ("KOODRIVE_USER_ID", user_found is not None),
            (
                "KOODRIVE_TOKEN (or KOODRIVE_APP_ID with KOODRIVE_APP_SECRET)",
                auth is not None or has_token or has_id or has_secret,
            ),
            ("KOODRIVE_APP_ID", auth is not None or has_token or has_id or not has_secret),
            ("KOODRIVE_APP_SECRET", auth is not None or has_token or has_secret or not has_id),
        )
        if not is_there
    ]
    if missing:
        raise ConfigurationError(
            f"Not set: {', '.join(missing)}. Set them in the environment or pass endpoint=, "
            "user_id= and auth=kd.TokenAuth(...) or kd.AppAuth(...) to connect(). "
            'To try without an account: kd.connect("sandbox") needs none.'
        )
    if auth is None and has_token and has_id and has_secret:
        raise ConfigurationError(
            "KOODRIVE_TOKEN is set, and so are KOODRIVE_APP_ID and KOODRIVE_APP_SECRET: unset "
            "those that shall not count, or pass auth=."
        )
    origin = "KOODRIVE_TOKEN" if has_token else "KOODRIVE_APP_ID"
    return Settings(
        endpoint=checked_endpoint(endpoint_found),
        user_id=checked_id(user_found, "user id"),
        auth=auth or _auth_of_environment(origin),
        origins={
            "endpoint": "KOODRIVE_ENDPOINT" if endpoint is None else "argument",
            "user_id": "KOODRIVE_USER_ID" if user_id is None else "argument",
            "auth": origin if auth is None else "argument",
        },
    )


def is_sandboxed() -> bool:
    """Tell whether the environment names the sandbox in the place of an endpoint."""
    return os.environ.get("KOODRIVE_ENDPOINT") == "sandbox"


def _auth_of_environment(origin: str) -> AuthBase:
    if origin == "KOODRIVE_TOKEN":
        return TokenAuth(os.environ["KOODRIVE_TOKEN"])
    return AppAuth(os.environ["KOODRIVE_APP_ID"], os.environ["KOODRIVE_APP_SECRET"])


def checked_endpoint(endpoint: object) -> str:
    """Check that an endpoint is scheme and host only, and safe to send credentials to.

    Raises:
        ConfigurationError: It is not. A password inside the address is not repeated.
    """
    # A token may have ended up here by mistake, so nothing of a refused endpoint is repeated.
    example = "write it as https://<host>, for example https://intl.myhuaweicloud-koodrive.com"
    if not isinstance(endpoint, str):
        raise ConfigurationError(f"The endpoint must be text: {example}.")
    text = endpoint.strip()
    if "@" in text:
        raise ConfigurationError(
            "The endpoint holds a user name or password: credentials go into auth= or "
            f"KOODRIVE_TOKEN; {example}."
        )
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"The endpoint is no address: {example}.") from None
    if parts.scheme not in {"http", "https"} or not host or not _HOST.fullmatch(host):
        raise ConfigurationError(f"The endpoint has no scheme or no host: {example}.")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigurationError(f"The endpoint has a path: the client adds it; {example}.")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            f"The endpoint would send credentials unencrypted: use https://; {example}."
        )
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}" + (f":{port}" if port is not None else "")


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_whole(value: object, lowest: int | None = None) -> bool:
    """Tell whether it is a whole number, not below the lowest."""
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return is_integer and (lowest is None or value >= lowest)  # type: ignore[operator]  # as checked


def checked_id(value: object, what: str) -> str:
    """Give an id that is fit for a path or a header: this one, or what it is a pseudonym of.

    Raises:
        InvalidParameterError: It is empty, not text, holds anything but letters, digits, `_` and
            `-`, or is a pseudonym that was made elsewhere.
    """
    if value is None or type(value).__name__ == "NAType" or value != value:  # noqa: PLR0124 -- NaN
        raise InvalidParameterError(f"The {what} is missing: leave it out, as with .dropna().")
    if not isinstance(value, str):
        raise InvalidParameterError(
            f"The {what} must be text, not {type(value).__name__}: ids have 19 digits, which "
            f'numbers in spreadsheets and data frames lose; pass it in quotes, as in "1842...".'
        )
    if not _ID.fullmatch(value):
        shown = value if len(value) <= 40 else f"{value[:40]}..."  # noqa: PLR2004 -- a line's worth
        hint = "it is empty" if not value else f"{shown!r} holds something else"
        raise InvalidParameterError(
            f"The {what} must be 1 to 128 letters, digits, '_' or '-', and {hint}: "
            "copy the id as the service shows it."
        )
    meant = privacy.meant_by(value)
    # The service may call a device what it likes.
    if not _ID.fullmatch(meant):
        del meant  # Tracebacks may show it.
        raise InvalidParameterError(
            f"What {value} stands for cannot be sent, since it is not 1 to 128 letters, digits, "
            "'_' or '-': report it to the service."
        )
    return meant


def display_zone(tz: str | None) -> ZoneInfo:
    """Find the zone to display times in: the argument, then KOODRIVE_TZ, then UTC.

    Raises:
        InvalidParameterError: There is no such zone.
    """
    name = tz if tz is not None else os.environ.get("KOODRIVE_TZ") or "UTC"
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        origin = "tz=" if tz is not None else "KOODRIVE_TZ"
        raise InvalidParameterError(
            f"{origin} {name!r} is no time zone: use a name such as 'Asia/Shanghai' or 'UTC'."
        ) from None
