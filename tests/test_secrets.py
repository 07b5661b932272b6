"""No secret shows, wherever one may look: in errors, logs, tracebacks, reprs, files."""

import base64
import dataclasses
import functools
import logging
import pickle
import re
import socket
import threading
import traceback
from itertools import count
from types import SimpleNamespace

import pytest
from IPython.core.ultratb import VerboseTB

import koodrive_nb as kd
from koodrive_nb import transport
from koodrive_nb.fleet import processes

GOOD = {"code": 0, "data": [{"recordId": "1", "deviceInfo": {"deviceId": "9"}}]}


def secret():
    """Make the secret to look for, so that no source line or constant of this file shows it."""
    return f"m4rk-of-a-secret-{4711:08}"


def forms():
    """Give what must not be seen: the secret, and how a proxy's password is sent."""
    return [secret(), base64.b64encode(f"me:{secret()}".encode()).decode().rstrip("=")]


CREDENTIALS = {
    "token": lambda: kd.TokenAuth(secret()),
    "token with a scheme": lambda: kd.TokenAuth(f"AT {secret()}"),
    "token with a plus": lambda: kd.TokenAuth(f"Bearer+{secret()}"),
    "callable": lambda: kd.TokenAuth(secret),
    "app": lambda: kd.AppAuth("a378331e", secret()),
}


def echo(asked):
    """Repeat what a request proved itself with, as a whole and in pieces."""
    header = asked.headers["Authorization"]
    return f"no: {header}; {' '.join(re.split('[ +=,]', header))}"


def interrupt(*arguments, **options):
    raise KeyboardInterrupt


def interrupt_later(monkeypatch):
    """Interrupt while an error of the connection is handled."""
    monkeypatch.setattr("urllib3.util.connection.create_connection", refuse)
    monkeypatch.setattr("urllib3.util.retry.Retry.increment", interrupt)


def refuse(*arguments, **options):
    raise ConnectionRefusedError


# What the service answers, given what was asked and a way to say it.
ANSWERS = {
    "success": lambda asked, said: said(GOOD),
    "refused": lambda asked, said: said({"code": 401, "msg": echo(asked)}, 401),
    "refused by the gateway": lambda asked, said: said(
        {"error_code": "APIGW.0301", "error_msg": echo(asked)}, 401
    ),
    "refused oddly": lambda asked, said: said({"code": echo(asked), "msg": [echo(asked)]}, 400),
    "refused in HTML": lambda asked, said: said(echo(asked).encode(), 403),
    "refused in headers": lambda asked, said: said(
        b"", 403, {"X-Request-Id": echo(asked)[-60:], "Retry-After": echo(asked)}
    ),
    "not JSON": lambda asked, said: said(echo(asked).encode()),
    "no rows": lambda asked, said: said({"code": 0, "data": echo(asked)}),
    "redirect": lambda asked, said: said(
        b"", 302, {"Location": f"https://x.example/{echo(asked)}"}
    ),
    "failing": lambda asked, said: said({"code": 5, "msg": echo(asked)}, 503),
    "throttled": lambda asked, said: said({"error_code": "APIGW.0308", "error_msg": echo(asked)}),
    "no answer": lambda asked, said: refuse(),
    "expired": lambda asked, said: (
        said(GOOD)
        if asked.headers["Authorization"].endswith("-1")
        else said({"code": 401, "msg": echo(asked)}, 401)
    ),
    "incomplete": lambda asked, said: (
        said({"code": 403, "msg": echo(asked)}, 403)
        if asked.query.get("moduleCode") == "102"
        else said(GOOD)
    ),
}
INTERRUPTIONS = {
    "interrupted": lambda monkeypatch: monkeypatch.setattr(
        "urllib3.util.connection.create_connection", interrupt
    ),
    "interrupted while handling": interrupt_later,
}
FRAMES = {"success", "incomplete", "expired"}


def tried(ask):
    """Give what a call returns, and what it raises without the frame of this function."""
    try:
        return ask(), None
    except BaseException as error:  # noqa: BLE001 -- interruptions are what is looked at
        return None, error.with_traceback(error.__traceback__.tb_next)


@pytest.fixture
def happen(service, monkeypatch, caplog):
    """Let something happen to a client, and give all that one could look at afterwards."""
    monkeypatch.setattr(transport, "_GIVE_UP_AFTER_S", 0.05)
    caplog.set_level(logging.DEBUG)
    opened = []

    def take_place(situation, auth=None, **options):
        if situation in INTERRUPTIONS:
            INTERRUPTIONS[situation](monkeypatch)
        service.answer = lambda asked: ANSWERS.get(situation, ANSWERS["success"])(
            asked, service.Answer
        )
        options = {"endpoint": service.endpoint, "user_id": "42"} | options
        client = kd.connect(auth=auth, **options)
        opened.append(client)
        frame, error = tried(client.records if situation in FRAMES else client.devices)
        return SimpleNamespace(
            client=client,
            auth=client._settings.auth,
            error=error,
            frame=frame if error is None else getattr(error, "frame", None),
            logs=caplog.records,
        )

    yield take_place
    for client in opened:
        client.close()


def chain(error):
    """Give an error and all that it came from, those too that a traceback would leave out."""
    found, left = [], [error]
    while left:
        one = left.pop()
        if one is not None and one not in found:
            found.append(one)
            left += [one.__cause__, one.__context__]
    return found


def words(happened):
    said = []
    for error in chain(happened.error):
        said += [str(error), repr(error), f"{error}", repr(error.args), repr(vars(error))]
    assert said
    return "\n".join(said)


def with_variables(error):
    """Show the variables of every frame, as pytest and error trackers do."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(told.format())


def in_a_notebook(error):
    """Show what `%xmode Verbose` shows."""
    told = VerboseTB().text(type(error), error, error.__traceback__)
    return re.sub(r"\x1b\[[0-9;]*m", "", told)


def variables(happened):
    told = "".join(map(with_variables, chain(happened.error)))
    assert told.count("    self = ") >= 2
    return told


def verbose(happened):
    told = in_a_notebook(happened.error)
    assert "client.py" in told
    assert "self" in told
    return told


def logged(happened):
    said = [f"{each.getMessage()} {vars(each)}" for each in happened.logs]
    names = {each.name.partition(".")[0] for each in happened.logs}
    # An interruption is not for this package to log.
    is_interrupted = isinstance(happened.error, KeyboardInterrupt)
    assert ("urllib3" if is_interrupted else "koodrive_nb") in names
    return "\n".join(said)


def reprs(happened):
    client, auth = happened.client, happened.auth
    shown = [form(one) for form in (repr, str, format) for one in (client, auth)]
    return "\n".join([*shown, client._repr_html_(), repr(client._settings)])


def attributes(happened):
    """Show a client's attributes and theirs, as a debugger's view of variables does."""

    def opened(thing, depth):
        said = [repr(thing)]
        if dataclasses.is_dataclass(thing):
            inside = {one.name: getattr(thing, one.name) for one in dataclasses.fields(thing)}
        else:
            inside = getattr(thing, "__dict__", {})
        for name, value in inside.items() if depth else ():
            said += [name, *opened(value, depth - 1)]
        return said

    said = opened(happened.client, 4)
    assert {"transport", "_auth", "_connections"} <= set(said)
    assert repr(happened.auth) in said
    return "\n".join(said)


def pickles(happened):
    error = happened.error
    whole = pickle.dumps(error if error is not None else happened.frame)
    assert type(pickle.loads(whole)) is type(error if error is not None else happened.frame)
    return whole.decode("latin-1")


def provenance(happened):
    frame = happened.frame
    lines = kd.ledger(frame)
    assert len(frame) == 1
    assert "live" in set(lines["source"])
    return "\n".join([repr(frame.attrs), lines.to_csv(), repr(lines.attrs), frame.to_csv()])


ERROR_CHANNELS = [words, variables, verbose, pickles]
CHANNELS = [logged, reprs, attributes]
LOOKED_AT = [
    (credentials, situation, channel)
    for credentials in CREDENTIALS
    for situation in [*ANSWERS, *INTERRUPTIONS]
    if situation != "expired"
    for channel in [
        *(ERROR_CHANNELS if situation != "success" else [pickles]),
        *CHANNELS,
        *([provenance] if situation in FRAMES else []),
    ]
    # A scheme makes a difference where the service's words are cleaned, and nowhere else.
    if " with " not in credentials or channel is words
]


def assert_hidden(text):
    for form in forms():
        # Only what is around it: the whole text can have megabytes.
        assert form not in text, re.search(f".{{0,150}}{re.escape(form)}.{{0,50}}", text)[0]


@pytest.mark.parametrize(
    ("credentials", "situation", "channel"),
    LOOKED_AT,
    ids=lambda one: getattr(one, "__name__", one),
)
def test_credentials_stay_hidden(happen, service, credentials, situation, channel):
    happened = happen(situation, CREDENTIALS[credentials]())
    assert (happened.error is None) == (situation == "success")
    text = channel(happened)
    assert_hidden(text)
    # The header that proves a request is worth as much, for as long as it is valid.
    for asked in service.asked:
        assert asked.headers["Authorization"].rpartition("Signature=")[2] not in text


@pytest.fixture
def proxy(monkeypatch):
    """Stand in for a proxy that takes no password and repeats the one it got."""
    for name in ("no_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    listener = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{secret()}@127.0.0.1:{listener.getsockname()[1]}")
    got = []

    def answer():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                asked = connection.recv(65536).decode()
                got.append(asked)
                sent = re.search("Proxy-Authorization: (.*)\r", asked, re.IGNORECASE)[1]
                reply = f"HTTP/1.1 407 {sent}\r\nProxy-Authenticate: {sent}\r\n\r\n{sent}"
                connection.sendall(reply.encode())

    thread = threading.Thread(target=answer)
    thread.start()
    yield got
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.mark.parametrize("situation", ["not let through", "no proxy there", *INTERRUPTIONS])
@pytest.mark.parametrize("channel", [*ERROR_CHANNELS, *CHANNELS], ids=lambda x: x.__name__)
def test_the_password_of_a_proxy_stays_hidden(happen, proxy, monkeypatch, situation, channel):
    if situation == "no proxy there":
        monkeypatch.setattr("urllib3.util.connection.create_connection", refuse)
    # The service is at an address that only the proxy could reach.
    endpoint = "https://koodrive.example"
    happened = happen(situation, kd.TokenAuth("test-token-0123456789"), endpoint=endpoint)
    assert bool(proxy) == (situation == "not let through")
    if situation not in INTERRUPTIONS:
        assert "(ProxyError): check the proxy that HTTPS_PROXY names" in str(happened.error)
    assert_hidden(channel(happened))


def private_key():
    """Make a key for pseudonyms, so that no source line of this file shows it."""
    return f"{4711:064}"


BROKEN = {
    "no interpreter": (processes.sys, "executable", "/nowhere/python"),
    "interrupted at the start": (processes.subprocess.Popen, "_execute_child", interrupt),
    "interrupted at handing over": (
        processes,
        "pickle",
        SimpleNamespace(dump=interrupt, load=pickle.load, UnpicklingError=pickle.UnpicklingError),
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("show", [with_variables, in_a_notebook])
def test_what_worker_processes_are_given_stays_hidden(monkeypatch, tmp_path, broken, show):
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{secret()}@proxy.example:3128")
    monkeypatch.setenv("KOODRIVE_PRIVACY", "pseudonyms")
    monkeypatch.setenv("KOODRIVE_PRIVACY_KEY", private_key())
    snapshots = kd.snapshots.Snapshots(tmp_path)
    auth = kd.AppAuth("a378331e", secret())
    with kd.connect(endpoint="https://koodrive.example", auth=auth, user_id="42") as client:
        monkeypatch.setattr(*BROKEN[broken])
        _, error = tried(lambda: kd.fleet.sweep(client, ["1", "2"], snapshots, workers=2))
    text = "".join(map(show, chain(error)))
    assert "processes.py" in text
    assert_hidden(text)
    assert private_key() not in text


def give_once(numbers, password):
    """Give a token the first time, and fail to get another."""
    del password
    if next(numbers):
        raise LookupError("the login service is down")
    return secret()


@pytest.mark.parametrize("password", [str, secret], ids=["in itself", "in its arguments"])
@pytest.mark.parametrize("channel", [words, variables, verbose, logged])
def test_a_callable_that_fails_after_it_gave_a_token_takes_no_secret_along(
    happen, password, channel
):
    happened = happen("refused", kd.TokenAuth(functools.partial(give_once, count(), password())))
    assert isinstance(happened.error, LookupError)
    assert_hidden(channel(happened))


@pytest.mark.parametrize("channel", [logged, reprs, attributes, provenance])
def test_a_token_that_is_renewed_stays_hidden(happen, service, channel):
    numbers = count()
    auth = kd.TokenAuth(lambda: f"{secret()}-{next(numbers)}")
    happened = happen("expired", auth, max_workers=1)
    assert happened.error is None
    assert len({asked.headers["Authorization"] for asked in service.asked}) == 2
    assert_hidden(channel(happened))


@pytest.mark.parametrize("kind", ["token", "app"])
@pytest.mark.parametrize("channel", [logged, reprs, attributes])
def test_credentials_of_the_environment_stay_hidden(happen, monkeypatch, kind, channel):
    names = {"token": {"TOKEN": secret()}, "app": {"APP_ID": "a3", "APP_SECRET": secret()}}
    for name, value in names[kind].items():
        monkeypatch.setenv(f"KOODRIVE_{name}", value)
    happened = happen("success")
    assert happened.auth.kind == kind
    assert_hidden(channel(happened))


@pytest.mark.parametrize("show", [with_variables, in_a_notebook])
def test_a_secret_that_is_in_a_variable_would_be_found(show):
    def careless(shown):
        raise ValueError(len(shown))

    _, error = tried(lambda: careless(secret()))
    with pytest.raises(AssertionError):
        assert_hidden(show(error))
