"""The way in: a client for the live service, or for the sandbox."""

from __future__ import annotations

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


def connect(  # noqa: PLR0913 -- each is a setting of its own, and keyword-only
    service: str = "live",
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
    records, and `kd.sandbox.users()` lists those of a fleet. Where KOODRIVE_ENDPOINT is `sandbox`,
    as for notebooks that are validated, "live" is the sandbox too, and says so. Nothing is sent
    yet. `max_workers` bounds the requests under way at once.
    `progress` shows a bar for what lasts over a second; left out, it does so in a terminal and in a
    notebook that somebody works in. `clock` gives the `fetched_at` of rows.

    Raises:
        ConfigurationError: A setting is missing or unfit, or the sandbox is not installed.
        InvalidParameterError: An argument is not what this takes.
    """
    if not isinstance(max_workers, int) or isinstance(max_workers, bool) or max_workers < 1:
        raise InvalidParameterError("max_workers= takes a whole number from 1.")
    if service == "live" and endpoint is None and settings.is_sandboxed():
        service = "sandbox"
    if service == "sandbox":
        if endpoint is not None or auth is not None:
            raise InvalidParameterError(
                "The sandbox brings its own endpoint and credentials: leave endpoint= and auth= "
                'out, or leave "sandbox" out to reach the live service.'
            )
        found = _sandbox_settings(user_id)
        clock = clock or _sandbox_now
    elif service == "live":
        found = settings.resolve(endpoint=endpoint, auth=auth, user_id=user_id)
    else:
        raise InvalidParameterError(
            # What was passed may be a token, so it is not repeated.
            'connect() takes "live" or "sandbox"; endpoint= takes an address, auth= a token.'
        )
    transport = Transport(found.endpoint, found.auth, max_workers)
    return Client(found, Service(transport, service, max_workers, clock, progress))


def _sandbox_settings(user_id: str | None) -> settings.Settings:
    try:
        from koodrive_nb import sandbox  # noqa: PLC0415 -- an optional extra
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"The sandbox needs {error.name}: pip install 'koodrive_nb[sandbox]'"
        ) from None
    running = sandbox.shared()
    return settings.resolve(
        endpoint=running.endpoint,
        auth=AppAuth(running.app_id, running.app_secret),
        user_id=sandbox.DEFAULT_USER if user_id is None else user_id,
    )


def _sandbox_now() -> datetime:
    from koodrive_nb import sandbox  # noqa: PLC0415 -- an optional extra

    return sandbox.as_of()
