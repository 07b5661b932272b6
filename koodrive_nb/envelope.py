"""The outer object of an answer: taken apart if it succeeded, turned into an error if it did not.

Source: "Viewing Backup Records" and "Listing Backup Records" (envelope), the API's tables of status
codes and error codes, and the codes of the gateway in front of it (`APIGW.*`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import requests

from koodrive_nb.errors import (
    AuthenticationError,
    KooDriveError,
    NotFoundError,
    ProtocolError,
    ServerError,
    ServiceError,
    ThrottledError,
)
from koodrive_nb.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

_Struct = TypeVar("_Struct", bound="_Common")

_NOT_FOUND = "13000309"
# A whole pair, half of one, or any other escape, so that "\\\\ud83d" is not taken for one.
_ESCAPES = re.compile(
    rb"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)
_SHOWN_CHARACTERS = 200
_SECRET_CHARACTERS = 16


class _Common(msgspec.Struct):
    code: int | str | None = None
    msg: Any = None
    next_cursor: str | int | None = msgspec.field(default=None, name="nextCursor")
    error_code: int | str | None = None
    error_msg: Any = None

    def __repr__(self) -> str:
        # A service may echo credentials, and tracebacks may show the variables of a frame.
        return f"<{type(self).__name__}>"


class _One(_Common):
    """An answer about one thing, or of any shape."""

    data: msgspec.Raw = msgspec.Raw(b"")


class _Rows(_Common):
    """A listing, its rows left as they came. Scopes have a field of their own."""

    data: list[msgspec.Raw] | msgspec.UnsetType | None = msgspec.UNSET
    scopes: list[msgspec.Raw] | msgspec.UnsetType | None = msgspec.field(
        default=msgspec.UNSET, name="scopeList"
    )


_ONE = msgspec.json.Decoder(_One)
_ROWS = msgspec.json.Decoder(_Rows)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service gave: rows as JSON text, and the next cursor.

    `repaired` counts halves of characters that were replaced, see `_mended`.
    """

    rows: list[bytes]
    next_cursor: str | None
    source: str
    trace_id: str
    repaired: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what came back for it, as far as judging it takes.

    `secrets` are pieces of the request that no message may repeat.
    """

    path: str
    status: int
    body: bytes = field(repr=False)
    source: str
    trace_id: str
    secrets: Sequence[str] = field(repr=False)
    retry_after_s: float | None = None


def read(exchange: Exchange, *, is_listing: bool) -> Answer:
    """Give what a successful answer holds: the rows of a listing, or the one thing as one row.

    Raises:
        ServiceError: The service said no.
        ProtocolError: The answer breaks the contract.
    """
    # Tracebacks may show what the line that raises names: that is never the body.
    path, status, size = exchange.path, exchange.status, len(exchange.body)
    if requests.codes.multiple_choices <= status < requests.codes.bad:
        raise ProtocolError(
            f"{path} was answered with a redirect (HTTP {status}), which the API does not have: "
            "check the endpoint."
        )
    rows, repaired = _decoded(exchange.body, _ROWS) if is_listing else (None, 0)
    one = None
    if rows is None:
        # One thing, a refusal, or a listing of some other shape.
        one, repaired = _decoded(exchange.body, _ONE)
    envelope: _Common | None = one if rows is None else rows
    if envelope is None or (envelope.code is None and envelope.error_code is None):
        if status < requests.codes.bad:
            raise ProtocolError(
                f"{path} was answered with something that is not the API's JSON (HTTP {status}, "
                f"{size} bytes): check that the endpoint is the KooDrive API and "
                "that no proxy or login page answers instead."
            )
        envelope = _Common()
    if status != requests.codes.ok or str(envelope.code) != "0":
        raise _refusal(exchange, envelope)
    if is_listing:
        found = _listed(rows, path)
    else:
        found = [] if one is None or bytes(one.data) in {b"", b"null"} else [bytes(one.data)]
    cursor = envelope.next_cursor
    cursor = str(cursor) if isinstance(cursor, int) else cursor
    return Answer(found, cursor, exchange.source, exchange.trace_id, repaired)


def _listed(rows: _Rows | None, path: str) -> list[bytes]:
    listed = msgspec.UNSET if rows is None else rows.data
    # Scopes come in a field of their own, beside which others may be empty.
    if not listed and rows is not None and rows.scopes is not msgspec.UNSET:
        listed = rows.scopes
    if listed is msgspec.UNSET:
        raise ProtocolError(
            f"{path} did not bring an array of rows: check that the endpoint is the KooDrive API."
        )
    return [] if listed is None else list(map(bytes, listed))


def _decoded(body: bytes, decoder: msgspec.json.Decoder[_Struct]) -> tuple[_Struct | None, int]:
    envelope, repaired = _attempt(body, decoder), 0
    if envelope is None:
        body, repaired = _mended(body)
        envelope = _attempt(body, decoder) if repaired else None
    return envelope, repaired


def _attempt(body: bytes, decoder: msgspec.json.Decoder[_Struct]) -> _Struct | None:
    try:
        # msgspec does not check the text inside rows that it leaves as they are.
        if not body.isascii():
            body.decode()
        return decoder.decode(body)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return None


def _mended(body: bytes) -> tuple[bytes, int]:
    """Replace halves of surrogate pairs, as a name has that was cut inside an emoji.

    JSON may escape them, but they are no text; left in, one would cost the whole page.
    """
    repaired = 0

    def mend(escape: re.Match[bytes]) -> bytes:
        nonlocal repaired
        repaired += escape.lastgroup == "half"
        return rb"\ufffd" if escape.lastgroup == "half" else escape[0]

    return _ESCAPES.sub(mend, body), repaired


def secrets_of(authorization: str) -> list[str]:
    """Give the pieces of an Authorization header that no message may repeat, longest first."""
    whole = authorization.split(maxsplit=1)[-1:]
    pieces = [
        piece for piece in re.split(r"[ ,=+]", authorization) if len(piece) >= _SECRET_CHARACTERS
    ]
    return [*whole, *sorted(pieces, key=len, reverse=True)]


def redacted(text: str, secrets: Sequence[str]) -> str:
    """Hide what a service repeats of the credentials."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "<hidden>")
    return text


def _refusal(exchange: Exchange, envelope: _Common) -> ServiceError:
    def told(words: object) -> str:
        return one_line(redacted(str(words), exchange.secrets), _SHOWN_CHARACTERS)

    raw_code = envelope.code if envelope.code is not None else envelope.error_code
    code = None if raw_code is None else told(raw_code)
    kind, advice = _judge(exchange.status, code or "")
    return kind(
        status=exchange.status,
        code=code,
        message=told(envelope.msg or envelope.error_msg or ""),
        advice=advice,
        trace_id=exchange.trace_id,
        path=exchange.path,
        retry_after_s=exchange.retry_after_s,
    )


def _judge(status: int, code: str) -> tuple[type[ServiceError], str]:
    gateway = re.fullmatch(r"APIGW?\.(\d{4})", code)
    last = gateway[1] if gateway else ""
    is_known = code.startswith("130")
    if code == _NOT_FOUND or status == requests.codes.not_found:
        return NotFoundError, "Check the id, and that it belongs to this user."
    if status == requests.codes.too_many_requests or last == "0308":
        return ThrottledError, "Wait, then ask for less at once (max_workers=)."
    if status >= requests.codes.server_error:
        return ServerError, "Try again later; if it lasts, report the trace id to the service."
    if (
        status in {requests.codes.unauthorized, requests.codes.forbidden}
        or last in {"0301", "0303", "0307"}
        # The API answers 400 without a code of its own where authentication does not pass.
        or (status == requests.codes.bad and not is_known and not gateway)
    ):
        return (
            AuthenticationError,
            (
                "Check the credentials (a token expires, often within the hour), the user id, and "
                "this machine's clock (at most 15 minutes behind, never ahead)."
            ),
        )
    if code == "13000102":
        return ServiceError, "Check the parameters."
    return ServiceError, "Look the code up in the API's table of error codes."


def not_found(path: str, trace_id: str) -> NotFoundError:
    """Give the error for a success without data, which is a thing that is not there."""
    return NotFoundError(
        status=200,
        code="0",
        message="no data",
        advice="Check the id, and that it belongs to this user.",
        trace_id=trace_id,
        path=path,
    )


def may_be_stale(error: KooDriveError) -> bool:
    """Tell whether an error can be about the time or the age of the credentials.

    That is 401, and 400 without a code that means something else.
    """
    return isinstance(error, AuthenticationError) and error.status != requests.codes.forbidden
