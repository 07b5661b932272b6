"""The fields that say which account to connect to, each with what is wrong with it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import traitlets

from koodrive_nb import privacy, settings
from koodrive_nb.auth import AppAuth, TokenAuth
from koodrive_nb.errors import ConfigurationError, KooDriveError
from koodrive_nb.forms.form import Field, described
from koodrive_nb.forms.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from requests.auth import AuthBase


class _Unechoed(widgets.Text):  # type: ignore[misc]  # ipywidgets has no types
    """A text that is not told to other front ends before it was looked at."""

    value = traitlets.Unicode().tag(sync=True, echo_update=False)


class AccountFields(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Service, endpoint, user and credentials, of which only those are shown that count."""

    def __init__(self) -> None:
        endpoint = _shown_endpoint()
        self._filled_user = ""
        self.service = _choice(
            "Service", {"Sandbox": "sandbox", "Live": "live"}, "Which service to connect to"
        )
        self.service.tooltips = (
            "An embedded service with synthetic data, no account needed",
            "The KooDrive service of your organisation",
        )
        self.endpoint = described(
            _Unechoed(
                description="Endpoint", placeholder="https://<host>", continuous_update=False
            ),
            "Address of the KooDrive service",
        )
        if endpoint is None:
            self.endpoint.placeholder = "KOODRIVE_ENDPOINT is unfit and not shown"
        self.endpoint.value = endpoint or ""
        # The same for both services: a change from the kernel would take back what is being typed.
        self.user_id = _text(
            "User id",
            "The user whose backups to look at",
            "digits; the sandbox has a user of its own",
        )
        self.credentials = _choice(
            "Credentials",
            {"Access token": "token", "App id and secret": "app"},
            "What to prove with who asks",
        )
        self.credentials.tooltips = ("Sees the one user it was given to", "Sees every user")
        self.token = described(
            Secret("Access token", _hint("KOODRIVE_TOKEN", "as the KooDrive login gave it")),
            "Access token, hidden as soon as it is received",
        )
        self.app_id = _text(
            "App id",
            "AppId of the application",
            _hint("KOODRIVE_APP_ID", "as the KooDrive administrator gave it"),
        )
        self.app_secret = described(
            Secret(
                "App secret",
                _hint("KOODRIVE_APP_SECRET", "as the KooDrive administrator gave it"),
            ),
            "AppSecret of the application, hidden as soon as it is received",
        )
        self._fields = {
            name: Field(getattr(self, name))
            for name in ("endpoint", "user_id", "token", "app_id", "app_secret")
        }
        if os.environ.get("KOODRIVE_ENDPOINT") and not settings.is_sandboxed():
            self.service.value = "live"
        if _environment("KOODRIVE_APP_ID") and not _environment("KOODRIVE_TOKEN"):
            self.credentials.value = "app"
        self.endpoint.observe(lambda _: self._drop_password(), "value")
        self.service.observe(lambda _: self._show_what_counts(), "value")
        self.credentials.observe(lambda _: self._show_what_counts(), "value")
        self._show_what_counts()
        super().__init__(
            [
                self.service,
                self._fields["endpoint"],
                self._fields["user_id"],
                self.credentials,
                *(self._fields[name] for name in ("token", "app_id", "app_secret")),
            ]
        )
        self.add_class("koodrive-inputs")

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong with which field, as the form says it beside the fields."""
        return {
            name: field.notice.text for name, field in self._fields.items() if field.notice.text
        }

    def complain(self, name: str, text: str) -> None:
        """Say what is wrong, below the field of that name."""
        self._fields[name].complain(text)

    def take_back(self) -> None:
        """No longer say that anything is wrong."""
        for field in self._fields.values():
            field.complain("")

    def forget(self) -> None:
        """Forget the secrets that were typed."""
        self.token.take()
        self.app_secret.take()

    def checked(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Give the arguments of `kd.connect` and where each is from; complain about the unfit."""
        options: dict[str, Any] = {}
        origins: dict[str, str] = {}
        is_live = self.service.value == "live"
        if is_live:
            with self._beside("endpoint"):
                text, origins["endpoint"] = _given(self.endpoint, "KOODRIVE_ENDPOINT")
                if not text:
                    raise ConfigurationError(
                        "Enter the address of the service, such as "
                        "https://intl.myhuaweicloud-koodrive.com."
                    )
                options["endpoint"] = settings.checked_endpoint(text)
        with self._beside("user_id"):
            text, origins["user_id"] = (
                _given(self.user_id, "KOODRIVE_USER_ID")
                if is_live
                else (self.user_id.value.strip(), "")
            )
            if is_live and not text:
                raise ConfigurationError(
                    "Enter the user id as the service shows it, or set KOODRIVE_USER_ID."
                )
            if text:
                options["user_id"] = settings.checked_id(text, "user id")
        if is_live:
            options["auth"], origins["auth"] = (
                self._app() if self.credentials.value == "app" else self._access_token()
            )
        return options, origins

    def _access_token(self) -> tuple[AuthBase | None, str]:
        origin = _origin(self.token, "KOODRIVE_TOKEN")
        with self._beside("token"):
            if not origin:
                raise ConfigurationError(
                    "Enter the access token that the KooDrive login gave, or set KOODRIVE_TOKEN."
                )
            # Never in a variable: tracebacks may show those.
            return TokenAuth(self.token.take() or _environment("KOODRIVE_TOKEN")), origin
        return None, ""

    def _app(self) -> tuple[AuthBase | None, str]:
        app_id, _ = _given(self.app_id, "KOODRIVE_APP_ID")
        origin = _origin(self.app_secret, "KOODRIVE_APP_SECRET")
        with self._beside("app_id"):
            if not app_id:
                raise ConfigurationError(
                    "Enter the AppId that the KooDrive administrator gave, or set KOODRIVE_APP_ID."
                )
            AppAuth(app_id, "unknown")
        with self._beside("app_secret"):
            if not origin:
                raise ConfigurationError(
                    "Enter the AppSecret that belongs to the AppId, or set KOODRIVE_APP_SECRET."
                )
            fit_id = "unknown" if "app_id" in self.problems else app_id
            return AppAuth(
                fit_id, self.app_secret.take() or _environment("KOODRIVE_APP_SECRET")
            ), origin
        return None, ""

    def _show_what_counts(self) -> None:
        is_live = self.service.value == "live"
        is_app = self.credentials.value == "app"
        counts = {"endpoint": is_live, "token": is_live and not is_app}
        counts |= dict.fromkeys(("app_id", "app_secret"), is_live and is_app)
        for name, does in counts.items():
            self._fields[name].layout.display = None if does else "none"
        self.credentials.layout.display = None if is_live else "none"
        # A user id that somebody typed stays; a saved notebook would name that of the environment.
        known = _environment("KOODRIVE_USER_ID")
        may_be_shown = is_live and privacy.shown(known, "user") == known
        filled, self._filled_user = self._filled_user, known if may_be_shown else ""
        if self.user_id.value == filled:
            self.user_id.value = self._filled_user
        self.take_back()

    def _drop_password(self) -> None:
        if set(self.endpoint.value) & set("@?#"):
            self.endpoint.value = ""
            self._fields["endpoint"].complain(
                "An endpoint has no user name, password or query, so what was entered is not "
                "kept: write it as https://<host>."
            )

    @contextmanager
    def _beside(self, name: str) -> Iterator[None]:
        """Show what is wrong with an input beside its field."""
        try:
            yield
        except KooDriveError as error:
            self._fields[name].complain(str(error))


def _choice(description: str, options: dict[str, str], what: str) -> widgets.ToggleButtons:
    return described(
        widgets.ToggleButtons(description=description, options=list(options.items())), what
    )


def _text(description: str, what: str, placeholder: str) -> widgets.Text:
    # Sent as a whole, so that what must not be kept is seen before it is.
    return described(
        widgets.Text(description=description, placeholder=placeholder, continuous_update=False),
        what,
    )


def _environment(variable: str) -> str:
    return os.environ.get(variable, "").strip()


def _hint(variable: str, otherwise: str) -> str:
    return f"from {variable}" if _environment(variable) else otherwise


def _shown_endpoint() -> str | None:
    """Give the endpoint of the environment, None if it is unfit: it may hold a password."""
    text = _environment("KOODRIVE_ENDPOINT")
    try:
        return settings.checked_endpoint(text) if text and not settings.is_sandboxed() else ""
    except ConfigurationError:
        return None


def _given(field: widgets.Text, variable: str) -> tuple[str, str]:
    """Give what a field says, else the environment, and which of them it was."""
    text, found = field.value.strip(), _environment(variable)
    if found and text in {"", found, found.rstrip("/")}:
        return found, f"from {variable}"
    return text, "entered here"


def _origin(field: Secret, variable: str) -> str:
    if field.is_filled:
        return "entered here"
    return f"from {variable}" if _environment(variable) else ""
