"""The documented GET calls over real HTTP, with the documented envelope and checks.

Written from the API's pages and not from the client, so that each checks the other.

Source: "Viewing Backup Records", "Listing Backup Records", "Listing Bound Devices"; the tables of
status codes and error codes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import re
import secrets
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NoReturn, Self

import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from koodrive_nb.columns import MAX_PAGE_SIZE, MODULES
from koodrive_nb.sandbox.synthetic import users

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request

    from koodrive_nb.sandbox.synthetic import User

_BASE = "/koodrive/ose/v1/backup"
_MAX_CURSOR = 1000
_X_DATE_WINDOW = timedelta(minutes=15)
_START_WITHIN_S = 20.0
_BAD_PARAMETER = 13000102
_NO_SUCH_RESOURCE = 13000309


class Sandbox:
    """A KooDrive service on a free port of this machine's loopback, until `stop` or `with` ends.

    Every start makes a new token, which opens every synthetic user: one user with devices in every
    condition, and `crowd` with a million records.
    """

    def __init__(self, port: int = 0) -> None:
        self.token = ""
        self._wanted_port = port
        self._port = port
        self._users = users()
        self._cursor_key = secrets.token_bytes(16)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def endpoint(self) -> str:
        """The address to connect to, once started."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> Self:
        """Serve in a thread of this process, and return when requests are answered.

        Raises:
            OSError: The port is taken.
            RuntimeError: The service did not come up.
        """
        if self._server:
            return self
        # asyncio turns Nagle's delay off only where the protocol is named: 40 ms a request.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self._wanted_port))
        except OSError:
            listener.close()
            raise
        self._port = listener.getsockname()[1]
        self.token = secrets.token_hex(24)
        config = uvicorn.Config(
            self._application(),
            access_log=False,
            headers=[("Server", "koodrive_nb-sandbox")],
            lifespan="off",
            log_config=None,
            log_level="error",
            server_header=False,
            ws="none",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="koodrive-sandbox", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + _START_WITHIN_S
        while not self._server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise RuntimeError("The sandbox did not start: is this machine's loopback usable?")
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        """Stop serving and free the port."""
        if self._server and self._thread:
            self._server.should_exit = True
            self._thread.join(_START_WITHIN_S)
            self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Sandbox({'running' if self._server else 'stopped'})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A running service is not pickled: start a Sandbox where it is needed.")

    def _application(self) -> Starlette:
        return Starlette(
            routes=[
                Route(f"{_BASE}/record", self._checked(self._list_records), methods=["GET"]),
                Route(
                    f"{_BASE}/record/{{record_id}}",
                    self._checked(self._view_record),
                    methods=["GET"],
                ),
                Route(f"{_BASE}/device", self._checked(self._list_devices), methods=["GET"]),
            ],
            exception_handlers={404: _no_such_call, 405: _no_such_call},
        )

    def _checked(
        self, answer: Callable[[Request, User], bytes]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Wrap a call in the checks that every request goes through."""

        async def call(request: Request) -> Response:
            try:
                self._check_token(request.headers.get("authorization", ""))
                _check_date(request.headers.get("x-date", ""))
                user = self._user(request.headers.get("x-user-id", ""))
                return _json(200, answer(request, user))
            except _Refusal as refusal:
                return _json(refusal.status, json.dumps(refusal.body).encode())

        return call

    def _check_token(self, authorization: str) -> None:
        given = re.fullmatch(r"bearer[ +](\S+)", authorization.strip(), re.IGNORECASE)
        if not given or not hmac.compare_digest(given[1].encode(), self.token.encode()):
            body = {"error_code": "APIGW.0301", "error_msg": "Incorrect authentication information"}
            raise _Refusal(401, body)

    def _user(self, user_id: str) -> User:
        if not user_id:
            raise _bad_parameter("X-User-Id")
        if user_id not in self._users:
            raise _Refusal(401, {"code": 401, "msg": "X-User-Id is not a user here."})
        return self._users[user_id]

    def _view_record(self, request: Request, user: User) -> bytes:
        record = user.record(request.path_params["record_id"])
        if record is None:
            raise _Refusal(400, {"code": _NO_SUCH_RESOURCE, "msg": "Resource does not exist."})
        return b'{"data":%s,"code":0,"msg":"success"}' % record

    def _list_devices(self, request: Request, user: User) -> bytes:
        del request  # This listing takes no parameters.
        return b'{"data":[%s],"code":0,"msg":"success"}' % b",".join(user.devices())

    def _list_records(self, request: Request, user: User) -> bytes:
        query = request.query_params
        module = query.get("moduleCode", "")
        if module not in MODULES:
            raise _bad_parameter("moduleCode")
        size = query.get("pageSize", "")
        if not re.fullmatch(r"[0-9]{1,3}", size) or not 1 <= int(size) <= MAX_PAGE_SIZE:
            raise _bad_parameter("pageSize")
        device_id = query.get("deviceId")
        # A cursor belongs to the listing that gave it.
        listing = f"{request.headers['x-user-id']}|{module}|{device_id}"
        start = self._open_cursor(query["cursor"], listing) if query.get("cursor") else 0
        stop = start + int(size)
        rows, total = user.page(module, device_id, start, stop)
        following = self._seal_cursor(stop, listing) if stop < total else ""
        return _page(rows, following)

    def _seal_cursor(self, start: int, listing: str) -> str:
        seal = hmac.digest(self._cursor_key, f"{start}|{listing}".encode(), hashlib.sha256)[:12]
        return base64.urlsafe_b64encode(seal + str(start).encode()).decode()

    def _open_cursor(self, cursor: str, listing: str) -> int:
        try:
            start = int(base64.urlsafe_b64decode(cursor[:_MAX_CURSOR])[12:])
        except (ValueError, binascii.Error):
            raise _bad_parameter("cursor") from None
        if self._seal_cursor(start, listing) != cursor:
            raise _bad_parameter("cursor")
        return start


class _Refusal(Exception):  # noqa: N818 -- an answer of the service, not an error of ours
    def __init__(self, status: int, body: Mapping[str, object]) -> None:
        self.status = status
        self.body = body
        super().__init__(status)


def _bad_parameter(name: str) -> _Refusal:
    return _Refusal(
        400, {"code": _BAD_PARAMETER, "msg": f"Verify parameters failed. Parameter: {name}"}
    )


def _check_date(text: str) -> None:
    try:
        given = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        given = None
    if given is None or not timedelta(0) <= datetime.now(UTC) - given <= _X_DATE_WINDOW:
        raise _Refusal(400, {"code": 400, "msg": "X-Date must lie within the last 15 minutes."})


async def _no_such_call(request: Request, error: Exception) -> Response:
    del request, error
    body = {"error_code": "APIGW.0101", "error_msg": "The API does not exist"}
    return _json(404, json.dumps(body).encode())


def _json(status: int, body: bytes) -> Response:
    return Response(body, status, media_type="application/json")


def _page(rows: Sequence[bytes], following: str) -> bytes:
    cursor = json.dumps(following).encode()
    return b'{"data":[%s],"nextCursor":%s,"code":0,"msg":"success"}' % (b",".join(rows), cursor)


_lock = threading.Lock()
_shared: tuple[int, Sandbox] | None = None


def shared() -> Sandbox:
    """Give this process's own running sandbox, started on first use."""
    global _shared  # noqa: PLW0603 -- one per process is what this function is for
    with _lock:
        # A fork inherits the variable but not the thread that serves.
        if _shared is None or _shared[0] != os.getpid():
            _shared = os.getpid(), Sandbox().start()
        return _shared[1]
