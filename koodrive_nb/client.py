"""A user's account: records, devices, files, scopes, settings; each as a DataFrame."""

from __future__ import annotations

import html
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn, Self

from koodrive_nb import privacy, settings
from koodrive_nb.calls import Account
from koodrive_nb.columns import MODULES
from koodrive_nb.device_labels import DeviceLabels
from koodrive_nb.errors import ConfigurationError, InvalidParameterError
from koodrive_nb.fetching import FrameFetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Literal

    import pandas as pd

    from koodrive_nb.jobs import Job, Service


class Client:
    """One user's account at the service; `kd.connect` makes one.

    Frames have the columns of `kd.schema(...)`; `kd.ledger(frame)` tells how a frame was fetched.
    A call that brings several pages or parts takes `errors`: with "raise", a part that failed makes
    it raise `IncompleteError`, which keeps the others; with "collect" it returns these others, and
    their ledger, and every chart of them, says that they are incomplete.
    """

    def __init__(self, found: settings.Settings, service: Service) -> None:
        self._settings = found
        self._service = service
        self._account = Account(service.source, found.user_id)

    def record(self, record_id: str) -> pd.DataFrame:
        """Fetch one backup record, a frame of one row.

        Source: "Viewing Backup Records", GET /koodrive/ose/v1/backup/record/{recordId}.

        Raises:
            InvalidParameterError: The id is empty, not text, or not fit for a path.
            NotFoundError: This user has no such record.
        """
        job = self._account.record(settings.checked_id(record_id, "record id"))
        return self._fetch("records", [job], ids=[record_id])

    def records_by_id(
        self, record_ids: Iterable[str], *, errors: Literal["raise", "collect"] = "raise"
    ) -> pd.DataFrame:
        """Fetch many backup records by their ids, in the order and as often as asked for.

        Source: "Viewing Backup Records", GET /koodrive/ose/v1/backup/record/{recordId}.

        Raises:
            InvalidParameterError: An id is empty, not text, or not fit for a path.
            IncompleteError: Some records do not exist, or could not be fetched.
        """
        is_table = isinstance(record_ids, dict) or hasattr(record_ids, "columns")
        if isinstance(record_ids, str) or is_table or not hasattr(record_ids, "__iter__"):
            raise InvalidParameterError(
                "records_by_id() takes a list of ids, or a column such as records['record_id']; "
                "for one, use record()."
            )
        ids = [
            settings.checked_id(record_id, f"record id at position {place}")
            for place, record_id in enumerate(record_ids)
        ]
        jobs = [self._account.record(each) for each in dict.fromkeys(ids)]
        return self._fetch("records", jobs, errors=errors, ids=ids)

    def records(
        self,
        module: str | None = None,
        device_id: str | None = None,
        *,
        max_pages: int | None = None,
        errors: Literal["raise", "collect"] = "raise",
    ) -> pd.DataFrame:
        """Fetch every backup record of this user: all pages of all modules, or of one.

        `module` is a code or a label: 100 folder, 101 album, 102 address_book. `device_id` keeps
        one device's records. Order: `create_time`, `record_id`. Where records do not name their
        device, it is learnt from listings by device (`device_source` is query). `max_pages` takes a
        look at the first pages of each module: the frame is then marked incomplete where there is
        more, and devices are not looked up.

        Source: "Listing Backup Records", GET /koodrive/ose/v1/backup/record.

        Raises:
            InvalidParameterError: There is no such module, or an argument is not fit.
            IncompleteError: Part of it failed.
            ConnectionFailedError: Nothing came, since the service did not answer.
            ServiceError: Nothing came, since the service refused.
            ProtocolError: Nothing came, since the answers are not what the API documents.
        """
        if max_pages is not None and not settings.is_whole(max_pages, 1):
            raise InvalidParameterError("max_pages= takes a whole number from 1.")
        codes = _codes(module)
        if device_id is not None:
            device_id = settings.checked_id(device_id, "device id")
        jobs = [
            self._account.records(
                code, device_id, is_filtered=module is not None, max_pages=max_pages
            )
            for code in codes
        ]
        labels = [DeviceLabels(self._account, jobs, device_id)] if max_pages is None else []
        # What a pseudonym stands for, which tracebacks may show.
        del device_id
        return self._fetch("records", jobs, errors=errors, labels=labels)

    def devices(self) -> pd.DataFrame:
        """Fetch the devices bound to this user, those that never backed up included.

        Source: "Listing Bound Devices", GET /koodrive/ose/v1/backup/device.

        Raises:
            ConnectionFailedError: No answer came.
            ServiceError: The service said no.
            ProtocolError: The answer breaks the contract.
        """
        return self._fetch("devices", [self._account.devices()])

    def files(
        self, record_id: str, *, errors: Literal["raise", "collect"] = "raise"
    ) -> pd.DataFrame:
        """Fetch the files of one backup record, sizes in bytes.

        Source: "Listing Backup Files", GET /koodrive/ose/v1/backup/record/{recordId}/files.

        Raises:
            InvalidParameterError: The id is empty, not text, or not fit for a path.
            NotFoundError: This user has no such record.
            IncompleteError: A page failed after others had come.
        """
        job = self._account.files(settings.checked_id(record_id, "record id"))
        return self._fetch("files", [job], errors=errors)

    def scopes(
        self,
        device_id: str,
        module: str | None = None,
        *,
        errors: Literal["raise", "collect"] = "raise",
    ) -> pd.DataFrame:
        """Fetch what a device backs up: its folders and where they go, of all modules or of one.

        Source: "Listing Backup Scopes", GET /koodrive/ose/v1/backup/device/{deviceId}/scope.

        Raises:
            InvalidParameterError: There is no such module, or the device id is not fit.
            NotFoundError: This user has no such device.
            IncompleteError: Part of it failed.
        """
        return self._of_device("scopes", self._account.scopes, device_id, module, errors)

    def configs(
        self,
        device_id: str,
        module: str | None = None,
        *,
        errors: Literal["raise", "collect"] = "raise",
    ) -> pd.DataFrame:
        """Fetch the backup settings of a device, of all modules or of one.

        Source: "Listing Configurations", GET /koodrive/ose/v1/backup/device/{deviceId}/configs.

        Raises:
            InvalidParameterError: There is no such module, or the device id is not fit.
            NotFoundError: This user has no such device.
            IncompleteError: Part of it failed.
        """
        return self._of_device("configs", self._account.configs, device_id, module, errors)

    def for_user(self, user_id: str) -> Client:
        """Give a client for another user of the same service, over the same connections.

        Raises:
            ConfigurationError: This client has a token, which sees only the user it was given to.
            InvalidParameterError: The user id is empty, not text, or not fit for a header.
        """
        user_id = settings.checked_id(user_id, "user id")
        if self._kind() != "app" and user_id != self._settings.user_id:
            raise ConfigurationError(
                "An access token sees only the user that it was given to: connect with "
                "auth=kd.AppAuth(...) to see others."
            )
        found = replace(
            self._settings,
            user_id=user_id,
            origins={**self._settings.origins, "user_id": "for_user()"},
        )
        return Client(found, self._service)

    def _of_device(
        self,
        dataset: str,
        ask: Callable[..., Job],
        device_id: str,
        module: str | None,
        errors: str,
    ) -> pd.DataFrame:
        device_id = settings.checked_id(device_id, "device id")
        jobs = [ask(device_id, code, is_filtered=module is not None) for code in _codes(module)]
        del device_id  # As above.
        return self._fetch(dataset, jobs, errors=errors)

    def _fetch(
        self,
        dataset: str,
        jobs: list[Job],
        *,
        errors: str = "raise",
        ids: list[str] | None = None,
        labels: list[DeviceLabels] | None = None,
    ) -> pd.DataFrame:
        fetch = FrameFetch(
            jobs,
            f"backup {dataset}",
            errors,
            labels or [],
            dataset=dataset,
            user_id=self._settings.user_id,
            ids=ids,
        )
        return fetch.begin(self._service)

    def _service_for(self, users: list[str], source: str) -> Service:
        """Give what a fetch of these users at that service can go on with.

        Raises:
            InvalidParameterError: This client reaches another service, or another user only.
        """
        has_others = self._kind() != "app" and users != [self._settings.user_id]
        if source != self._service.source or has_others:
            one = privacy.pseudonym(users[0], "user")
            whose = f"user {one}" if len(users) == 1 else f"{len(users):,} users"
            raise InvalidParameterError(
                f"The fetch is of {whose} at the {source} service: resume with a client for that."
            )
        return self._service

    def _kind(self) -> str:
        return str(getattr(self._settings.auth, "kind", type(self._settings.auth).__name__))

    def close(self) -> None:
        """Close the connections."""
        self._service.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _facts(self) -> dict[str, str]:
        found = self._settings
        facts = {"source": self._service.source}
        facts |= {"user_id": privacy.shown(found.user_id, "user")}
        if self._service.source == "live":  # The sandbox's port changes with every start.
            facts["endpoint"] = found.endpoint
        return facts | {"auth": self._kind()}

    def __repr__(self) -> str:
        return f"Client({', '.join(f'{name}={value!r}' for name, value in self._facts().items())})"

    def _repr_html_(self) -> str:
        origins = {} if self._service.source == "sandbox" else self._settings.origins
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td>"
            f"<td style='text-align:left'>{html.escape(origins.get(name, ''))}</td></tr>"
            for name, value in self._facts().items()
        )
        return f"<table><caption>KooDrive client</caption>{rows}</table>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A client holds credentials and connections, so it is not pickled: call connect() "
            "where it is needed."
        )


def _codes(module: object) -> list[str]:
    if module is None:
        return list(MODULES)
    by_label = {label: code for code, label in MODULES.items()}
    if isinstance(module, str) and (module in MODULES or module in by_label):
        return [by_label.get(module, module)]
    known = ", ".join(f"{code} {label}" for code, label in MODULES.items())
    raise InvalidParameterError(
        f"There is no module {module!r}: pass the code or the label as text ({known})."
    )
