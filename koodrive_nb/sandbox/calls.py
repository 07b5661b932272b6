"""The documented GET calls, with the documented envelope and checks, and the faults asked for.

Written from the API's pages and not from the client, so that each checks the other.

Source: "Viewing Backup Records", "Listing Backup Records", "Listing Bound Devices", "Listing Backup
Files", "Listing Backup Scopes", "Listing Configurations"; the tables of status codes and error
codes.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from koodrive_nb.columns import MAX_PAGE_SIZE, MODULES
from koodrive_nb.sandbox import answers, contents, faults, signatures
from koodrive_nb.sandbox.synthetic import DEFAULT_USER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request

    from koodrive_nb.sandbox.faults import Fault, Faults, RateLimit
    from koodrive_nb.sandbox.synthetic import User

_BASE = "/koodrive/ose/v1/backup"
_MAX_CURSOR = 1000
_OVERLAP = 5
_LOGIN_PAGE = b"<!doctype html><title>Log in</title><p>Please log in to go on."


class Credentials:
    """What opens the service: one user's token, and an AppId that acts for every user."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make
        self.token = make()
        self.app_id = make()
        self.app_secret = make()
        self._accepted = 0

    def count(self, expiry: Fault | None) -> None:
        """Count an accepted request, and give out a new token where the old one has expired."""
        self._accepted += 1
        if expiry and self._accepted % expiry.every == 0:
            self.token = self._make()


class Calls:
    """The calls of one service. `statuses` counts its answers by HTTP status."""

    def __init__(
        self,
        users: Mapping[str, User],
        credentials: Credentials,
        planned: Faults,
        limit: RateLimit | None,
        cursor_key: bytes,
    ) -> None:
        self._users = users
        self._credentials = credentials
        self._faults = planned
        self._limit = limit
        self._cursor_key = cursor_key
        self.statuses: Counter[int] = Counter()

    def application(self) -> Starlette:
        """Give the calls as an ASGI application."""
        calls: Mapping[str, Callable[[_Call], bytes]] = {
            "record": self._list_records,
            "record/{record_id}": self._view_record,
            "record/{record_id}/files": self._list_files,
            "device": self._list_devices,
            "device/{device_id}/scope": self._list_scopes,
            "device/{device_id}/configs": self._list_configs,
        }
        return Starlette(
            routes=[
                Route(f"{_BASE}/{path}", self._endpoint(call), methods=["GET"])
                for path, call in calls.items()
            ],
            exception_handlers={404: self._no_such_call, 405: self._no_such_call},
        )

    def _endpoint(
        self, answer: Callable[[_Call], bytes]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Wrap a call in the checks that every request goes through, and in the faults."""

        async def call(request: Request) -> Response:
            target = self._target(request)
            struck = self._faults.strike(target)
            if "latency" in struck:
                await asyncio.sleep(struck["latency"].seconds)
            now = datetime.now(UTC) + timedelta(seconds=self._faults.ahead_s)
            response = self._misbehave(struck, now)
            if response is None:
                try:
                    self._check(request, now)
                    self._credentials.count(struck.get("token_expiry"))
                    user = self._user(request.headers.get("x-user-id", ""))
                    response = answers.json_response(200, answer(_Call(request, user, struck)))
                except answers.Refusal as refusal:
                    response = answers.json_response(
                        refusal.status, json.dumps(refusal.body).encode()
                    )
                if "drop" in struck or "truncate" in struck:
                    response = answers.Cut(response, 0.5 if "truncate" in struck else 0)
            return self._stamped(response, now)

        return call

    async def _no_such_call(self, request: Request, error: Exception) -> Response:
        del request, error
        return self._stamped(answers.no_such_call(), datetime.now(UTC))

    def _stamped(self, response: Response, now: datetime) -> Response:
        response.headers["Date"] = format_datetime(now, usegmt=True)
        self.statuses[response.status_code] += 1
        return response

    def _misbehave(self, struck: Mapping[str, Fault], now: datetime) -> Response | None:
        if self._limit and not self._limit.takes():
            return answers.throttled()
        if "status" in struck:
            fault = struck["status"]
            if fault.status == HTTPStatus.TOO_MANY_REQUESTS:
                response = answers.throttled()
            else:
                response = Response(b"<html>no healthy upstream</html>", fault.status)
            if fault.retry_after_s is not None:
                until = format_datetime(now + timedelta(seconds=fault.retry_after_s), usegmt=True)
                seconds = f"{fault.retry_after_s:.0f}"
                response.headers["Retry-After"] = until if fault.as_date else seconds
            return response
        if "code" in struck:
            body = {"code": struck["code"].code, "msg": "inner server invoke failure"}
            return answers.json_response(200, json.dumps(body).encode())
        if "html" in struck:
            return Response(_LOGIN_PAGE, media_type="text/html")
        if "not_json" in struck:
            return answers.json_response(200, b'{"data":[{"recordId":"18')
        return None

    def _target(self, request: Request) -> str:
        """Name what is asked for, the same in every run, whatever the cursors look like."""
        query = dict(request.query_params)
        if query.get("cursor"):
            start, _ = self._position(query.pop("cursor"))
            query["from"] = str(start)
        path = request.url.path.removeprefix(f"{_BASE}/")
        return f"{path}?{'&'.join(f'{name}={query[name]}' for name in sorted(query))}"

    def _check(self, request: Request, now: datetime) -> None:
        authorization = request.headers.get("authorization", "").strip()
        if authorization.startswith("HMAC-SHA256 "):
            scope = request.scope
            keys = {self._credentials.app_id.encode(): self._credentials.app_secret.encode()}
            if not signatures.is_genuine(
                request.method,
                scope["raw_path"],
                scope["query_string"],
                dict(scope["headers"]),
                keys,
            ):
                body = {"error_code": "APIGW.0303", "error_msg": "Incorrect app authentication"}
                raise answers.Refusal(401, body)
        else:
            given = re.fullmatch(r"bearer[ +](\S+)", authorization, re.IGNORECASE)
            token = self._credentials.token.encode()
            if not given or not hmac.compare_digest(given[1].encode(), token):
                body = {"error_code": "APIGW.0301", "error_msg": "Incorrect authentication"}
                raise answers.Refusal(401, body)
            if request.headers.get("x-user-id", "") not in {"", DEFAULT_USER}:
                raise answers.Refusal(401, {"code": 401, "msg": "The token is another user's."})
        answers.check_date(request.headers.get("x-date", ""), now)

    def _user(self, user_id: str) -> User:
        if not user_id:
            raise answers.bad_parameter("X-User-Id")
        if user_id not in self._users:
            raise answers.Refusal(401, {"code": 401, "msg": "X-User-Id is not a user here."})
        return self._users[user_id]

    def _view_record(self, call: _Call) -> bytes:
        rows = call.bent([call.record()])
        return b'{"data":%s,"code":0,"msg":"success"}' % rows[0]

    def _list_devices(self, call: _Call) -> bytes:
        return answers.single(call.bent(call.user.devices(), may_misfit=True))

    def _list_scopes(self, call: _Call) -> bytes:
        rows = contents.scopes(call.device(), call.module())
        return answers.single(call.bent(rows, may_misfit=True), "scopeList")

    def _list_configs(self, call: _Call) -> bytes:
        rows = contents.configs(call.device(), call.module())
        return answers.single(call.bent(rows, may_misfit=True))

    def _list_files(self, call: _Call) -> bytes:
        rows = contents.files(call.record())
        return self._page(
            call, call.request.url.path, lambda start, stop: (rows[start:stop], len(rows))
        )

    def _list_records(self, call: _Call) -> bytes:
        module, device_id = call.module(), call.query.get("deviceId")
        return self._page(
            call,
            f"{module}|{device_id}",
            lambda start, stop: call.user.page(module, device_id, start, stop),
        )

    def _page(
        self,
        call: _Call,
        listing: str,
        cut: Callable[[int, int], tuple[Sequence[bytes], int]],
    ) -> bytes:
        size_text = call.query.get("pageSize", "")
        if not re.fullmatch(r"[0-9]{1,3}", size_text) or not 1 <= int(size_text) <= MAX_PAGE_SIZE:
            raise answers.bad_parameter("pageSize")
        # A cursor belongs to the listing that gave it.
        listing = f"{call.request.headers['x-user-id']}|{listing}"
        cursor = call.query.get("cursor", "")
        start, hop = self._position(cursor) if cursor else (0, 0)
        if cursor and self._seal(start, hop, listing) != cursor:
            raise answers.bad_parameter("cursor")
        size = int(size_text)
        if "empty_page" in call.struck:
            return answers.page(b"", self._seal(start, hop + 1, listing))
        if "short_page" in call.struck:
            size = max(1, size // 2)
        stop = start + size
        if "duplicates" in call.struck:
            start = max(0, start - _OVERLAP)
        rows, total = cut(start, stop)
        following = self._seal(stop, 0, listing) if stop < total else ""
        if "repeat_cursor" in call.struck:
            following = cursor or self._seal(0, 0, listing)
        return answers.page(b",".join(call.bent(rows, may_misfit=True)), following)

    def _seal(self, start: int, hop: int, listing: str) -> str:
        seal = hmac.digest(self._cursor_key, f"{start}.{hop}|{listing}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(seal[:12] + f"{start}.{hop}".encode()).decode()

    def _position(self, cursor: str) -> tuple[int, int]:
        try:
            start, _, hop = base64.urlsafe_b64decode(cursor[:_MAX_CURSOR])[12:].partition(b".")
            return int(start), int(hop)
        except (ValueError, binascii.Error):
            return -1, -1


class _Call:
    """One request that passed the checks: who asks for what, and which faults strike it."""

    def __init__(self, request: Request, user: User, struck: Mapping[str, Fault]) -> None:
        self.request = request
        self.query = request.query_params
        self.user = user
        self.struck = struck

    def module(self) -> str:
        module = self.query.get("moduleCode", "")
        if module not in MODULES:
            raise answers.bad_parameter("moduleCode")
        return module

    def record(self) -> bytes:
        return answers.found(self.user.record(self.request.path_params["record_id"]))

    def device(self) -> bytes:
        return answers.found(self.user.device(self.request.path_params["device_id"]))

    def bent(self, rows: Sequence[bytes], *, may_misfit: bool = False) -> Sequence[bytes]:
        if "misfit" in self.struck and may_misfit:
            rows = faults.misfits(rows)
        return faults.with_unknown_fields(rows) if "unknown_fields" in self.struck else rows
