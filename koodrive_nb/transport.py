"""One question over HTTP: signed, paced, asked again where that helps, and its answer checked.

Source: "Viewing Backup Records" (request headers). What is asked again, and how often, is not
documented: network errors and HTTP 500, 502, 503, 504 a few times, with growing pauses of which a
random part is waited (full jitter); HTTP 429 and the gateway's 0308 for as long as it takes, all
together within one deadline.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import requests
import stamina
import urllib3

from koodrive_nb import envelope
from koodrive_nb.clock import Clock, http_date
from koodrive_nb.connections import LARGEST_MIB, Connections
from koodrive_nb.errors import (
    AuthenticationError,
    ConnectionFailedError,
    KooDriveError,
    ProtocolError,
    ThrottledError,
)
from koodrive_nb.pacing import Pace
from koodrive_nb.signing import canonical_query
from koodrive_nb.text import one_line

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Mapping

    from requests.auth import AuthBase

_LOG = logging.getLogger("koodrive_nb")
# stamina logs each retry as a warning, which without a handler would end up in the notebook.
logging.getLogger("stamina").addHandler(logging.NullHandler())

_ATTEMPTS = 5
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 20.0
_LONGEST_RETRY_AFTER_S = 60.0
_GIVE_UP_AFTER_S = 180.0
_TRACE_ID_BYTES = 29  # The API wants exactly 58 characters.
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
    "User-Agent": "koodrive_nb",
}
# requests lets some errors of urllib3 and of the standard library through.
_NO_ANSWER = (requests.RequestException, urllib3.exceptions.HTTPError, ValueError, OSError)
_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"


class Transport:
    """Sends GET requests to one service, over one pool of connections."""

    def __init__(self, endpoint: str, auth: AuthBase, max_workers: int) -> None:
        self.clock = Clock()
        self.endpoint = endpoint
        self._auth = auth
        self._pace = Pace()
        self._connections = Connections(endpoint, max_workers)

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    @contextmanager
    def capped(self, most_per_s: float | None) -> Iterator[None]:
        """Send at most so many requests a second meanwhile, evenly spaced."""
        before = self._pace.most_per_s
        self._pace.most_per_s = most_per_s or before
        try:
            yield
        finally:
            self._pace.most_per_s = before

    def get(
        self,
        path: str,
        parameters: Mapping[str, str | int] | None = None,
        *,
        user_id: str,
        is_listing: bool = False,
        stop: threading.Event | None = None,
    ) -> envelope.Answer:
        """Ask for a path on behalf of a user and return what a successful answer holds.

        Once `stop` is set, nothing is asked again.

        Raises:
            ConnectionFailedError: No answer came.
            ServiceError: The service said no.
            ProtocolError: The answer breaks the contract.
        """
        query = canonical_query([(name, str(value)) for name, value in (parameters or {}).items()])
        target = f"{path}?{query}" if query else path
        failures = 0
        started = time.monotonic()

        def pause_s(error: Exception) -> float | bool:
            nonlocal failures
            is_stopped = stop is not None and stop.is_set()
            if is_stopped or not isinstance(error, KooDriveError) or not error.retryable:
                return False
            left_s = _GIVE_UP_AFTER_S - (time.monotonic() - started)
            if isinstance(error, ThrottledError):
                # The pace holds this and all other workers back.
                return 0.0 if self._pace.pause_s < left_s else False
            failures += 1
            if failures == _ATTEMPTS:
                return False
            if error.retry_after_s is not None:
                pause = min(error.retry_after_s, _LONGEST_RETRY_AFTER_S)
            else:
                highest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (failures - 1))
                pause = random.uniform(0, highest)  # noqa: S311 -- no secret
            return pause if pause < left_s else False

        for attempt in stamina.retry_context(on=pause_s, attempts=None, timeout=_GIVE_UP_AFTER_S):
            with attempt:
                return self._ask(target, user_id, is_listing=is_listing, stop=stop)
        raise AssertionError  # pragma: no cover  # the loop returns or raises

    def _ask(
        self, target: str, user_id: str, *, is_listing: bool, stop: threading.Event | None
    ) -> envelope.Answer:
        """Ask, and once more where the refusal can be about the time or the credentials' age."""
        is_renewed = is_corrected = False
        while True:
            turn = self._pace.wait()
            if stop is not None and stop.is_set():
                raise ConnectionFailedError(f"{target.partition('?')[0]} was not asked any more.")
            correction = self.clock.correction
            request, response, body, trace_id = self._send(target, user_id)
            exchange = envelope.Exchange(
                path=target.partition("?")[0],
                status=response.status_code,
                body=body,
                # The sandbox names itself, so that what it made up can never pass for live data.
                source="sandbox"
                if response.headers.get("Server", "").startswith("koodrive_nb-sandbox")
                else "live",
                trace_id=trace_id,
                secrets=envelope.secrets_of(request.headers.get("Authorization", "")),
                retry_after_s=_retry_after_s(response),
            )
            # It may repeat what the request proved itself with, and tracebacks show variables.
            del body
            try:
                answer = envelope.read(exchange, is_listing=is_listing)
            except ThrottledError as error:
                self._pace.refuse(turn, error.retry_after_s)
                raise
            except AuthenticationError as error:
                if not envelope.may_be_stale(error):
                    raise
                if self.clock.explains(correction, response.headers.get("Date")):
                    is_corrected = True
                elif is_renewed or not self._renewed(error, request):
                    if is_corrected:
                        self.clock.forget()
                    raise
                else:
                    is_renewed = True
            else:
                self._pace.accept()
                return answer

    def _renewed(self, error: AuthenticationError, request: requests.PreparedRequest) -> bool:
        renew = getattr(self._auth, "renew", None)
        has_other = bool(renew and renew(request))
        # 400 without a code may be about the signature's age, which every request has anew.
        return has_other or error.status == requests.codes.bad

    def _send(
        self, target: str, user_id: str
    ) -> tuple[requests.PreparedRequest, requests.Response, bytes, str]:
        trace_id = secrets.token_hex(_TRACE_ID_BYTES)
        path = target.partition("?")[0]
        request = requests.PreparedRequest()
        # What a token callable raises is the caller's own, so it comes through as it is.
        request.prepare(
            method="GET",
            url=self.endpoint + target,
            headers=_HEADERS
            | {"X-User-Id": user_id, "X-Date": self.clock.stamp(), "X-Traceid": trace_id},
            auth=self._auth,
        )
        started = time.monotonic()
        reason, is_for_good = "", False
        try:
            response, body = self._connections.send(request)
        except _NO_ANSWER as error:
            # Those come again: a certificate that is not trusted, an address that cannot be.
            reason = _UNTRUSTED if _UNTRUSTED in str(error) else type(error).__name__
            is_for_good = reason == _UNTRUSTED or isinstance(error, ValueError)
        except BaseException as interruption:  # noqa: BLE001 -- as the next line says
            # Ctrl-C too: frames of requests hold the Authorization header in their variables.
            interruption.__context__ = None
            raise interruption.with_traceback(None) from None
        elapsed_ms = 1000 * (time.monotonic() - started)
        if reason:
            _LOG.debug("GET %s: %s, %.0f ms, trace id %s", path, reason, elapsed_ms, trace_id)
            # Raised out here, so that the error drags no such frame along either.
            raise self._no_answer(path, reason, is_for_good=is_for_good)
        if body is None:
            raise ProtocolError(
                f"{path} was answered with more than {LARGEST_MIB} MiB, which no page of the API "
                "holds: check the endpoint."
            )
        _LOG.debug(
            "GET %s: HTTP %d, %d bytes, %.0f ms, trace id %s, request id %s",
            path,
            response.status_code,
            len(body),
            elapsed_ms,
            trace_id,
            _request_id(request, response),
        )
        return request, response, body, trace_id

    def _no_answer(self, path: str, reason: str, *, is_for_good: bool) -> ConnectionFailedError:
        advice = "check the endpoint, the network and whether the service is up."
        if reason == _UNTRUSTED:
            advice = (
                "its certificate is not trusted here. For an authority of your own, set "
                "REQUESTS_CA_BUNDLE to the file with its certificate."
            )
        elif reason == "ProxyError":
            advice = "check the proxy that HTTPS_PROXY names."
        error = ConnectionFailedError(
            f"{path} at {self.endpoint} gave no answer ({reason}): {advice}"
        )
        error.retryable = not is_for_good
        return error


def _request_id(request: requests.PreparedRequest, response: requests.Response) -> str:
    """Give the service's own id of a request, without what it may repeat of the credentials."""
    sent = envelope.secrets_of(request.headers.get("Authorization", ""))
    return one_line(envelope.redacted(response.headers.get("X-Request-Id", "-"), sent), 64)


def _retry_after_s(response: requests.Response) -> float | None:
    """Read Retry-After, in seconds or as a date, which is compared with the service's own."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    until = http_date(text) if text else None
    if until is None:
        return None
    now = http_date(response.headers.get("Date")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())
