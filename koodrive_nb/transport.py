"""One exchange over HTTP: a request that says who asks and when, an answer that is checked.

Source: "Viewing Backup Records" (request headers, envelope), the API's tables of status codes and
error codes, and the codes of the gateway in front of it (`APIGW.*`).
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
import requests
import urllib3
from requests.adapters import HTTPAdapter

from koodrive_nb.errors import (
    AuthenticationError,
    ConnectionFailedError,
    NotFoundError,
    ProtocolError,
    ServerError,
    ServiceError,
    ThrottledError,
)
from koodrive_nb.settings import is_loopback
from koodrive_nb.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from requests.auth import AuthBase

_LOG = logging.getLogger("koodrive_nb")
_TIMEOUT_S = (5.0, 60.0)
# X-Date may not lie in the future: a few seconds forgive a clock that is slightly fast.
_BACK_DATED = timedelta(seconds=5)
_TRACE_ID_BYTES = 29  # The API wants exactly 58 characters.
_NOT_FOUND = "13000309"
# A whole pair, half of one, or any other escape, so that "\\\\ud83d" is not taken for one.
_ESCAPES = re.compile(
    rb"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)
_SHOWN_CHARACTERS = 200
# requests lets some errors of urllib3 and of the standard library through.
_NO_ANSWER = (requests.RequestException, urllib3.exceptions.HTTPError, ValueError, OSError)


class _Envelope(msgspec.Struct):
    """The outer object of an answer, its rows left as they came."""

    code: int | str | None = None
    msg: Any = None
    data: msgspec.Raw = msgspec.Raw(b"")
    next_cursor: str | None = msgspec.field(default=None, name="nextCursor")
    error_code: int | str | None = None
    error_msg: Any = None


_ENVELOPE = msgspec.json.Decoder(_Envelope)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service gave: JSON text (empty where the field was absent), and the next cursor.

    `repaired` counts halves of characters that were replaced, see `_mended`.
    """

    data: bytes
    next_cursor: str | None
    source: str
    trace_id: str
    repaired: int


class Transport:
    """Sends GET requests to one service for one user, over one pool of connections."""

    def __init__(self, endpoint: str, auth: AuthBase, user_id: str, max_workers: int) -> None:
        self._endpoint = endpoint
        self._user_id = user_id
        self._session = requests.Session()
        self._session.auth = auth
        self._session.headers.update({"Accept": "application/json", "User-Agent": "koodrive_nb"})
        # A proxy of the environment cannot reach this machine's own loopback.
        self._session.trust_env = not is_loopback(urlsplit(endpoint).hostname or "")
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=max_workers)
        self._session.mount(endpoint, adapter)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def get(self, path: str, parameters: Mapping[str, str | int] | None = None) -> Answer:
        """Ask for a path and return what a successful answer holds.

        Raises:
            ConnectionFailedError: No answer came.
            ServiceError: The service said no.
            ProtocolError: The answer breaks the contract.
        """
        trace_id = secrets.token_hex(_TRACE_ID_BYTES)
        started = time.monotonic()
        response = self._send(path, parameters, trace_id)
        status = response.status_code
        _LOG.debug(
            "GET %s: HTTP %d, %d bytes, %.0f ms, trace id %s",
            path,
            status,
            len(response.content),
            1000 * (time.monotonic() - started),
            trace_id,
        )
        if requests.codes.multiple_choices <= status < requests.codes.bad:
            raise ProtocolError(
                f"{path} was answered with a redirect (HTTP {status}), which the API does not "
                "have: check the endpoint."
            )
        envelope, repaired = _read(response.content), 0
        if envelope is None:
            body, repaired = _mended(response.content)
            envelope = _read(body) if repaired else None
        if envelope is None or (envelope.code is None and envelope.error_code is None):
            if status < requests.codes.bad:
                raise ProtocolError(
                    f"{path} was answered with something that is not the API's JSON (HTTP "
                    f"{status}, {len(response.content)} bytes): check that the endpoint is the "
                    "KooDrive API and that no proxy or login page answers instead."
                )
            envelope = _Envelope()
        if status != requests.codes.ok or str(envelope.code) != "0":
            secret = str(response.request.headers.get("Authorization", "")).split(maxsplit=1)[-1:]
            raise _refusal(status, envelope, path, trace_id, secret)
        # The sandbox names itself, so that what it made up can never pass for live data.
        is_sandbox = response.headers.get("Server", "").startswith("koodrive_nb-sandbox")
        source = "sandbox" if is_sandbox else "live"
        return Answer(bytes(envelope.data), envelope.next_cursor, source, trace_id, repaired)

    def _send(
        self, path: str, parameters: Mapping[str, str | int] | None, trace_id: str
    ) -> requests.Response:
        headers = {
            "X-User-Id": self._user_id,
            "X-Date": f"{datetime.now(UTC) - _BACK_DATED:%Y%m%dT%H%M%SZ}",
            "X-Traceid": trace_id,
        }
        # What a token callable raises is the caller's own, so it comes through as it is.
        request = self._session.prepare_request(
            requests.Request("GET", self._endpoint + path, params=parameters, headers=headers)
        )
        proxies = self._session.merge_environment_settings(request.url, {}, None, None, None)
        try:
            return self._session.send(request, timeout=_TIMEOUT_S, allow_redirects=False, **proxies)
        except _NO_ANSWER as error:
            reason = type(error).__name__
        except BaseException as interruption:  # noqa: BLE001 -- as the next line says
            # Ctrl-C too: frames of requests hold the Authorization header in their variables.
            raise interruption.with_traceback(None) from None
        # Raised out here, so that the error drags no such frame along either.
        raise ConnectionFailedError(
            f"{path} at {self._endpoint} gave no answer ({reason}): check the endpoint, the "
            "network and whether the service is up."
        )


def _read(body: bytes) -> _Envelope | None:
    try:
        # msgspec does not check the text inside rows that it leaves as they are.
        body.decode()
        return _ENVELOPE.decode(body)
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


def _refusal(
    status: int, envelope: _Envelope, path: str, trace_id: str, secrets_sent: Sequence[str]
) -> ServiceError:
    def told(words: object) -> str:
        text = str(words)
        for secret in filter(None, secrets_sent):
            text = text.replace(secret, "<hidden>")
        return one_line(text, _SHOWN_CHARACTERS)

    raw_code = envelope.code if envelope.code is not None else envelope.error_code
    code = None if raw_code is None else told(raw_code)
    kind, advice = _judge(status, code or "")
    return kind(
        status=status,
        code=code,
        message=told(envelope.msg or envelope.error_msg or ""),
        advice=advice,
        trace_id=trace_id,
        path=path,
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
                "Check the access token (it expires, often within the hour), the user id, and this "
                "machine's clock (at most 15 minutes behind, never ahead)."
            ),
        )
    if code == "13000102":
        return ServiceError, "Check the parameters."
    return ServiceError, "Look the code up in the API's table of error codes."
