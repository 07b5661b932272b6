"""One user's account: a record, all records, the devices; each as a DataFrame."""

from __future__ import annotations

import html
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn, Self

import msgspec
import pandas as pd

from koodrive_nb import decode, settings
from koodrive_nb.auth import TokenAuth
from koodrive_nb.columns import MAX_PAGE_SIZE, MODULES
from koodrive_nb.errors import (
    ConfigurationError,
    InvalidParameterError,
    NotFoundError,
    ProtocolError,
)
from koodrive_nb.streams import ATTRS, Stream, keep
from koodrive_nb.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pyarrow as pa
    from requests.auth import AuthBase

_BASE = "/koodrive/ose/v1/backup"
# Rows are decoded this many at a time, so that a long listing is never held as JSON text.
_CHUNK_ROWS = 5_000
_ROWS = msgspec.json.Decoder(list[msgspec.Raw])


def connect(  # noqa: PLR0913 -- each is a setting of its own, and keyword-only
    service: str = "live",
    *,
    endpoint: str | None = None,
    auth: AuthBase | None = None,
    user_id: str | None = None,
    max_workers: int = 8,
    clock: Callable[[], datetime] | None = None,
) -> Client:
    """Connect to the KooDrive service, or to the sandbox that needs no account.

    With "live", what is not passed comes from KOODRIVE_ENDPOINT, KOODRIVE_USER_ID and
    KOODRIVE_TOKEN. With "sandbox", an embedded service answers with a synthetic fleet, as of a
    fixed instant; `user_id="crowd"` is its user with a million records. Nothing is sent yet.
    `max_workers` bounds the requests under way at once; `clock` gives the `fetched_at` of rows.

    Raises:
        ConfigurationError: A setting is missing or unfit, or the sandbox is not installed.
        InvalidParameterError: An argument is not what this takes.
    """
    if not isinstance(max_workers, int) or isinstance(max_workers, bool) or max_workers < 1:
        raise InvalidParameterError("max_workers= takes a whole number from 1.")
    if service == "sandbox":
        if endpoint is not None or auth is not None:
            raise InvalidParameterError(
                "The sandbox brings its own endpoint and credentials: leave endpoint= and auth= "
                'out, or leave "sandbox" out to reach the live service.'
            )
        return _connect_sandbox(user_id, max_workers, clock)
    if service != "live":
        raise InvalidParameterError(
            # What was passed may be a token, so it is not repeated.
            'connect() takes "live" or "sandbox"; endpoint= takes an address, auth= a token.'
        )
    found = settings.resolve(endpoint=endpoint, auth=auth, user_id=user_id)
    return Client(found, max_workers=max_workers, clock=clock)


def _connect_sandbox(
    user_id: str | None, max_workers: int, clock: Callable[[], datetime] | None
) -> Client:
    try:
        from koodrive_nb import sandbox  # noqa: PLC0415 -- an optional extra
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"The sandbox needs {error.name}: pip install 'koodrive_nb[sandbox]'"
        ) from None
    service = sandbox.shared()
    found = settings.resolve(
        endpoint=service.endpoint,
        auth=TokenAuth(service.token),
        user_id=sandbox.DEFAULT_USER if user_id is None else user_id,
    )
    return Client(found, source="sandbox", max_workers=max_workers, clock=clock or sandbox.as_of)


class Client:
    """One user's account at the service; made by `connect`.

    Frames have the columns of `kd.schema("records")` and `kd.schema("devices")`; `kd.ledger(frame)`
    tells how a frame was fetched.
    """

    def __init__(
        self,
        found: settings.Settings,
        *,
        source: str = "live",
        max_workers: int,
        clock: Callable[[], datetime] | None,
    ) -> None:
        self._settings = found
        self._source = source
        self._max_workers = max_workers
        self._clock = clock or (lambda: datetime.now(UTC))
        self._transport = Transport(found.endpoint, found.auth, found.user_id, max_workers)

    def record(self, record_id: str) -> pd.DataFrame:
        """Fetch one backup record, a frame of one row.

        Source: "Viewing Backup Records", GET /koodrive/ose/v1/backup/record/{recordId}.

        Raises:
            InvalidParameterError: The id is empty, not text, or not fit for a path.
            NotFoundError: This user has no such record.
        """
        settings.checked_id(record_id, "record id")
        path = f"{_BASE}/record/{record_id}"
        stream = self._stream("records")
        answer = self._transport.get(path)
        if answer.data in {b"", b"null"}:
            raise NotFoundError(
                status=200,
                code="0",
                message="no data",
                advice="Check the id, and that it belongs to this user.",
                trace_id="none",
                path=path,
            )
        stream.source, stream.pages, stream.ended = self._named(answer.source), 1, "single answer"
        table = decode.read_rows([answer.data], stream)
        if table["record_id"].to_pylist() != [record_id]:
            raise ProtocolError(
                f"{path} was answered with something else than that record: report it to the "
                "service."
            )
        return _frame([(stream, [table])], "records")

    def records(self, module: str | None = None, device_id: str | None = None) -> pd.DataFrame:
        """Fetch every backup record of this user: all pages of all modules, or of one.

        `module` is a code or a label: 100 folder, 101 album, 102 address_book. `device_id` keeps
        one device's records. Order: `create_time`, `record_id`.

        Source: "Listing Backup Records", GET /koodrive/ose/v1/backup/record.

        Raises:
            InvalidParameterError: There is no such module, or the device id is not fit.
            ServiceError: The service refused a page; nothing partial is returned.
            ProtocolError: A cursor came twice, or a page is not what the API documents.
        """
        codes = list(MODULES) if module is None else [_module_code(module)]
        query = (
            {} if device_id is None else {"deviceId": settings.checked_id(device_id, "device id")}
        )
        stop = threading.Event()

        def fetch(code: str) -> tuple[Stream, list[pa.Table]]:
            try:
                return self._listing(code, query, stop)
            except BaseException:
                stop.set()
                raise

        with ThreadPoolExecutor(min(self._max_workers, len(codes))) as pool:
            try:
                parts = [future.result() for future in [pool.submit(fetch, code) for code in codes]]
            except BaseException:
                # Ctrl-C arrives here: without the sign, leaving the pool would wait for all pages.
                stop.set()
                raise
        return _frame(parts, "records")

    def devices(self) -> pd.DataFrame:
        """Fetch the devices bound to this user, those that never backed up included.

        Source: "Listing Bound Devices", GET /koodrive/ose/v1/backup/device.
        """
        stream = self._stream("devices")
        answer = self._transport.get(f"{_BASE}/device")
        stream.source, stream.pages, stream.ended = self._named(answer.source), 1, "single answer"
        rows = _rows(answer.data, "device")
        return _frame([(stream, [decode.read_rows(rows, stream)])], "devices")

    def _listing(
        self, code: str, query: Mapping[str, str], stop: threading.Event
    ) -> tuple[Stream, list[pa.Table]]:
        stream = self._stream("records", MODULES[code])
        tables: list[pa.Table] = []
        waiting: list[bytes] = []
        seen: set[str] = set()
        parameters: dict[str, str | int] = {
            "moduleCode": code,
            "pageSize": MAX_PAGE_SIZE,
            **query,
        }
        while not stop.is_set():
            answer = self._transport.get(f"{_BASE}/record", parameters)
            stream.source = self._named(answer.source)
            stream.pages += 1
            waiting += _rows(answer.data, "record")
            cursor = answer.next_cursor
            if not cursor or len(waiting) >= _CHUNK_ROWS:
                tables.append(decode.read_rows(waiting, stream))
                waiting = []
            if not cursor:
                stream.ended = "no cursor"
                break
            if cursor in seen:
                raise ProtocolError(
                    f"The listing of module {stream.module} gave a cursor twice on page "
                    f"{stream.pages}: it would never end. Nothing partial is returned; try again, "
                    "and report it to the service if it lasts."
                )
            seen.add(cursor)
            parameters["cursor"] = cursor
        return stream, tables

    def _stream(self, dataset: str, module: str | None = None) -> Stream:
        now = pd.Timestamp(self._clock())
        now = now.tz_localize("UTC") if now.tzinfo is None else now.tz_convert("UTC")
        return Stream(
            self._source, self._settings.user_id, dataset, module, now.floor("ms").as_unit("ms")
        )

    def _named(self, answered: str) -> str:
        return "sandbox" if "sandbox" in {answered, self._source} else "live"

    def close(self) -> None:
        """Close the connections; the client cannot be used after that."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _facts(self) -> dict[str, str]:
        found = self._settings
        facts = {"source": self._source, "user_id": found.user_id}
        if self._source == "live":  # The sandbox's port changes with every start.
            facts["endpoint"] = found.endpoint
        return facts | {"auth": getattr(found.auth, "kind", type(found.auth).__name__)}

    def __repr__(self) -> str:
        return f"Client({', '.join(f'{name}={value!r}' for name, value in self._facts().items())})"

    def _repr_html_(self) -> str:
        origins = {} if self._source == "sandbox" else self._settings.origins
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


def _frame(parts: list[tuple[Stream, list[pa.Table]]], dataset: str) -> pd.DataFrame:
    frame = decode.to_frame(parts, dataset)
    frame.attrs[ATTRS] = keep([stream for stream, _ in parts])
    return frame


def _rows(data: bytes, what: str) -> list[bytes]:
    if data == b"null":
        return []
    try:
        return [bytes(row) for row in _ROWS.decode(data)]
    except msgspec.DecodeError:
        raise ProtocolError(
            f"The {what} listing did not bring an array of rows: check that the endpoint is the "
            "KooDrive API."
        ) from None


def _module_code(module: object) -> str:
    by_label = {label: code for code, label in MODULES.items()}
    if isinstance(module, str) and (module in MODULES or module in by_label):
        return by_label.get(module, module)
    known = ", ".join(f"{code} {label}" for code, label in MODULES.items())
    raise InvalidParameterError(
        f"There is no module {module!r}: pass the code or the label as text ({known})."
    )
