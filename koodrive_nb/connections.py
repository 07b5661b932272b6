"""Connections to one service: no answer on them takes forever, or more memory than it is worth.

The timeouts of requests are for each piece that comes, however small it is, and its bodies are of
any size; both together would let a service, or whatever stands in front of it, hold a fetch for
hours. Here an answer has one deadline, from its first byte to its last, and a largest size.
"""

from __future__ import annotations

import http.client
import io
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from koodrive_nb.settings import is_loopback

if TYPE_CHECKING:
    import socket

    from _typeshed import WriteableBuffer

_TIMEOUT_S = (5.0, 30.0)
_LONGEST_ANSWER_S = 60.0
LARGEST_MIB = 64
"""So much an answer may hold: with 100 records on a page, half a MiB for each."""
_PIECE_BYTES = 16_384


class Connections:
    """The pool of connections to one service, with what the environment says about the way there.

    An adapter and not a session: that would bring ~/.netrc, cookies and redirects along. The proxy
    may hold a password, so that no listing of attributes leads to it.
    """

    __slots__ = ("_adapter", "_proxies", "_verify")

    def __init__(self, endpoint: str, max_workers: int) -> None:
        self._adapter = _Adapter(pool_connections=1, pool_maxsize=max_workers)
        environment = requests.Session()
        # A proxy of the environment cannot reach this machine's own loopback.
        environment.trust_env = not is_loopback(urlsplit(endpoint).hostname or "")
        found = environment.merge_environment_settings(endpoint, {}, None, None, None)
        self._proxies, self._verify = found["proxies"], found["verify"] or True

    def send(self, request: requests.PreparedRequest) -> tuple[requests.Response, bytes | None]:
        """Send a request and give the answer and its body, or None for one that is too large."""
        response = self._adapter.send(
            request, timeout=_TIMEOUT_S, verify=self._verify, proxies=self._proxies
        )
        pieces, size = [], 0
        # Encoded twice, a small piece may become gigabytes before it can be counted.
        is_too_large = "," in response.headers.get("Content-Encoding", "")
        for piece in () if is_too_large else response.iter_content(_PIECE_BYTES):
            pieces.append(piece)
            size += len(piece)
            is_too_large = size > LARGEST_MIB << 20
            if is_too_large:
                break
        if is_too_large:
            response.close()
            return response, None
        return response, b"".join(pieces)

    def close(self) -> None:
        """Close all that are open."""
        self._adapter.close()


class _InTime(io.RawIOBase):
    """What comes over a socket, as long as there is time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._raw: Any = sock.makefile("rb", buffering=0)
        self._ends_at = time.monotonic() + _LONGEST_ANSWER_S

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        left_s = self._ends_at - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        # For the next request, urllib3 sets it anew.
        self._sock.settimeout(min(left_s, self._sock.gettimeout() or left_s))
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_InTime(sock))


class _Plain(HTTPConnection):
    response_class = _Response


class _Secure(HTTPSConnection):
    response_class = _Response


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _Secure


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self.poolmanager.pool_classes_by_scheme
        return manager
