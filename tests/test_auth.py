import concurrent.futures
import copy
import hashlib
import hmac
import itertools
import pickle
import threading
import time
import traceback

import pytest
import requests

import koodrive_nb as kd
from koodrive_nb import clock, signing

SECRET = "5e1c0ffee5e1c0ffee5e1c0ffee"
CREDENTIALS = [kd.TokenAuth(SECRET), kd.AppAuth("a378331e", SECRET)]


def request_to(url, **headers):
    named = {"X-User-Id": "42", "X-Date": "20251103T070140Z"} | headers
    return requests.Request("GET", url, headers=named).prepare()


def shown(error):
    """Show an error as a notebook with verbose tracebacks would, but for this file's constant."""
    text = traceback.TracebackException.from_exception(error, capture_locals=True).format()
    return "".join(text).replace(f"SECRET = {SECRET!r}", "")


def sent_by(service, token):
    with service.connect(auth=kd.TokenAuth(token)) as client:
        client.devices()
    return service.asked[-1].headers["Authorization"]


@pytest.mark.parametrize(
    ("token", "header"),
    [
        ("60f4ccc7b1", "Bearer 60f4ccc7b1"),
        ("AT 3b911d72", "AT 3b911d72"),
        ("bearer 3b911d72", "bearer 3b911d72"),
        ("Bearer+3b911d72", "Bearer+3b911d72"),
        ("abc+def/ghi==", "Bearer abc+def/ghi=="),
        ("  60f4ccc7b1\n", "Bearer 60f4ccc7b1"),
    ],
)
def test_a_token_with_a_scheme_goes_out_as_it_is_and_any_other_as_bearer(service, token, header):
    assert sent_by(service, token) == header


def test_a_callable_is_asked_once_and_again_when_its_token_is_refused(service):
    tokens = iter(["first", "second", "third"])

    def answer(asked):
        if asked.headers["Authorization"] == "Bearer first":
            return service.Answer({"code": 401, "msg": "expired"}, 401)
        return service.Answer({"code": 0, "data": []})

    service.answer = answer
    with service.connect(auth=kd.TokenAuth(lambda: next(tokens))) as client:
        client.devices()
        client.devices()
    assert [asked.headers["Authorization"] for asked in service.asked] == [
        "Bearer first",
        "Bearer second",
        "Bearer second",
    ]


@pytest.mark.parametrize("token", ["", "   ", None, 7])
def test_an_empty_token_is_refused_with_where_to_set_one(token):
    with pytest.raises(kd.ConfigurationError, match="KOODRIVE_TOKEN"):
        kd.TokenAuth(token)


@pytest.mark.parametrize("tail", ["\nX-Evil: 1", " two words", "\u00e9", "\x00"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_repeated(service, tail):
    for attempt in (
        lambda: kd.TokenAuth(SECRET + tail),
        lambda: sent_by(service, lambda: SECRET + tail),
    ):
        with pytest.raises(kd.ConfigurationError, match="copy it again") as caught:
            attempt()
        shown = "".join(
            traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
        )
        assert SECRET not in shown.replace(f"SECRET = {SECRET!r}", "")
    assert service.asked == []


@pytest.mark.parametrize("auth", CREDENTIALS)
def test_no_repr_or_attribute_listing_shows_the_secret(auth):
    auth(request_to("http://localhost"))
    assert SECRET not in f"{auth!r} {auth!s} {vars(auth)!r} {[*vars(auth).values()]}"
    assert "a378331e" not in repr(auth)


@pytest.mark.parametrize("auth", CREDENTIALS)
@pytest.mark.parametrize("attempt", [pickle.dumps, copy.copy, copy.deepcopy])
def test_credentials_are_neither_pickled_nor_copied(auth, attempt):
    with pytest.raises(TypeError, match=f"not pickled: make a new {type(auth).__name__}"):
        attempt(auth)


def test_many_workers_refused_with_one_token_ask_for_another_once():
    given = []

    def give():
        time.sleep(0.02)
        given.append(f"token-{len(given)}")
        return given[-1]

    auth = kd.TokenAuth(give)
    refused = [auth(request_to("http://localhost")) for _ in range(16)]
    start = threading.Barrier(len(refused), timeout=10)

    def renew(request):
        start.wait()
        assert auth.renew(request) is True
        return auth(request_to("http://localhost")).headers["Authorization"]

    with concurrent.futures.ThreadPoolExecutor(len(refused)) as pool:
        assert set(pool.map(renew, refused)) == {"Bearer token-1"}
    assert given == ["token-0", "token-1"]


def test_a_late_refusal_of_an_old_token_does_not_forget_the_new_one():
    tokens = itertools.count()
    auth = kd.TokenAuth(lambda: f"token-{next(tokens)}")
    early, late = (auth(request_to("http://localhost")) for _ in range(2))
    assert auth.renew(early)
    assert auth(request_to("http://localhost")).headers["Authorization"] == "Bearer token-1"
    assert auth.renew(late)
    assert auth(request_to("http://localhost")).headers["Authorization"] == "Bearer token-1"


def test_a_token_of_text_cannot_be_renewed_and_stays():
    auth = kd.TokenAuth("first")
    assert auth.renew(auth(request_to("http://localhost"))) is False
    assert auth(request_to("http://localhost")).headers["Authorization"] == "Bearer first"


def test_workers_of_a_client_share_one_new_token(service):
    tokens = itertools.count()

    def answer(asked):
        if asked.headers["Authorization"] == "Bearer token-0":
            return service.Answer({"code": 401, "msg": "expired"}, 401)
        return service.Answer({"code": 0, "data": []})

    service.answer = answer
    with service.connect(auth=kd.TokenAuth(lambda: f"token-{next(tokens)}")) as client:
        client.records()
    assert {asked.headers["Authorization"] for asked in service.asked} == {
        "Bearer token-0",
        "Bearer token-1",
    }
    assert next(tokens) == 2


@pytest.mark.parametrize("empty", ["", "   ", "\n", None, 7, b"a378331e"])
@pytest.mark.parametrize("name", ["AppId", "AppSecret"])
def test_an_empty_app_is_refused_with_where_to_set_one(name, empty):
    given = [empty, SECRET] if name == "AppId" else ["a378331e", empty]
    with pytest.raises(
        kd.ConfigurationError, match=f"The {name} is empty.*KOODRIVE_APP_SECRET"
    ) as (caught):
        kd.AppAuth(*given)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("app_id", "app_secret"),
    [
        *[
            ("a378331e", SECRET + tail)
            for tail in ("\nX-Evil: 1", " words", " two words", "\u00e9", "\x00", "\ud800", "\t.")
        ],
        *[
            (head, SECRET)
            for head in ("a b", "a,b", "a;b", "a=b", "a\nb", "\u00e9", "\x00", "9" * 257)
        ],
    ],
)
def test_an_app_that_no_header_can_carry_is_refused_and_not_repeated(app_id, app_secret):
    secrets = [app_secret]
    del app_secret
    with pytest.raises(kd.ConfigurationError, match="copy each again") as caught:
        kd.AppAuth(app_id, secrets.pop())
    assert SECRET not in shown(caught.value)
    assert app_id not in str(caught.value)


def test_blanks_around_an_app_are_not_part_of_it():
    signed = {
        kd.AppAuth(*app)(request_to("http://localhost")).headers["Authorization"]
        for app in [("a378331e", SECRET), (" a378331e\n", f"  {SECRET} \r\n")]
    }
    assert len(signed) == 1


def test_an_app_signs_as_the_reference_does():
    auth = kd.AppAuth("a378331e", "sandbox-app-secret")
    path = "/koodrive/ose/v1/backup/record/1842862763295184641"
    request = request_to(f"https://sandbox.example{path}", **{"X-User-Id": "1505084218764547200"})
    url = request.url
    assert auth(request) is request
    assert request.headers["Authorization"] == (
        "HMAC-SHA256 AppId=a378331e,SignedHeaders=host;x-date;x-user-id,"
        "Signature=3d44a0297cb1abb1e8d5ef482751e375e277258d3889821763352831ffd279e3"
    )
    assert request.url == url
    kd.AppAuth("a378331e", "sandbox-app-secret", sign_host=False)(request)
    assert request.headers["Authorization"] == (
        "HMAC-SHA256 AppId=a378331e,SignedHeaders=x-date;x-user-id,"
        "Signature=de0ea8c9574aa262b352a375324422a28e1feabb491ffe6c8f4ae871e2d5708b"
    )


@pytest.mark.parametrize(
    "body", ['{"moduleCode":"102"}', b'{"moduleCode":"102"}'], ids=["text", "bytes"]
)
def test_an_app_signs_the_body_too(body):
    request = requests.Request(
        "POST",
        "https://sandbox.example/koodrive/ose/v1/backup/lock",
        headers={"X-User-Id": "1505084218764547200", "X-Date": "20251103T070140Z"},
        data=body,
        auth=kd.AppAuth("a378331e", "sandbox-app-secret"),
    ).prepare()
    assert request.headers["Authorization"].endswith(
        "Signature=1ce55992f8302c3b34550641acf02f1556da934f72019d655a58bc53c7e4add0"
    )


@pytest.mark.parametrize("sign_host", [True, False])
@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://localhost", "localhost"),
        ("http://localhost:80/a", "localhost"),
        ("http://localhost:443/a", "localhost:443"),
        ("http://localhost:8080/a?b=c:1", "localhost:8080"),
        ("https://koodrive.example", "koodrive.example"),
        ("https://koodrive.example:443", "koodrive.example"),
        ("https://koodrive.example:80", "koodrive.example:80"),
        ("https://Koodrive.Example:8443", "koodrive.example:8443"),
        ("http://127.0.0.1:9000", "127.0.0.1:9000"),
        ("http://[::1]", "[::1]"),
        ("http://[::1]:80", "[::1]"),
        ("http://[::1]:9000", "[::1]:9000"),
        ("https://[2001:db8::1]:443", "[2001:db8::1]"),
    ],
)
def test_the_host_has_its_port_only_where_it_is_not_the_scheme_s_own(url, host, sign_host):
    request = kd.AppAuth("id", SECRET, sign_host=sign_host)(request_to(url))
    assert request.headers["Host"] == host


@pytest.mark.parametrize("sign_host", [True, False])
def test_the_host_that_is_signed_is_the_one_that_is_sent(service, sign_host):
    with service.connect(auth=kd.AppAuth("id", SECRET, sign_host=sign_host)) as client:
        client.devices()
    (asked,) = service.asked
    assert f"http://{asked.headers['Host']}" == service.endpoint
    assert ("host;" in asked.headers["Authorization"]) is sign_host


def expected_signature(service, asked, names):
    headers = {name: asked.headers[name] for name in names}
    query = "&".join(f"{name}={value}" for name, value in asked.query.items())
    canonical = signing.canonical_request("GET", f"{service.endpoint}{asked.path}?{query}", headers)
    return signing.signature(hmac.new(SECRET.encode(), None, hashlib.sha256), canonical)


def test_each_request_is_signed_anew_those_sent_again_too(service, monkeypatch):
    stamps = (f"20251103T0701{second:02d}Z" for second in itertools.count())
    monkeypatch.setattr(clock.Clock, "stamp", lambda self: next(stamps))
    refused = iter([503, 401])

    def answer(asked):
        status = next(refused, 200)
        return service.Answer({"code": 0 if status == 200 else status, "data": []}, status)

    service.answer = answer
    with service.connect(auth=kd.AppAuth("a378331e", SECRET)) as client:
        with pytest.raises(kd.AuthenticationError):
            client.devices()
        client.devices()
        client.records("101")
    assert len(service.asked) == 4
    for header in ("X-Date", "X-Traceid", "Authorization"):
        assert len({asked.headers[header] for asked in service.asked}) == 4
    for asked in service.asked:
        assert len(asked.headers["X-Traceid"]) == 58
        signature = expected_signature(service, asked, ["Host", "X-Date", "X-User-Id"])
        assert asked.headers["Authorization"].endswith(
            f"=host;x-date;x-user-id,Signature={signature}"
        )


def test_the_secret_of_an_app_is_never_sent_or_shown(service):
    service.says({"code": 401, "msg": "no"}, 401)
    with (
        service.connect(auth=kd.AppAuth("a378331e", SECRET)) as client,
        pytest.raises(kd.AuthenticationError) as caught,
    ):
        client.devices()
    assert service.asked
    assert SECRET not in repr(service.asked)
    assert SECRET not in shown(caught.value)


@pytest.mark.parametrize("missing", ["X-Date", "X-User-Id"])
def test_a_request_without_what_is_signed_is_not_signed_at_all(missing):
    request = request_to("http://localhost")
    del request.headers[missing]
    with pytest.raises(KeyError) as caught:
        kd.AppAuth("a378331e", SECRET)(request)
    assert "Authorization" not in request.headers
    assert SECRET not in shown(caught.value)
