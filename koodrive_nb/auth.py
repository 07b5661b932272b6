"""Credentials: how a request proves who asks, without ever showing the secret."""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
import threading
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from requests.auth import AuthBase

from koodrive_nb import signing
from koodrive_nb.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from requests import PreparedRequest

# A word and a blank, or a word of the API's with its printed plus: "AT 3b91", "Bearer+60f4".
_HAS_SCHEME = re.compile(r"[A-Za-z][\w-]* +\S+|(?:bearer|at)\+\S+", re.IGNORECASE | re.ASCII)
_SENDABLE = re.compile(r"[!-~]+(?: +[!-~]+)?")
_APP_ID = re.compile(r"[0-9A-Za-z._-]{1,256}")
_APP_SECRET = re.compile(r"[!-~]+")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class TokenAuth(AuthBase):
    """An access token, which sees the one user that it was given to.

    `token` is the token, or a callable that gives one. The callable is asked before the first
    request, and again whenever the service refuses the token that it gave last. A token that
    carries a scheme word ("AT 3b91...") goes out as it is, any other as "Bearer <token>".

    Source: "Viewing Backup Records", request header Authorization.

    Raises:
        ConfigurationError: The token is empty or holds characters that no header can carry.
    """

    kind = "token"

    def __init__(self, token: str | Callable[[], str]) -> None:
        problem = None if callable(token) else _problem(token)
        self._header = _Header(token)
        # Tracebacks may show the variables of a frame: the secret must not be one of them.
        del token
        if problem:
            raise ConfigurationError(problem)

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Put the token into the request's Authorization header."""
        request.headers["Authorization"] = self._header()
        return request

    def renew(self, request: PreparedRequest) -> bool:
        """Forget the token that a refused request carried; tell whether another can be had."""
        return self._header.forget(request)

    def __repr__(self) -> str:
        return "TokenAuth(<hidden>)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Credentials are not pickled: make a new TokenAuth where they are needed.")


class AppAuth(AuthBase):
    """An AppId with its AppSecret, which sees every user: each request is signed for its own.

    `sign_host` covers the Host header too, as the API's example does; without it, requests pass a
    proxy that rewrites the host. The secret is never sent.

    Source: "App Authentication" (HMAC-SHA256).

    Raises:
        ConfigurationError: The id or the secret is empty, or holds what cannot be part of it.
    """

    kind = "app"

    def __init__(self, app_id: str, app_secret: str, *, sign_host: bool = True) -> None:
        problem = _app_problem(app_id, app_secret)
        # Of a keyed HMAC nobody can read the key, not even a debugger that prints variables.
        self._key = None if problem else hmac.new(app_secret.strip().encode(), None, hashlib.sha256)
        self._again = _Make(AppAuth, app_id, app_secret, sign_host=sign_host)
        del app_secret
        if problem:
            raise ConfigurationError(problem)
        self._app_id = app_id.strip()
        self._names = ["X-Date", "X-User-Id", *(["Host"] if sign_host else [])]

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Sign the request as it stands, with its X-Date and X-User-Id."""
        # Set here, so that the host that is signed is the one that is sent.
        request.headers["Host"] = _host(str(request.url))
        signed = {name: str(request.headers[name]) for name in self._names}
        body = request.body or b""
        canonical = signing.canonical_request(
            str(request.method),
            str(request.url),
            signed,
            body.encode() if isinstance(body, str) else body,
        )
        assert self._key  # noqa: S101 -- without a key, __init__ raised
        request.headers["Authorization"] = (
            f"{signing.ALGORITHM} AppId={self._app_id},"
            f"SignedHeaders={';'.join(sorted(name.lower() for name in self._names))},"
            f"Signature={signing.signature(self._key, canonical)}"
        )
        return request

    def copies(self) -> _Make:
        """Give what makes the same credentials in a process of ours; it shows no secret."""
        return self._again

    def __repr__(self) -> str:
        return "AppAuth(<hidden>)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Credentials are not pickled: make a new AppAuth where they are needed.")


class _Make(functools.partial["AppAuth"]):
    """What makes credentials again, without showing its arguments."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<hidden>"


class _Header:
    """The header that a token makes, behind a name that no repr of a frame's variables opens."""

    __slots__ = ("_give", "_is_renewable", "_kept", "_lock")

    def __init__(self, token: str | Callable[[], str]) -> None:
        self._is_renewable = callable(token)
        self._give = _Give(token) if callable(token) else _Give(str, token)
        self._kept = ""
        self._lock = threading.Lock()

    def __call__(self) -> str:
        # One at a time: many workers that were refused together shall ask for one new token.
        with self._lock:
            if not self._kept:
                self._kept = _header(self._give)
            return self._kept

    def forget(self, request: PreparedRequest) -> bool:
        with self._lock:
            if self._kept == request.headers.get("Authorization"):
                self._kept = "" if self._is_renewable else self._kept
        return self._is_renewable


class _Give(functools.partial[str]):
    """What gives a token, called without a frame of its own and without showing its arguments."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<hidden>"


def _problem(token: object) -> str | None:
    if not isinstance(token, str) or not token.strip():
        return (
            "The access token is empty: pass TokenAuth('<token>') or set KOODRIVE_TOKEN to the "
            "token that the KooDrive login gave."
        )
    if not _SENDABLE.fullmatch(token.strip()):
        return (
            "The access token holds blanks, line breaks or characters outside ASCII: copy it again "
            "as one piece."
        )
    return None


def _app_problem(app_id: object, app_secret: object) -> str | None:
    for value, name in ((app_id, "AppId"), (app_secret, "AppSecret")):
        if not isinstance(value, str) or not value.strip():
            return (
                f"The {name} is empty: pass AppAuth('<AppId>', '<AppSecret>') or set "
                "KOODRIVE_APP_ID and KOODRIVE_APP_SECRET to what the KooDrive administrator gave."
            )
    if not _APP_ID.fullmatch(str(app_id).strip()) or not _APP_SECRET.fullmatch(
        str(app_secret).strip()
    ):
        return (
            "The AppId or the AppSecret holds blanks, line breaks or characters outside ASCII: "
            "copy each again as one piece."
        )
    return None


def _header(give: _Give) -> str:
    token = give()
    problem = _problem(token)
    if problem:
        del token
        raise ConfigurationError(problem)
    token = token.strip()
    return token if _HAS_SCHEME.fullmatch(token) else f"Bearer {token}"


def _host(url: str) -> str:
    """Write the host as an HTTP client does, the port only where it is not the scheme's own."""
    parts = urlsplit(url)
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else str(parts.hostname)
    port = parts.port
    return name if port in {None, _DEFAULT_PORTS.get(parts.scheme)} else f"{name}:{port}"
