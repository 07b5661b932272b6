"""What a service may do on the wire: an answer ends in time, and takes a bounded memory."""

import contextlib
import gzip
import socket
import threading
import time
import tracemalloc

import pytest

import koodrive_nb as kd
from koodrive_nb import connections, transport

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
MIB = 1 << 20
BOMB = gzip.compress(bytes(256 * MIB), 6)
TWICE = gzip.compress(BOMB)
GOOD = b'{"code":0,"msg":"success","data":[]}'


def trickled(answer):
    for at in range(len(answer)):
        yield answer[at : at + 1]
        time.sleep(0.02)


def endless():
    yield HEAD + b"\r\n" + b'{"code":0,"data":["'
    while True:
        yield b"x" * 65_536


ENDLESS_HEADERS = HEAD + b"X-Padding: " + b"x" * 10**6
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(GOOD) + GOOD


@pytest.fixture
def raw():
    """Serve whatever bytes a function yields, to whoever connects; the bytes sent are counted."""
    sent = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve(answer):
            def accept():
                with contextlib.suppress(OSError):
                    while True:
                        connection, _ = listening.accept()
                        threading.Thread(target=say, args=(connection,), daemon=True).start()

            def say(connection):
                with connection, contextlib.suppress(OSError):
                    connection.recv(65_536)
                    for piece in answer():
                        connection.sendall(piece)
                        sent.append(len(piece))

            threading.Thread(target=accept, daemon=True).start()
            endpoint = f"http://127.0.0.1:{listening.getsockname()[1]}"
            auth = kd.TokenAuth("test-token-0123456789")
            return kd.connect(endpoint=endpoint, auth=auth, user_id="42")

        serve.sent = sent
        yield serve


@pytest.mark.parametrize(
    "answer",
    [
        lambda: trickled(ENDLESS_HEADERS),
        lambda: trickled(HEAD + b"Content-Length: 1000000\r\n\r\n" + b" " * 10**6),
        lambda: trickled(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 10**6),
        lambda: trickled(HEAD + b"Content-Encoding: gzip\r\n\r\n" + BOMB),
    ],
    ids=["headers", "body", "chunks", "gzip"],
)
def test_an_answer_a_byte_at_a_time_ends_at_its_deadline(raw, answer, monkeypatch):
    monkeypatch.setattr(connections, "_LONGEST_ANSWER_S", 0.5)
    monkeypatch.setattr(transport, "_GIVE_UP_AFTER_S", 0.1)
    began = time.monotonic()
    with raw(answer) as client, pytest.raises(kd.ConnectionFailedError, match="no answer"):
        client.devices()
    assert 0.4 < time.monotonic() - began < 3


def test_an_answer_a_byte_at_a_time_is_read_if_it_ends_before(raw):
    with raw(lambda: trickled(WHOLE)) as client:
        assert client.devices().empty


def test_a_body_without_an_end_is_left_where_it_is_too_large(raw, monkeypatch):
    monkeypatch.setattr(connections, "LARGEST_MIB", 2)
    with raw(endless) as client, pytest.raises(kd.ProtocolError, match="check the endpoint"):
        client.devices()
    # What the system's buffers take is sent, too.
    assert sum(raw.sent) < 20 * MIB


@pytest.mark.parametrize(
    ("encoding", "body"), [("gzip", BOMB), ("gzip, gzip", TWICE)], ids=["once", "twice"]
)
def test_a_bomb_takes_little_more_memory_than_the_largest_answer(raw, encoding, body, monkeypatch):
    monkeypatch.setattr(connections, "LARGEST_MIB", 8)
    head = HEAD + b"Content-Encoding: %s\r\n" % encoding.encode()
    answer = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    tracemalloc.start()
    try:
        with raw(lambda: [answer]) as client, pytest.raises(kd.ProtocolError, match="MiB"):
            client.devices()
        assert tracemalloc.get_traced_memory()[1] < 100 * MIB
    finally:
        tracemalloc.stop()


def test_a_large_answer_is_read_whole(raw):
    rows = b",".join(b'{"deviceId":"%d","deviceName":"%s"}' % (n, b"x" * 10**6) for n in range(40))
    body = b'{"code":0,"data":[%s]}' % rows
    answer = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with raw(lambda: [answer]) as client:
        assert list(client.devices()["device_name"].str.len()) == [10**6] * 40
