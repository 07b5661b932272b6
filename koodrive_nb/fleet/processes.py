"""Several processes that visit users, each with an interpreter of its own.

They are started as `python -m koodrive_nb.fleet.worker`, so that it works in notebooks and without
a guard in scripts. What they need, secrets included, goes to them over a pipe that only they read,
and they end with it.
"""

from __future__ import annotations

import itertools
import os
import pickle
import queue
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, TypeVar

from koodrive_nb.auth import AppAuth
from koodrive_nb.errors import InvalidParameterError, KooDriveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from requests.auth import AuthBase

    from koodrive_nb.fleet.pieces import Kept
    from koodrive_nb.jobs import Service

_T = TypeVar("_T")
_TICK_S = 0.1
_LOT = 50
# Enough for the time from keeping what came to the next lot, few enough to end together.
_MOST_DEALT = 8 * _LOT
_ENDS_WITHIN_S = 5.0


class Crew:
    """So many worker processes, for one client.

    Raises:
        InvalidParameterError: The client's credentials or clock cannot be handed over.
    """

    def __init__(
        self, service: Service, auth: AuthBase, workers: int, max_rate: float | None
    ) -> None:
        self._workers = workers
        self._task = _Hidden(
            endpoint=service.transport.endpoint,
            auth=_copies(auth),
            source=service.source,
            max_workers=service.max_workers,
            now=_now(service),
            max_rate=max_rate and max_rate / workers,
            # Of the environment, secrets are handed over likewise.
            environment=_environment(lambda name: name.startswith("KOODRIVE_P")),
        )
        self._said: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._processes: list[subprocess.Popen[bytes]] = []

    @contextmanager
    def at_work(self, folder: Path) -> Iterator[None]:
        """Let them run, and keep in a folder what comes; they end with the `with` block."""
        try:
            for number in range(self._workers):
                self._start(number, folder)
            yield
        finally:
            self._end()

    def ask(
        self,
        users: Iterable[tuple[int, str]],
        note: Callable[[Kept], None],
        tick: Callable[[], None],
    ) -> KooDriveError | None:
        """Deal users out, take note of what is kept, and give the error that ended it early.

        Raises:
            OSError: A process cannot write.
        """
        left = iter(users)
        dealt = [0] * self._workers
        for number in range(self._workers):
            self._deal(number, left, dealt)
        while any(dealt):
            tick()
            try:
                number, said = self._said.get(timeout=_TICK_S)
            except queue.Empty:
                continue
            if isinstance(said, KooDriveError):
                return said
            if isinstance(said, BaseException):
                raise said
            if said is None:
                return _died(self._processes[number])
            dealt[number] -= len(said.complete) + len(said.failed)
            note(said)
            self._deal(number, left, dealt)
        tick()
        return None

    def _deal(self, number: int, left: Iterator[tuple[int, str]], dealt: list[int]) -> None:
        while dealt[number] <= _MOST_DEALT - _LOT:
            lot = list(itertools.islice(left, _LOT))
            if not lot:
                return
            dealt[number] += len(lot)
            _send(self._processes[number], lot)

    def _start(self, number: int, folder: Path) -> None:
        environment = _environment(lambda name: not name.startswith("KOODRIVE_"))
        process = _hiding(
            lambda: subprocess.Popen(
                # Not with what lies in the current folder, which may be somebody else's.
                [sys.executable, "-P", "-m", "koodrive_nb.fleet.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                # Ctrl-C is for this process alone, which ends the others.
                start_new_session=True,
            )
        )
        self._processes.append(process)
        threading.Thread(
            target=self._listen, args=(number, process), name="koodrive-listen", daemon=True
        ).start()
        _send(process, _Hidden(self._task, folder=folder))

    def _listen(self, number: int, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout  # noqa: S101 -- it is a pipe
        while True:
            try:
                said = pickle.load(process.stdout)  # noqa: S301 -- of our own process
            except (EOFError, pickle.UnpicklingError, OSError, ValueError):
                said = None
            self._said.put((number, said))
            if said is None:
                return

    def _end(self) -> None:
        for process in self._processes:
            # Without it they have nothing to live for.
            _close(process.stdin)
        for process in self._processes:
            try:
                process.wait(_ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _close(process.stdout)


class _Hidden(dict[str, Any]):
    """What no traceback shows with the variables of its frames."""

    def __repr__(self) -> str:
        return "<hidden>"

    def __reduce__(self) -> tuple[object, ...]:
        # What is at the other end has no need to hide it.
        return dict, (), None, None, iter(self.items())


def _environment(is_wanted: Callable[[str], bool]) -> _Hidden:
    return _Hidden({name: os.environ[name] for name in os.environ if is_wanted(name)})


def _hiding(call: Callable[[], _T]) -> _T:
    """Call what holds secrets in variables of frames that are not ours, and drop those frames."""
    try:
        return call()
    except BaseException as error:  # noqa: BLE001 -- Ctrl-C too
        error.__context__ = None
        raise error.with_traceback(None) from None


def _close(pipe: IO[bytes] | None) -> None:
    # What nobody will read any more may be left in it.
    with suppress(OSError):
        if pipe:
            pipe.close()


def _send(process: subprocess.Popen[bytes], what: object) -> None:
    assert process.stdin  # noqa: S101 -- it is a pipe
    # One that died is noticed where it is listened to.
    with suppress(OSError):
        pickle.dump(what, process.stdin)
        process.stdin.flush()


def _copies(auth: AuthBase) -> object:
    # A class of your own may need more than is known here.
    if type(auth) is not AppAuth:
        raise InvalidParameterError(
            f"{type(auth).__name__} cannot be handed to other processes: use kd.AppAuth, or "
            "workers=1."
        )
    return auth.copies()


def _now(service: Service) -> datetime | None:
    """Give the instant at which a clock of ours stands still, which is that of the sandbox."""
    clock = service.clock
    if clock is not None and not str(getattr(clock, "__module__", "")).startswith("koodrive_nb."):
        raise InvalidParameterError(
            "A clock of your own cannot be handed to other processes: leave clock= out of "
            "connect(), or use workers=1."
        )
    return clock and clock()


def _died(process: subprocess.Popen[bytes]) -> KooDriveError:
    code = process.wait()
    how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    return KooDriveError(
        f"A worker process {how}: see whether memory was short, then do the same again."
    )
