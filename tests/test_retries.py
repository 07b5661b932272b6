"""What is asked again, when, and how often."""

import logging
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import pytest
import requests
import stamina

import koodrive_nb as kd
from koodrive_nb import transport

GOOD = {"code": 0, "data": []}


@pytest.fixture
def waits(monkeypatch):
    """Note the pauses that would be made, and make none."""
    made = []
    monkeypatch.setattr(transport, "_GIVE_UP_AFTER_S", 180.0)
    # Other threads may sleep meanwhile.
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=made.append))
    monkeypatch.setattr(transport, "_FIRST_PAUSE_S", 0.5)
    return made


def fails_first(service, times, answer):
    """Answer the first `times` requests with `answer`, and the others well."""

    def choose(asked):
        return answer if len(service.asked) <= times else service.Answer(GOOD)

    service.answer = choose


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_failing_service_is_asked_five_times_in_all(service, status):
    fails_first(service, 4, service.Answer(b"<html>", status))
    with service.connect() as client:
        assert len(client.devices()) == 0
    assert len(service.asked) == 5
    service.asked.clear()
    fails_first(service, 5, service.Answer(b"<html>", status))
    with service.connect() as client, pytest.raises(kd.ServerError) as caught:
        client.devices()
    assert len(service.asked) == 5
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"code": 13000102}),
        (400, {"code": 13000309}),
        (404, {"error_code": "APIGW.0101"}),
        (403, b""),
        (200, {"code": 13000301}),
        (200, b"<html>log in</html>"),
        (302, b""),
    ],
)
def test_what_would_only_come_again_is_asked_once(service, status, body):
    service.says(body, status)
    with service.connect() as client, pytest.raises(kd.KooDriveError) as caught:
        client.devices()
    assert len(service.asked) == 1
    assert not caught.value.retryable


def test_pauses_grow_and_a_random_part_of_each_is_waited(service, waits):
    service.says(b"", 503)
    several = []
    for _ in range(20):
        with service.connect() as client, pytest.raises(kd.ServerError):
            client.devices()
        several.append(tuple(waits))
        waits.clear()
    assert all(len(pauses) == 4 for pauses in several)
    for turn, highest in enumerate([0.5, 1, 2, 4]):
        drawn = [pauses[turn] for pauses in several]
        assert 0 <= min(drawn) < highest / 3
        assert highest / 2 < max(drawn) <= highest


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_retry_after_is_waited_for(service, waits, monkeypatch, status, as_date):
    paused = []
    monkeypatch.setattr("koodrive_nb.pacing.time.sleep", paused.append)
    # The date counts by the service's clock, which need not be this machine's.
    theirs = datetime(2031, 1, 1, tzinfo=UTC)
    later = format_datetime(theirs + timedelta(seconds=7), usegmt=True)
    headers = {
        "Retry-After": later if as_date else "7",
        "Date": format_datetime(theirs, usegmt=True),
    }
    fails_first(service, 1, service.Answer(b"", status, headers))
    with service.connect() as client:
        client.devices()
    assert max(waits + paused) == pytest.approx(7, abs=0.2)


@pytest.mark.parametrize(("said", "waited"), [("86400", 60.0), ("-5", None), ("soon", None)])
def test_retry_after_is_capped_and_nonsense_is_ignored(service, waits, said, waited):
    fails_first(service, 1, service.Answer(b"", 503, {"Retry-After": said}))
    with service.connect() as client:
        client.devices()
    (pause,) = waits
    assert pause == waited if waited else pause <= 0.5


def test_an_error_tells_how_long_the_service_wants_to_be_left_alone(service, monkeypatch):
    monkeypatch.setattr(transport, "_GIVE_UP_AFTER_S", 0.001)
    service.says(b"", 503, **{"Retry-After": "0"})
    with service.connect() as client, pytest.raises(kd.ServerError) as caught:
        client.devices()
    assert caught.value.retry_after_s == 0


@pytest.mark.parametrize(
    ("status", "body"),
    [(429, b""), (400, {"error_code": "APIG.0308"}), (200, {"error_code": "APIGW.0308"})],
)
def test_a_request_that_came_too_early_is_asked_again_until_the_deadline(service, status, body):
    started = time.monotonic()
    service.says(body, status)
    with service.connect() as client, pytest.raises(kd.ThrottledError):
        client.devices()
    # A pause that would go beyond the deadline is not begun.
    assert 0.3 <= time.monotonic() - started < 2
    assert len(service.asked) > 5


def test_a_connection_that_breaks_is_tried_again(service):
    broken = iter(range(3))

    def answer(asked):
        if next(broken, None) is not None:
            raise ConnectionResetError
        return service.Answer(GOOD)

    service.answer = answer
    with service.connect() as client:
        client.devices()
    assert len(service.asked) == 4


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate"),
        requests.exceptions.InvalidURL("no host"),
        ValueError("no number"),
    ],
    ids=repr,
)
def test_what_no_repetition_cures_is_not_repeated(monkeypatch, error):
    calls = []

    def refuse(*arguments, **options):
        calls.append(1)
        raise error

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", refuse)
    client = kd.connect(endpoint="https://x.example", auth=kd.TokenAuth("t" * 20), user_id="42")
    with client, pytest.raises(kd.ConnectionFailedError) as caught:
        client.devices()
    assert len(calls) == 1
    assert not caught.value.retryable
    assert ("REQUESTS_CA_BUNDLE" in str(caught.value)) == isinstance(
        error, requests.exceptions.SSLError
    )


def test_a_handshake_that_breaks_off_is_tried_again(monkeypatch):
    calls = []

    def break_off(*arguments, **options):
        calls.append(1)
        raise requests.exceptions.SSLError("EOF occurred in violation of protocol")

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", break_off)
    client = kd.connect(endpoint="https://x.example", auth=kd.TokenAuth("t" * 20), user_id="42")
    with client, pytest.raises(kd.ConnectionFailedError, match="the network") as caught:
        client.devices()
    assert len(calls) == 5
    assert caught.value.retryable


def test_a_pause_beyond_the_deadline_is_not_begun(service, waits, monkeypatch):
    monkeypatch.setattr(transport, "_GIVE_UP_AFTER_S", 40.0)
    service.says(b"", 503, **{"Retry-After": "50"})
    with service.connect() as client, pytest.raises(kd.ServerError):
        client.devices()
    assert waits == []


def test_a_proxy_that_fails_is_named(monkeypatch):
    def refuse(*arguments, **options):
        raise requests.exceptions.ProxyError

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", refuse)
    client = kd.connect(endpoint="https://x.example", auth=kd.TokenAuth("t" * 20), user_id="42")
    with client, pytest.raises(kd.ConnectionFailedError, match="HTTPS_PROXY"):
        client.devices()


def test_proxies_and_certificates_of_the_environment_count(monkeypatch):
    used = []

    def note(adapter, request, **options):
        used.append(options)
        raise requests.exceptions.InvalidURL

    monkeypatch.setenv("HTTPS_PROXY", "http://me:hunter2@proxy.example:3128")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "authorities.pem")
    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", note)
    client = kd.connect(endpoint="https://x.example", auth=kd.TokenAuth("t" * 20), user_id="42")
    with client, pytest.raises(kd.ConnectionFailedError) as caught:
        client.devices()
    assert used[0]["proxies"]["https"] == "http://me:hunter2@proxy.example:3128"
    assert used[0]["verify"] == "authorities.pem"
    assert "hunter2" not in str(caught.value) + repr(client) + client._repr_html_()


def test_a_cookie_of_the_service_is_not_sent_back(service):
    service.says(GOOD, **{"Set-Cookie": "session=1; Path=/"})
    with service.connect() as client:
        client.devices()
        client.devices()
    assert all("Cookie" not in asked.headers for asked in service.asked)


def test_a_refused_token_that_cannot_be_renewed_is_not_sent_again(service):
    service.says({"code": 401}, 401)
    with service.connect() as client, pytest.raises(kd.AuthenticationError):
        client.devices()
    assert len(service.asked) == 1


def test_a_callable_token_is_renewed_once_for_a_request(service):
    given = []

    def give():
        given.append(f"token-{len(given)}")
        return given[-1]

    service.says({"code": 401}, 401)
    with (
        service.connect(auth=kd.TokenAuth(give)) as client,
        pytest.raises(kd.AuthenticationError),
    ):
        client.devices()
    assert [asked.headers["Authorization"] for asked in service.asked] == [
        "Bearer token-0",
        "Bearer token-1",
    ]


def test_a_400_without_a_code_is_signed_anew_once(service):
    service.says({"msg": "who?"}, 400)
    auth = kd.AppAuth("app", "s" * 20)
    with service.connect(auth=auth) as client, pytest.raises(kd.AuthenticationError):
        client.devices()
    first, second = (asked.headers for asked in service.asked)
    assert first["X-Traceid"] != second["X-Traceid"]


@pytest.mark.parametrize("minutes", [20, -20])
def test_a_clock_that_is_wrong_is_corrected_once_with_one_warning(minutes):
    fault = kd.sandbox.Fault("clock", seconds=60 * minutes)
    with kd.sandbox.Sandbox(faults=[fault]) as sandbox:
        client = kd.connect(
            endpoint=sandbox.endpoint,
            auth=kd.AppAuth(sandbox.app_id, sandbox.app_secret),
            user_id=kd.sandbox.DEFAULT_USER,
        )
        side = "behind" if minutes > 0 else "ahead of"
        with client:
            with pytest.warns(UserWarning, match=f"{side} the service's") as warned:
                records = client.records()
            client.devices()
        assert len(warned) == 1
        assert len(records) == 505
        # All that started together may be refused, and nothing after that.
        assert sandbox.statuses[400] <= 3
        ahead = records["fetched_at"].iloc[0] - datetime.now(UTC)
        assert abs(ahead - timedelta(minutes=minutes)) < timedelta(minutes=1)


def test_a_right_clock_is_not_touched_by_a_refusal(service):
    service.says({"code": 401}, 401)
    # A warning would be an error here.
    with service.connect() as client, pytest.raises(kd.AuthenticationError):
        client.devices()


def test_a_limit_of_requests_is_learnt_and_nothing_is_lost(monkeypatch):
    monkeypatch.setattr(transport, "_GIVE_UP_AFTER_S", 60)
    monkeypatch.setattr("koodrive_nb.pacing._FIRST_PAUSE_S", 1.0)
    with kd.connect("sandbox") as client:
        ids = list(client.records()["record_id"])[:120]
    with kd.sandbox.Sandbox(rate_limit=5) as sandbox:
        auth = kd.AppAuth(sandbox.app_id, sandbox.app_secret)
        with kd.connect(
            endpoint=sandbox.endpoint, auth=auth, user_id=kd.sandbox.DEFAULT_USER
        ) as client:
            frame = client.records_by_id(ids)
        answered = sandbox.statuses
    assert list(frame["record_id"]) == ids
    assert answered[200] == 120
    assert 1 <= answered[429] <= 0.1 * sum(answered.values())


def test_retries_are_logged_without_ending_up_in_a_notebook(service, capfd, caplog):
    fails_first(service, 2, service.Answer(b"", 503))
    with caplog.at_level(logging.DEBUG, "koodrive_nb"), service.connect() as client:
        client.devices()
    lines = [entry.getMessage() for entry in caplog.records if entry.name == "koodrive_nb"]
    assert [line.split(",")[0].rpartition(" ")[2] for line in lines] == ["503", "503", "200"]
    assert logging.getLogger("stamina").handlers
    assert capfd.readouterr().err == ""


def test_retries_can_be_switched_off_for_tests_as_in_any_user_of_stamina(service):
    service.says(b"", 503)
    with (
        stamina.set_testing(True),
        service.connect() as client,
        pytest.raises(kd.ServerError),
    ):
        client.devices()
    assert len(service.asked) == 1
