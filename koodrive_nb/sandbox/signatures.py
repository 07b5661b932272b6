"""Checks the signature of a request, from the API's pages alone and from the bytes as they came.

Source: "App Authentication": canonical request, string to sign, Authorization header.
"""

from __future__ import annotations

import hmac
import re
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORM = re.compile(
    rb"HMAC-SHA256 AppId=([^,]+),SignedHeaders=([a-z0-9;-]+),Signature=([0-9a-f]{64})"
)
_MANDATORY = {b"x-date", b"x-user-id"}
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


def is_genuine(
    method: str,
    raw_path: bytes,
    raw_query: bytes,
    headers: Mapping[bytes, bytes],
    keys: Mapping[bytes, bytes],
) -> bool:
    """Tell whether a request without a body was signed with the secret of its AppId.

    `headers` have lower-case names; `keys` are the secrets by AppId.
    """
    form = _FORM.fullmatch(headers.get(b"authorization", b""))
    if not form or form[1] not in keys:
        return False
    names = form[2].split(b";")
    if names != sorted(set(names)) or not _MANDATORY <= set(names) <= set(headers):
        return False
    pieces = [method.upper().encode(), _path(raw_path), _query(raw_query)]
    pieces += [name + b":" + headers[name].strip() for name in names]
    pieces += [b"", form[2], sha256(b"").hexdigest().encode()]
    text = b"HMAC-SHA256\n" + sha256(b"\n".join(pieces)).hexdigest().encode()
    expected = hmac.digest(keys[form[1]], text, sha256).hex()
    return hmac.compare_digest(expected.encode(), form[3])


def _path(raw: bytes) -> bytes:
    kept: list[bytes] = []
    for segment in raw.split(b"/"):
        if segment == b"..":
            del kept[-1:]
        elif segment not in {b"", b"."}:
            kept.append(_escaped(_plain(segment)))
    return b"/" + b"".join(segment + b"/" for segment in kept)


def _query(raw: bytes) -> bytes:
    pairs: list[tuple[bytes, bytes]] = []
    for piece in filter(None, raw.split(b"&")):
        name, _, value = piece.replace(b"+", b" ").partition(b"=")
        pairs.append((_escaped(_plain(name)), _escaped(_plain(value))))
    return b"&".join(b"=".join(pair) for pair in sorted(pairs))


def _plain(text: bytes) -> bytes:
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), text)


def _escaped(text: bytes) -> bytes:
    return b"".join(b"%c" % byte if byte in _PLAIN else b"%%%02X" % byte for byte in text)
