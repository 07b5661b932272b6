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
from koodrive_nb.columns import MAX_PAGE_SIZE, MODULES
from koodrive_nb.errors import InvalidParameterError, NotFoundError, ProtocolError
from koodrive_nb.streams import ATTRS, Stream, keep
from koodrive_nb.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pyarrow as pa

    from koodrive_nb.transport import Answer

_BASE = "/koodrive/ose/v1/backup"
# Rows are decoded this many at a time, so that a long listing is never held as JSON text.
_CHUNK_ROWS = 5_000
_ROWS = msgspec.json.Decoder(list[msgspec.Raw])


class Client:
    """One user's account at the service; `kd.connect` makes one.

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
                trace_id=answer.trace_id,
                path=path,
            )
        self._note(stream, answer, "single answer")
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
            ConnectionFailedError: A page got no answer; nothing partial is returned.
            ServiceError: The service refused a page.
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

        Raises:
            ConnectionFailedError: No answer came.
            ServiceError: The service said no.
            ProtocolError: The answer breaks the contract.
        """
        stream = self._stream("devices")
        answer = self._transport.get(f"{_BASE}/device")
        self._note(stream, answer, "single answer")
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
            self._note(stream, answer, "not yet")
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

    def _note(self, stream: Stream, answer: Answer, ended: str) -> None:
        stream.source = "sandbox" if "sandbox" in {answer.source, self._source} else "live"
        stream.pages += 1
        stream.coerced += answer.repaired
        stream.ended = ended

    def close(self) -> None:
        """Close the connections."""
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
