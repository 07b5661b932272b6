import logging
import socket
import traceback
from datetime import UTC, datetime, timedelta

import pytest
import requests

import koodrive_nb as kd

TOKEN = "test-token-0123456789"


def test_every_request_says_who_asks_and_when(service):
    with service.connect() as client:
        client.devices()
        client.devices()
    for asked in service.asked:
        assert asked.headers["X-User-Id"] == "42"
        stamp = datetime.strptime(asked.headers["X-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        assert timedelta(seconds=1) < datetime.now(UTC) - stamp < timedelta(minutes=1)
        assert len(asked.headers["X-Traceid"]) == 58
    assert service.asked[0].headers["X-Traceid"] != service.asked[1].headers["X-Traceid"]


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (401, {"code": 401, "msg": "who?"}, kd.AuthenticationError, "credentials"),
        (403, b"<html>no</html>", kd.AuthenticationError, "credentials"),
        (
            401,
            {"error_code": "APIGW.0301", "error_msg": "Incorrect"},
            kd.AuthenticationError,
            "Inc",
        ),
        (400, {"error_code": "APIG.0307", "error_msg": "renew"}, kd.AuthenticationError, "token"),
        (400, {"code": 400, "msg": "date"}, kd.AuthenticationError, "clock"),
        (400, {"code": 13000309, "msg": "x"}, kd.NotFoundError, "belongs to this user"),
        (200, {"code": "13000309", "msg": "x"}, kd.NotFoundError, "belongs to this user"),
        (404, {"error_code": "APIGW.0101"}, kd.NotFoundError, "Check the id"),
        (400, {"code": 13000102, "msg": "bad"}, kd.ServiceError, "Check the parameters"),
        (400, {"code": "13000410", "msg": "bad"}, kd.ServiceError, "table of error codes"),
        (400, {"error_code": "APIGW.0106"}, kd.ServiceError, "table of error codes"),
        (200, {"code": 13000301, "msg": "space"}, kd.ServiceError, "table of error codes"),
        (429, b"", kd.ThrottledError, "max_workers"),
        (400, {"error_code": "APIG.0308", "error_msg": "limit:5"}, kd.ThrottledError, "Wait"),
        (500, b"oops", kd.ServerError, "later"),
        (503, {"code": 5, "msg": "x"}, kd.ServerError, "later"),
    ],
)
def test_a_refusal_becomes_an_error_that_says_what_to_do(service, status, body, kind, says):
    service.says(body, status)
    with service.connect() as client, pytest.raises(kd.ServiceError, match=says) as caught:
        client.record("1")
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert caught.value.trace_id == service.asked[-1].headers["X-Traceid"]


@pytest.mark.parametrize("code", [0, "0"], ids=["integer", "text"])
@pytest.mark.parametrize("msg", ["success", "Success", "成功", None])
def test_success_is_told_by_the_code_and_never_by_the_words(service, code, msg):
    service.says({"code": code, "msg": msg, "data": []})
    with service.connect() as client:
        assert len(client.devices()) == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>please log in</html>",
        b"{",
        b"[]",
        b'"text"',
        b'{"msg":"no code"}',
        b'{"code":0,"data":[],"nextCursor":[7]}',
        b'{"code":0,"data":["\xff"]}',
        b'{"code":0,"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"\xef\xbb\xbf{}",
    ],
)
def test_an_answer_that_is_not_the_api_json_is_a_protocol_error(service, body):
    service.says(body)
    with (
        service.connect() as client,
        pytest.raises(kd.ProtocolError, match="check that the endpoint"),
    ):
        client.devices()


@pytest.mark.parametrize("data", [{"a": 1}, 7, "text"])
def test_a_listing_without_an_array_is_a_protocol_error(service, data):
    service.says({"code": 0, "data": data})
    with service.connect() as client, pytest.raises(kd.ProtocolError, match="array of rows"):
        client.devices()


@pytest.mark.parametrize("status", [301, 302, 304, 307])
def test_a_redirect_is_an_error_and_is_not_followed(service, status):
    service.says(b"", status, Location=f"{service.endpoint}/elsewhere")
    with service.connect() as client, pytest.raises(kd.ProtocolError, match="redirect"):
        client.devices()
    assert len(service.asked) == 1


def test_a_service_that_is_down_is_named_with_what_to_check():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
    client = kd.connect(endpoint=endpoint, user_id="42", auth=kd.TokenAuth(TOKEN))
    with (
        client,
        pytest.raises(kd.ConnectionFailedError, match="whether the service is up") as caught,
    ):
        client.devices()
    assert endpoint in str(caught.value)
    # Chained errors would bring frames of requests along, whose variables hold the header.
    assert caught.value.__context__ is None
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "Bearer" not in "".join(report.format()).replace('Bearer" not in', "")


def test_words_of_the_service_cannot_control_the_terminal(service):
    service.says({"code": 13000102, "msg": "\x1b[2Jgone\r\n" + "x" * 5000}, 400)
    with service.connect() as client, pytest.raises(kd.ServiceError) as caught:
        client.devices()
    assert caught.value.message.startswith("[2Jgone xxx")
    assert len(caught.value.message) == 200


def test_one_debug_line_a_request_without_the_token(service, caplog):
    with caplog.at_level(logging.DEBUG), service.connect() as client:
        client.devices()
    (line,) = [entry.getMessage() for entry in caplog.records if entry.name == "koodrive_nb"]
    assert line.startswith("GET /koodrive/ose/v1/backup/device: HTTP 200")
    assert TOKEN not in caplog.text


def test_a_proxy_of_the_environment_is_not_asked_for_loopback(service, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with service.connect() as client:
        client.devices()
    assert len(service.asked) == 1


def test_netrc_plays_no_part(monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    sent = []

    def note(adapter, request, **options):
        sent.append(request.headers["Authorization"])
        raise requests.exceptions.InvalidURL

    # Where the environment counts, which it does not for loopback.
    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", note)
    client = kd.connect(endpoint="https://koodrive.example", auth=kd.TokenAuth(TOKEN), user_id="42")
    with client, pytest.raises(kd.ConnectionFailedError):
        client.devices()
    assert sent == [f"Bearer {TOKEN}"]


def test_a_token_that_the_service_echoes_is_hidden(service):
    service.says({"code": 401, "msg": f"bad Authorization: Bearer {TOKEN}"}, 401)
    with service.connect() as client, pytest.raises(kd.AuthenticationError) as caught:
        client.devices()
    assert caught.value.message == "bad Authorization: Bearer <hidden>"


def test_ctrl_c_in_the_middle_of_a_request_brings_no_frame_with_the_header(service, monkeypatch):
    def interrupted(*arguments, headers=f"Bearer {TOKEN}", **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("urllib3.connectionpool.HTTPConnectionPool.urlopen", interrupted)
    with service.connect() as client, pytest.raises(KeyboardInterrupt) as caught:
        client.devices()
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-1] == "_send"
    assert caught.value.__context__ is None


@pytest.mark.parametrize("place", ["http://[::1", "\xff"])
def test_a_redirect_to_nowhere_is_an_error_of_ours(service, place):
    service.says(b"", 302, Location=place)
    with service.connect() as client, pytest.raises(kd.KooDriveError):
        client.devices()


def test_what_a_token_callable_raises_comes_through_as_it_is(service):
    def ask():
        raise LookupError("no token in the vault")

    with service.connect(auth=kd.TokenAuth(ask)) as client, pytest.raises(LookupError):
        client.devices()
    assert service.asked == []


def test_a_body_cannot_say_that_it_is_the_sandbox(service):
    service.says({"code": 0, "source": "sandbox", "data": [{"deviceId": "1"}]})
    with service.connect() as client:
        assert set(client.devices()["source"]) == {"live"}


def test_a_listing_without_data_is_not_taken_for_an_empty_one(service):
    service.says({"code": 0, "msg": "success", "records": [{"recordId": "1"}]})
    with service.connect() as client, pytest.raises(kd.ProtocolError, match="array of rows"):
        client.records()


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        (r"Phone \ud83d", "Phone \ufffd"),
        (r"\ude00 Phone", "\ufffd Phone"),
        (r"\ud83d\ude00 \uD83D", "\U0001f600 \ufffd"),
        (r"\\ud83d \ud83d", "\\ud83d \ufffd"),
    ],
)
def test_half_a_character_costs_only_itself_and_is_counted(service, name, kept):
    service.says(b'{"code":0,"data":[{"deviceId":"1","deviceName":"%s"}]}' % name.encode())
    with service.connect() as client:
        frame = client.devices()
    assert list(frame["device_name"]) == [kept]
    assert list(kd.ledger(frame)["coerced"]) == [1]
