"""Connecting without code: to the sandbox, or to the live service."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets as widgets

from koodrive_nb import connection, streams
from koodrive_nb.charts import theme
from koodrive_nb.errors import (
    AuthenticationError,
    ConnectionFailedError,
    KooDriveError,
    NotFoundError,
    ServiceError,
)
from koodrive_nb.forms.account import AccountFields
from koodrive_nb.forms.form import Form, Notice, described
from koodrive_nb.forms.hands import handled, in_order, once
from koodrive_nb.text import one_line

if TYPE_CHECKING:
    import pandas as pd

    from koodrive_nb.client import Client

_SAID_CHARACTERS = 160


class ConnectForm(Form):
    """Connects to the sandbox or to the live service; `client` is what it connected to.

    Fields are filled from `KOODRIVE_ENDPOINT` and `KOODRIVE_USER_ID`. Left empty, the secret ones
    stand for `KOODRIVE_TOKEN`, `KOODRIVE_APP_ID` and `KOODRIVE_APP_SECRET`. A secret that was typed
    is gone after Connect, whether or not it succeeded. A failure leaves `client` as it was; another
    success does not close the former client, which other cells may work with.

    The form starts with the live service where `KOODRIVE_ENDPOINT` is set.
    """

    client: Client | None = None
    """The latest client, None before the first success."""

    def __init__(self) -> None:
        super().__init__()
        self._service_name = self._connected_to = self._devices = ""
        fields = self._fields = AccountFields()
        self.service, self.endpoint, self.user_id = fields.service, fields.endpoint, fields.user_id
        self.credentials, self.token = fields.credentials, fields.token
        self.app_id, self.app_secret = fields.app_id, fields.app_secret
        self.button = described(
            widgets.Button(description="Connect", button_style="primary"),
            "Connect, and count the devices of this user",
        )
        self.message = Notice()
        """The line that says what the form is connected to, or why it is not."""
        click = handled(self._click, self.message, self.button)
        typed = (self.endpoint, self.user_id, self.token, self.app_id, self.app_secret)
        self.button.on_click(once(in_order(click, *typed)))
        self._fill(fields, self.button, self.message)

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong with which field, as the form says it below the fields."""
        return self._fields.problems

    def close(self) -> None:
        """Close the form and forget what was typed; the client stays open."""
        self._fields.forget()
        super().close()

    def _facts(self) -> str:
        if self.client is None:
            return "not connected"
        return f"connected to {self._service_name}, {self._devices}"

    def _click(self, _: widgets.Button) -> None:
        self._fields.take_back()
        self.message.say("Connecting…")
        try:
            self._connect()
        except KooDriveError as error:
            self._tell(error)
        finally:
            self._fields.forget()

    def _connect(self) -> None:
        options, origins = self._fields.checked()
        if self.problems:
            self._fail_beside()
            return
        client = connection.connect(self.service.value, **options)
        try:
            devices = client.devices()
        except BaseException:
            client.close()
            raise
        self.client = client
        self._succeed(devices, origins, options.get("endpoint", ""))

    def _succeed(self, devices: pd.DataFrame, origins: dict[str, str], endpoint: str) -> None:
        ledger = streams.ledger(devices)
        user_id = str(ledger["user_id"].iloc[0])
        is_synthetic = (ledger["source"] == "sandbox").any()
        self._service_name = endpoint or "sandbox"
        self._devices = theme.counted(len(devices), "device")
        told = {name: f" ({origin})" if origin else "" for name, origin in origins.items()}
        words = [endpoint + told["endpoint"] if endpoint else "the sandbox"]
        if is_synthetic:
            words.append("(synthetic data)")
        words.append(f"as user {user_id}{told['user_id']}")
        if endpoint:
            kind = "access token" if self.credentials.value == "token" else "App id and secret"
            words.append(f"with {kind}{told['auth']}")
        self._connected_to = f"{endpoint or 'the sandbox'} as user {user_id}"
        self.message.say(f"Connected to {' '.join(words)}: {self._devices}.", "done")

    def _tell(self, error: KooDriveError) -> None:
        """Show an error below the field that caused it, or in the line where none did."""
        name, words = None, _words(error)
        if self.service.value == "sandbox":
            # It brings its own credentials, so that it can only refuse the user.
            if isinstance(error, AuthenticationError):
                name = "user_id"
                words = "The sandbox has no such user: empty the field to see its own."
        elif isinstance(error, AuthenticationError):
            secret = "token" if self.credentials.value == "token" else "app_secret"
            name = "user_id" if "user" in error.message.casefold() else secret
        elif isinstance(error, NotFoundError):
            name = "user_id"
        elif isinstance(error, ConnectionFailedError):
            name = "endpoint"
        if name is None:
            self._fail(f"Not connected. {words}")
        else:
            self._fields.complain(name, words)
            self._fail_beside()

    def _fail_beside(self) -> None:
        labels = ", ".join(getattr(self, name).description for name in self.problems)
        self._fail(f"Not connected, see {labels} above.")

    def _fail(self, text: str) -> None:
        kept = f" Kept: still connected to {self._connected_to}." if self.client else ""
        self.message.say(f"{text}{kept}", "error")


def _words(error: KooDriveError) -> str:
    if not isinstance(error, ServiceError):
        return str(error)
    said = one_line(error.message, _SAID_CHARACTERS).rstrip(".") or "without a reason"
    return (
        f"The service refused: {said}. {error.advice} (HTTP {error.status}, "
        f"trace id {error.trace_id})"
    )
