"""A KooDrive service that runs in a thread of this process, on loopback only."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, NoReturn, Self

import uvicorn

from koodrive_nb.sandbox.calls import Calls, Credentials
from koodrive_nb.sandbox.faults import Faults, RateLimit
from koodrive_nb.sandbox.ids import checked_as_of
from koodrive_nb.sandbox.synthetic import users

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from koodrive_nb.sandbox.faults import Fault
    from koodrive_nb.sandbox.habits import Preset

_START_WITHIN_S = 20.0


class Sandbox:
    """A KooDrive service on a free port of this machine's loopback, until `stop` or `with` ends.

    Every start makes new credentials: a `token`, which opens the default user with devices in every
    condition, and `app_id` with `app_secret`, which open every synthetic user: `crowd` with a
    million records too, and those of `kd.sandbox.users(preset, seed)`, whose fleet is drawn at the
    first request for one of them. `as_of` is an earlier instant to show that fleet at, as in
    `kd.sandbox.frames`; the default user and `crowd` are as of the fixed instant at all times.
    `faults` say how it misbehaves, drawn from `seed`; `rate_limit` is in requests a second.
    `statuses` counts the answers since the start by HTTP status.

    Raises:
        InvalidParameterError: There is no such preset, the seed is no whole number, or `as_of` is
            no such instant.
    """

    def __init__(  # noqa: PLR0913 -- each is a setting of its own, and keyword-only
        self,
        port: int = 0,
        *,
        faults: Sequence[Fault] = (),
        rate_limit: float | None = None,
        preset: str | Preset = "small",
        seed: int = 0,
        as_of: str | datetime | None = None,
    ) -> None:
        if rate_limit is not None and rate_limit <= 0:
            raise ValueError("rate_limit= takes requests a second, above 0, or None for no limit.")
        self._wanted_port = port
        self._port = port
        self._planned = tuple(faults)
        self._rate_limit = rate_limit
        self._seed = seed
        self._as_of = checked_as_of(as_of)
        self._users = users(preset, seed, self._as_of)
        self._credentials = Credentials(str)
        self._calls: Calls | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def token(self) -> str:
        """The access token of the default user that is valid now."""
        return self._credentials.token

    @property
    def app_id(self) -> str:
        """The AppId that may act for every user."""
        return self._credentials.app_id

    @property
    def app_secret(self) -> str:
        """The secret that requests of the AppId are signed with."""
        return self._credentials.app_secret

    @property
    def as_of(self) -> datetime:
        """The instant that the users of the fleet are shown at."""
        return self._as_of

    @property
    def is_running(self) -> bool:
        """Whether requests are answered."""
        return self._server is not None

    @property
    def statuses(self) -> Counter[int]:
        """How many answers there were since the start, by HTTP status."""
        return self._calls.statuses.copy() if self._calls else Counter()

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
        self._credentials = Credentials(lambda: secrets.token_hex(24))
        self._calls = Calls(
            self._users,
            self._credentials,
            Faults(self._planned, self._seed),
            RateLimit(self._rate_limit) if self._rate_limit else None,
            hashlib.sha256(str(self._seed).encode()).digest(),
        )
        config = uvicorn.Config(
            self._calls.application(),
            access_log=False,
            date_header=False,
            headers=[("Server", "koodrive_nb-sandbox")],
            lifespan="off",
            log_config=None,
            # An answer that is cut on purpose is an error to the server.
            log_level="critical" if self._planned else "error",
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
