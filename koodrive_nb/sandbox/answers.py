"""How the service words its answers: refusals, pages, and those that are cut short.

Source: the API's tables of status codes and error codes; the gateway's codes.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.types import Receive, Scope, Send

_X_DATE_WINDOW = timedelta(minutes=15)
_BAD_PARAMETER = 13000102
_NO_SUCH_RESOURCE = 13000309


class Refusal(Exception):  # noqa: N818 -- an answer of the service, not an error of ours
    """A request that is answered with no."""

    def __init__(self, status: int, body: Mapping[str, object]) -> None:
        self.status = status
        self.body = body
        super().__init__(status)


class Cut(Response):
    """An answer that promises its whole body and closes the connection before its end."""

    def __init__(self, whole: Response, share: float) -> None:
        body = bytes(whole.body)
        super().__init__(body, whole.status_code, media_type="application/json")
        self._sent = body[: int(share * len(body))]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the headers and the first part of the body, and return before its end."""
        del scope, receive
        headers: list[Any] = self.raw_headers
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": self._sent, "more_body": True})


def found(row: bytes | None) -> bytes:
    """Give what is there, and refuse where there is nothing."""
    if row is None:
        raise Refusal(400, {"code": _NO_SUCH_RESOURCE, "msg": "Resource does not exist."})
    return row


def bad_parameter(name: str) -> Refusal:
    """Refuse a parameter that is missing or out of its range."""
    return Refusal(
        400, {"code": _BAD_PARAMETER, "msg": f"Verify parameters failed. Parameter: {name}"}
    )


def check_date(text: str, now: datetime) -> None:
    """Refuse an X-Date that is not within the last 15 minutes."""
    try:
        given = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        given = None
    if given is None or not timedelta(0) <= now - given <= _X_DATE_WINDOW:
        raise Refusal(400, {"code": 400, "msg": "X-Date must lie within the last 15 minutes."})


def no_such_call() -> Response:
    """Answer a call that does not exist as the gateway does."""
    body = {"error_code": "APIGW.0101", "error_msg": "The API does not exist"}
    return json_response(404, json.dumps(body).encode())


def throttled() -> Response:
    """Answer a call too many as the gateway does."""
    body = {"error_code": "APIGW.0308", "error_msg": "The throttling threshold has been reached"}
    return json_response(429, json.dumps(body).encode())


def json_response(status: int, body: bytes) -> Response:
    """Answer with JSON."""
    return Response(body, status, media_type="application/json")


def single(rows: Sequence[bytes], name: str = "data") -> bytes:
    """Write a listing that has no pages."""
    return b'{"%s":[%s],"code":0,"msg":"success"}' % (name.encode(), b",".join(rows))


def page(rows: bytes, following: str) -> bytes:
    """Write one page of a listing, and the cursor of the next."""
    cursor = json.dumps(following).encode()
    return b'{"data":[%s],"nextCursor":%s,"code":0,"msg":"success"}' % (rows, cursor)
