"""The way in: a client for the live service, or for the sandbox."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from koodrive_nb import settings
from koodrive_nb.auth import AppAuth
from koodrive_nb.client import Client
from koodrive_nb.errors import ConfigurationError, InvalidParameterError
from koodrive_nb.jobs import Service
from koodrive_nb.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from requests.auth import AuthBase

    from koodrive_nb.sandbox import Sandbox


def connect(  # noqa: PLR0913 -- each is a setting of its own, and keyword-only
    service: str | Sandbox = "live",
    *,
    endpoint: str | None = None,
    auth: AuthBase | None = None,
    user_id: str | None = None,
    max_workers: int = 8,
    progress: bool | None = None,
    clock: Callable[[], datetime] | None = None,
) -> Client:
    """Connect to the KooDrive service, or to the sandbox that needs no account.

    With "live", what is not passed comes from KOODRIVE_ENDPOINT, KOODRIVE_USER_ID, and
    KOODRIVE_TOKEN or KOODRIVE_APP_ID with KOODRIVE_APP_SECRET. With "sandbox", an embedded service
    answers with synthetic data, as of a fixed instant; `user_id="crowd"` is its user with a million
    records, and `kd.sandbox.users()` lists those of a fleet. A running `kd.sandbox.Sandbox` stands
    for itself, as of its own instant. Where KOODRIVE_ENDPOINT is `sandbox`, as for notebooks that
    are validated, "live" is the sandbox too, and says so. Nothing is sent yet. `max_workers` bounds
    the requests under way at once. `progress` shows a bar for what lasts over a second; left out,
    it does so in a terminal and in a notebook that somebody works in. `clock` gives the
    `fetched_at` of rows.

    Raises:
        ConfigurationError: A setting is missing or unfit, or the sandbox is not installed.
        InvalidParameterError: An argument is not what this takes.
    """
    if not settings.is_whole(max_workers, 1):
        raise InvalidParameterError("max_workers= takes a whole number from 1.")
    running = _running(service)
    if service == "live" and endpoint is None and settings.is_sandboxed():
        service = "sandbox"
    if running is not None or service == "sandbox":
        if endpoint is not None or auth is not None:
            raise InvalidParameterError(
                "The sandbox brings its own endpoint and credentials: leave endpoint= and auth= "
                'out, or leave "sandbox" out to reach the live service.'
            )
        source = "sandbox"
        running = running or _shared()
        found = _settings_of(running, user_id)
        instant = running.as_of
        clock = clock or (lambda: instant)
    elif service == "live":
        source = "live"
        found = settings.resolve(endpoint=endpoint, auth=auth, user_id=user_id)
    else:
        raise InvalidParameterError(
            # What was passed may be a token, so it is not repeated.
            'connect() takes "live" or "sandbox", or a kd.sandbox.Sandbox; endpoint= takes an '
            "address, auth= a token."
        )
    transport = Transport(found.endpoint, found.auth, max_workers)
    return Client(found, Service(transport, source, max_workers, clock, progress))


def _running(service: object) -> Sandbox | None:
    """Give a sandbox that was passed, and None for anything else."""
    # Where its module is not loaded, which needs an extra, there is none to pass.
    loaded = sys.modules.get("koodrive_nb.sandbox")
    if loaded is None or not isinstance(service, loaded.Sandbox):
        return None
    sandbox: Sandbox = service
    if not sandbox.is_running:
        raise InvalidParameterError(
            "This sandbox is not running: connect inside `with kd.sandbox.Sandbox() as sandbox:`, "
            "or call its start() before."
        )
    return sandbox


def _shared() -> Sandbox:
    try:
        from koodrive_nb import sandbox  # noqa: PLC0415 -- an optional extra
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"The sandbox needs {error.name}: pip install 'koodrive_nb[sandbox]'"
        ) from None
    return sandbox.shared()


def _settings_of(running: Sandbox, user_id: str | None) -> settings.Settings:
    from koodrive_nb.sandbox import DEFAULT_USER  # noqa: PLC0415 -- an optional extra

    return settings.resolve(
        endpoint=running.endpoint,
        auth=AppAuth(running.app_id, running.app_secret),
        user_id=DEFAULT_USER if user_id is None else user_id,
    )
