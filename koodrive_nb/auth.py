"""Credentials: how a request proves who asks, without ever showing the secret."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

from requests.auth import AuthBase

from koodrive_nb.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from requests import PreparedRequest

# A word and a blank, or a word of the API's with its printed plus: "AT 3b91", "Bearer+60f4".
_HAS_SCHEME = re.compile(r"[A-Za-z][\w-]* +\S+|(?:bearer|at)\+\S+", re.IGNORECASE | re.ASCII)
_SENDABLE = re.compile(r"[!-~]+(?: +[!-~]+)?")


class TokenAuth(AuthBase):
    """An access token, which sees the one user that it was given to.

    `token` is the token, or a callable that gives a fresh one for each request. A token that
    carries a scheme word ("AT 3b91...") goes out as it is, any other as "Bearer <token>".

    Source: "Viewing Backup Records", request header Authorization.

    Raises:
        ConfigurationError: The token is empty or holds characters that no header can carry.
    """

    kind = "token"

    def __init__(self, token: str | Callable[[], str]) -> None:
        problem = None if callable(token) else _problem(token)
        self._give = _Hidden(token)
        # Tracebacks may show the variables of a frame: the secret must not be one of them.
        del token
        if problem:
            raise ConfigurationError(problem)

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Put the token into the request's Authorization header."""
        request.headers["Authorization"] = _header(self._give)
        return request

    def __repr__(self) -> str:
        return "TokenAuth(<hidden>)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Credentials are not pickled: make a new TokenAuth where they are needed.")


class _Hidden:
    """A token, or what gives one, behind a name that no repr of a frame's variables opens."""

    __slots__ = ("_token",)

    def __init__(self, token: str | Callable[[], str]) -> None:
        self._token = token

    def __call__(self) -> str:
        return self._token() if callable(self._token) else self._token


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


def _header(give: Callable[[], str]) -> str:
    token = give()
    problem = _problem(token)
    if problem:
        del token
        raise ConfigurationError(problem)
    token = token.strip()
    return token if _HAS_SCHEME.fullmatch(token) else f"Bearer {token}"
