"""The signature of app authentication, kept apart so that it can be replaced whole.

The API's pages leave some of its rules open (order of repeated names, hash of the payload); there
it follows the Huawei gateway, whose signature is built alike.

Source: "App Authentication": canonical request, string to sign, signature, Authorization header.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlsplit

if TYPE_CHECKING:
    import hmac
    from collections.abc import Mapping

ALGORITHM = "HMAC-SHA256"
_UNRESERVED = "-_.~"


def canonical_request(method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> str:
    """Write a request in the one form that both sides hash.

    `headers` are those to sign, by any spelling of their names. The path gets a `/` at its end,
    here only: the request itself goes out without it.
    """
    parts = urlsplit(url)
    path = "/".join(_encoded(unquote(segment)) for segment in parts.path.split("/"))
    lines = {name.lower(): value.strip() for name, value in headers.items()}
    names = sorted(lines)
    return "\n".join(
        [
            method.upper(),
            path if path.endswith("/") else f"{path}/",
            canonical_query(parse_qsl(parts.query, keep_blank_values=True)),
            *(f"{name}:{lines[name]}" for name in names),
            "",
            ";".join(names),
            hashlib.sha256(body).hexdigest(),
        ]
    )


def canonical_query(parameters: list[tuple[str, str]]) -> str:
    """Encode query parameters, everything but letters, digits and `-_.~`, sorted by name."""
    return "&".join(
        f"{name}={value}"
        for name, value in sorted((_encoded(name), _encoded(value)) for name, value in parameters)
    )


def signature(key: hmac.HMAC, canonical: str) -> str:
    """Sign a canonical request: 64 lower-case hex digits.

    `key` is an HMAC-SHA256 keyed with the AppSecret, in place of the secret itself: no repr of a
    frame's variables opens it.
    """
    keyed = key.copy()
    keyed.update(f"{ALGORITHM}\n{hashlib.sha256(canonical.encode()).hexdigest()}".encode())
    return keyed.hexdigest()


def _encoded(text: str) -> str:
    return quote(text, safe=_UNRESERVED)
