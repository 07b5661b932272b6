"""One exchange over HTTP: a request that says who asks and when, an answer that is checked.

Source: "Viewing Backup Records" (request headers, envelope), the API's tables of status codes and
error codes, and the codes of the gateway in front of it (`APIGW.*`).
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
import requests
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
    from collections.abc import Mapping

    from requests.auth import AuthBase

_LOG = logging.getLogger("koodrive_nb")
_TIMEOUT_S = (5.0, 60.0)
# X-Date may not lie in the future: a few seconds forgive a clock that is slightly fast.
_BACK_DATED = timedelta(seconds=5)
_TRACE_ID_BYTES = 29  # The API wants exactly 58 characters.
_NOT_FOUND = "13000309"
_SHOWN_CHARACTERS = 200


class Envelope(msgspec.Struct):
    """The outer object of an answer, its rows left as they came."""

    code: int | str | None = None
    msg: Any = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    next_cursor: str | None = msgspec.field(default=None, name="nextCursor")
    error_code: int | str | None = None
    error_msg: Any = None
    source: str = "live"


_ENVELOPE = msgspec.json.Decoder(Envelope)


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

    def get(self, path: str, parameters: Mapping[str, str | int] | None = None) -> Envelope:
        """Ask for a path and return the checked envelope.

        Raises:
            ConnectionFailedError: No answer came.
            ServiceError: The service said no.
            ProtocolError: The answer breaks the contract.
        """
        trace_id = secrets.token_hex(_TRACE_ID_BYTES)
        started = time.monotonic()
        answer = self._send(path, parameters, trace_id)
        status = answer.status_code
        _LOG.debug(
            "GET %s: HTTP %d, %d bytes, %.0f ms, trace id %s",
            path,
            status,
            len(answer.content),
            1000 * (time.monotonic() - started),
            trace_id,
        )
        if answer.is_redirect or requests.codes.multiple_choices <= status < requests.codes.bad:
            raise ProtocolError(
                f"{path} was answered with a redirect (HTTP {status}), which the API does not "
                "have: check the endpoint."
            )
        envelope = _read(answer.content)
        if envelope is None or (envelope.code is None and envelope.error_code is None):
            if status >= requests.codes.bad:
                raise _refusal(status, Envelope(), path, trace_id)
            kind = answer.headers.get("Content-Type", "no content type")
            raise ProtocolError(
                f"{path} was answered with something that is not the API's JSON (HTTP {status}, "
                f"{one_line(kind, _SHOWN_CHARACTERS)!r}, {len(answer.content)} bytes): check that "
                "the endpoint is the KooDrive API and that no proxy or login page answers instead."
            )
        if status != requests.codes.ok or str(envelope.code) != "0":
            raise _refusal(status, envelope, path, trace_id)
        # The sandbox names itself, so that what it made up can never pass for live data.
        if answer.headers.get("Server", "").startswith("koodrive_nb-sandbox"):
            envelope.source = "sandbox"
        return envelope

    def _send(
        self, path: str, parameters: Mapping[str, str | int] | None, trace_id: str
    ) -> requests.Response:
        headers = {
            "X-User-Id": self._user_id,
            "X-Date": f"{datetime.now(UTC) - _BACK_DATED:%Y%m%dT%H%M%SZ}",
            "X-Traceid": trace_id,
        }
        try:
            return self._session.get(
                self._endpoint + path,
                params=parameters,
                headers=headers,
                timeout=_TIMEOUT_S,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            reason = type(error).__name__
        # Raised out here so that it drags along no frame of requests, whose variables hold the
        # Authorization header.
        raise ConnectionFailedError(
            f"{path} at {self._endpoint} gave no answer ({reason}): check the endpoint, the "
            "network and whether the service is up."
        )


def _read(body: bytes) -> Envelope | None:
    try:
        # msgspec does not check the text inside rows that it leaves as they are.
        body.decode()
        return _ENVELOPE.decode(body)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return None


def _refusal(status: int, envelope: Envelope, path: str, trace_id: str) -> ServiceError:
    raw_code = envelope.code if envelope.code is not None else envelope.error_code
    code = None if raw_code is None else one_line(raw_code, _SHOWN_CHARACTERS)
    kind, advice = _judge(status, code or "")
    return kind(
        status=status,
        code=code,
        message=one_line(envelope.msg or envelope.error_msg or "", _SHOWN_CHARACTERS),
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
                "Check the access token (it expires within minutes), the user id, and this "
                "machine's clock (at most 15 minutes behind, never ahead)."
            ),
        )
    if code == "13000102":
        return ServiceError, "Check the parameters."
    return ServiceError, "Look the code up in the API's table of error codes."
