"""How fast one client asks: as fast as it can, until the service says that it is too fast.

The API documents no limit, so the pace is learnt: a refusal for asking too often holds every worker
of the client back, and sets the pace below what the service took last. From there it climbs back,
slowly near that point and ever faster beyond it (CUBIC, RFC 9438, in requests a second).
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque

_WINDOW_S = 1.0
_SLOWER = 0.8
_CLIMB = 0.01
_SLOWEST_PER_S = 0.2
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0


class Pace:
    """The pace that all workers of one client share.

    `most_per_s` is a bound that the user sets, whatever the service would take; None for none.
    Requests are spaced evenly below it.
    """

    def __init__(self) -> None:
        self.most_per_s: float | None = None
        self._lock = threading.Lock()
        self._accepted: deque[float] = deque(maxlen=4096)
        self._taken_per_s = 0.0
        """What the service took before its last refusal; 0 while nothing is known of a limit."""
        self._next = 0.0
        self._held_until = 0.0
        self._refused_at = 0.0
        self._refusals = 0
        self._pauses = 0

    def wait(self) -> float:
        """Wait for the turn of one request and tell when it came, on the monotonic clock."""
        while True:
            with self._lock:
                now = time.monotonic()
                turn, pauses = max(now, self._next, self._held_until), self._pauses
                if self._taken_per_s or self.most_per_s:
                    self._next = turn + self._spacing_s(turn)
            if turn > now:
                time.sleep(turn - now)
            # After a refusal in the meantime, those who had their turn queue up again.
            if pauses == self._pauses:
                return turn

    @property
    def pause_s(self) -> float:
        """How long everybody is held back from now."""
        return max(0.0, self._held_until - time.monotonic())

    def accept(self) -> None:
        """Note that the service took a request."""
        with self._lock:
            self._accepted.append(time.monotonic())
            self._refusals = 0

    def refuse(self, turn: float, retry_after_s: float | None) -> None:
        """Hold everybody back after the request of that turn was refused for asking too often."""
        with self._lock:
            if turn < self._refused_at:
                # It was under way already when another refusal set the pace.
                return
            now = time.monotonic()
            taken = sum(moment > now - _WINDOW_S for moment in self._accepted)
            # Where nothing was taken, nothing is learnt but to wait.
            if taken:
                pace = self._per_s(turn) if self._taken_per_s else taken
                self._taken_per_s = max(min(taken / _WINDOW_S, pace), _SLOWEST_PER_S)
            if retry_after_s is None:
                highest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(self._refusals, 10))
                # Many limits are for each minute: half of the pause is certain.
                retry_after_s = highest * random.uniform(0.5, 1)  # noqa: S311 -- no secret
            # A service that asks to wait no time at all would be asked without end.
            retry_after_s = max(retry_after_s, _FIRST_PAUSE_S / 2)
            self._refusals += 1
            self._pauses += 1
            self._refused_at = now
            self._next = self._held_until = now + min(retry_after_s, _LONGEST_PAUSE_S)

    def _spacing_s(self, turn: float) -> float:
        learnt_s = 1 / self._per_s(turn) if self._taken_per_s else 0.0
        return max(learnt_s, 1 / self.most_per_s if self.most_per_s else 0.0)

    def _per_s(self, moment: float) -> float:
        """Give the pace at a moment after the pause that a refusal brought."""
        back_after_s = float((self._taken_per_s * (1 - _SLOWER) / _CLIMB) ** (1 / 3))
        since_s = max(0.0, moment - self._held_until)
        return float(self._taken_per_s + _CLIMB * (since_s - back_after_s) ** 3)
