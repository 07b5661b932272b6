"""What the tests share: a clean environment, the sandbox, and a service that answers as told."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb import columns, pacing, transport

pytest_plugins = ["pytester"]

NOW = pd.Timestamp("2025-12-17T08:30Z")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in os.environ:
        if name.startswith("KOODRIVE_"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    """Retry as often as ever, without the waiting."""
    monkeypatch.setattr(transport, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(transport, "_GIVE_UP_AFTER_S", 1.0)
    monkeypatch.setattr(pacing, "_FIRST_PAUSE_S", 0.01)


@pytest.fixture(scope="session")
def client():
    with kd.connect("sandbox") as connected:
        yield connected


@pytest.fixture(scope="session")
def records(client):
    return client.records()


@pytest.fixture(scope="session")
def devices(client):
    return client.devices()


@pytest.fixture(scope="session")
def _java():
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        reason = "Spark needs a Java runtime, and none is installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def spark(_java, tmp_path_factory):
    """Give a real Spark, with two workers in this machine's memory."""
    # It is for few tests, and takes its time.
    from pyspark.sql import SparkSession  # noqa: PLC0415 -- as the comment says

    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.warehouse.dir", str(tmp_path_factory.mktemp("spark")))
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


@pytest.fixture
def make():
    """Make records: one dict a record, with only what matters; the rest is filled in."""

    def build(*rows, now=NOW):
        full = []
        for number, row in enumerate(rows):
            known = {
                "user_id": "u",
                "record_id": str(number),
                "module": "album",
                "status_code": 1,
                "create_time": now - pd.Timedelta("1D"),
                "device_id": "1000000000000000001",
                "device_name": "phone",
                "fetched_at": now,
            } | row
            for name in ("create_time", "end_time", "fetched_at", "device_create_time"):
                value = known.get(name)
                known[name] = pd.NaT if value is None else pd.Timestamp(value)
            codes = {label: code for code, label in columns.MODULES.items()}
            known.setdefault("module_code", codes.get(known["module"], "999"))
            known.setdefault(
                "duration_s", (known["end_time"] - known["create_time"]).total_seconds()
            )
            full.append(
                {column.name: known.get(column.name) for column in columns.columns("records")}
            )
        names = [column.name for column in columns.columns("records")]
        frame = pd.DataFrame(full, columns=names)
        for column in columns.columns("records"):
            if column.kind == "time":
                frame[column.name] = pd.to_datetime(frame[column.name], utc=True)
            frame[column.name] = frame[column.name].astype(column.dtype)
        return frame

    return build


@dataclass
class Answer:
    """What the service says next; a body that is not bytes goes out as JSON."""

    body: object = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Asked:
    path: str
    query: dict[str, str]
    headers: dict[str, str]


class Service:
    """A service over real HTTP on loopback that answers what `answer` returns."""

    Answer = Answer

    def __init__(self):
        self.asked: list[Asked] = []
        self.answer = lambda asked: Answer({"code": 0, "msg": "success", "data": []})
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                asked = Asked(parts.path, query, dict(self.headers))
                service.asked.append(asked)
                try:
                    answer = service.answer(asked)
                except ConnectionError:
                    self.close_connection = True
                    return
                body = answer.body
                if not isinstance(body, bytes):
                    body = json.dumps(body).encode()
                self.send_response_only(answer.status)
                usual = {"Content-Type": "application/json", "Date": self.date_time_string()}
                headers = usual | answer.headers
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                # A client that was interrupted no longer listens.
                with contextlib.suppress(ConnectionError):
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()

    def connect(self, token="test-token-0123456789", **options):
        options = {"user_id": "42", "auth": kd.TokenAuth(token)} | options
        return kd.connect(endpoint=self.endpoint, **options)

    def says(self, body, status=200, **headers):
        self.answer = lambda asked: Answer(body, status, headers)

    def lists(self, rows, module="101"):
        """Answer listings with one page of raw JSON rows for a module, and none for the others."""

        def answer(asked):
            is_mine = asked.query.get("moduleCode") == module and "deviceId" not in asked.query
            mine = rows if is_mine else []
            data = b",".join(
                row if isinstance(row, bytes) else json.dumps(row).encode() for row in mine
            )
            return Answer(b'{"code":0,"data":[%s]}' % data)

        self.answer = answer

    def serve(self, rows, *, first=lambda asked: None, per_page=100):
        """Answer as the API does from these records, unless `first` has an answer."""

        def answer(asked):
            early = first(asked)
            if early is not None:
                return early
            wanted = asked.path.removeprefix("/koodrive/ose/v1/backup/record").removeprefix("/")
            if wanted:
                found = [row for row in rows if row["recordId"] == wanted]
                return Answer({"code": 0, "data": found[0]} if found else {"code": 13000309})
            mine = [row for row in rows if row["moduleCode"] == asked.query["moduleCode"]]
            start = int(asked.query.get("cursor", "0"))
            following = str(start + per_page) if start + per_page < len(mine) else ""
            return Answer(
                {"code": 0, "data": mine[start : start + per_page], "nextCursor": following}
            )

        self.answer = answer

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def service():
    running = Service()
    yield running
    running.close()


@pytest.fixture
def connected(service):
    """Give a client of the double whose rows carry a fixed instant."""
    with service.connect(clock=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) as client:
        yield client
