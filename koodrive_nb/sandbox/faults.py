"""Ways in which a service misbehaves, to see that a client copes.

What strikes is drawn from a seed and the request's own target, so that it is the same in every run,
however many requests are under way at once.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal[
    "latency",
    "status",
    "code",
    "drop",
    "truncate",
    "not_json",
    "html",
    "repeat_cursor",
    "empty_page",
    "short_page",
    "duplicates",
    "misfit",
    "unknown_fields",
    "clock",
    "token_expiry",
]
_KINDS = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Fault:
    """One way in which the sandbox misbehaves.

    It strikes requests whose path with its query, such as `record?moduleCode=101`, holds a match of
    the regular expression `path`: of each such target a `share` of the requests, and only the first
    `times` if given. The kinds:

    - latency: answers `seconds` later.
    - status: answers with HTTP `status`, for 429 as the gateway words it; with `retry_after_s`, the
      answer has a Retry-After of so many seconds, or as a date if `as_date`.
    - code: answers with this non-zero `code` under HTTP 200.
    - drop, truncate: closes the connection after the headers, or in the middle of the body.
    - not_json, html: answers with something else under HTTP 200.
    - repeat_cursor, empty_page, short_page, duplicates: listings whose cursor comes again, whose
      page is empty or half full though a cursor follows, whose rows come again on the next page.
    - misfit, unknown_fields: rows whose values do not fit or that are unusable, and rows with
      fields that no page documents.
    - clock: the service's clock is `seconds` ahead of this machine's (or behind, if negative).
    - token_expiry: after each `every` accepted requests, the token gives way to a new one.
    """

    kind: Kind
    path: str = ""
    share: float = 1.0
    times: int | None = None
    seconds: float = 0.0
    status: int = 503
    code: int = 13000301
    retry_after_s: float | None = None
    as_date: bool = False
    every: int = 10

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"There is no fault {self.kind!r}: choose one of {', '.join(_KINDS)}.")
        if not 0 <= self.share <= 1:
            raise ValueError("share= takes a part of the requests, from 0 to 1.")
        try:
            re.compile(self.path)
        except re.error as error:
            raise ValueError(f"path= takes a regular expression: {error}.") from None
        if self.every < 1:
            raise ValueError("every= takes a whole number from 1.")


class Faults:
    """What strikes which request."""

    def __init__(self, faults: Sequence[Fault], seed: int) -> None:
        self._faults = tuple(faults)
        self._seed = seed
        self._asked: Counter[tuple[int, str]] = Counter()
        self.ahead_s = sum(fault.seconds for fault in faults if fault.kind == "clock")

    def __bool__(self) -> bool:
        return bool(self._faults)

    def strike(self, target: str) -> dict[str, Fault]:
        """Give the faults that strike the next request for a target, by kind."""
        struck: dict[str, Fault] = {}
        for number, fault in enumerate(self._faults):
            if not re.search(fault.path, target):
                continue
            self._asked[number, target] += 1
            turn = self._asked[number, target]
            # Only random() is promised to give the same numbers on every version of Python.
            draw = random.Random(f"{self._seed} {number} {target} {turn}").random()  # noqa: S311 -- no secret
            if draw < fault.share and (fault.times is None or turn <= fault.times):
                struck.setdefault(fault.kind, fault)
        return struck


def misfits(rows: Sequence[bytes]) -> list[bytes]:
    """Make rows that do not fit: odd values in every other one, and two without an id."""
    odd = []
    for number, text in enumerate(rows):
        row = json.loads(text)
        if number % 2 and "recordId" in row:
            row |= {"recordId": int(row["recordId"]), "version": "one", "properties": {"a": [1]}}
        odd.append(json.dumps(row).encode())
    return [*odd, b"null", b'{"createTime":"2025-12-01T00:00:00Z"}']


def with_unknown_fields(rows: Sequence[bytes]) -> list[bytes]:
    """Give each row a field that no page documents."""
    more = b',"tier":{"name":"gold","level":3}}'
    return [row[:-1] + more if row.endswith(b"}") else row for row in rows]


class RateLimit:
    """A token bucket: so many requests a second, as many at once after a pause."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._left = self._most = max(1.0, per_s)
        self._at = time.monotonic()
        self._lock = threading.Lock()

    def takes(self) -> bool:
        """Tell whether one more request is within the limit, and count it."""
        with self._lock:
            now = time.monotonic()
            self._left = min(self._most, self._left + (now - self._at) * self._per_s)
            self._at = now
            if self._left < 1:
                return False
            self._left -= 1
            return True
