import pytest

import koodrive_nb as kd
from koodrive_nb import settings

LIVE = {
    "KOODRIVE_ENDPOINT": "https://koodrive.example",
    "KOODRIVE_USER_ID": "1505084218764547200",
    "KOODRIVE_TOKEN": "0123456789abcdef",
}
APP = {"KOODRIVE_APP_ID": "a378331e", "KOODRIVE_APP_SECRET": "bd355f202be40f95"}


@pytest.fixture
def live(monkeypatch):
    for name, value in LIVE.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("live")
def test_settings_come_from_the_environment_and_say_so():
    found = settings.resolve()
    assert (found.endpoint, found.user_id) == (LIVE["KOODRIVE_ENDPOINT"], LIVE["KOODRIVE_USER_ID"])
    assert found.origins == {
        "endpoint": "KOODRIVE_ENDPOINT",
        "user_id": "KOODRIVE_USER_ID",
        "auth": "KOODRIVE_TOKEN",
    }


@pytest.mark.usefixtures("live")
def test_an_argument_wins_over_the_environment():
    found = settings.resolve(user_id="7", endpoint="https://other.example/", auth=kd.TokenAuth("t"))
    assert (found.endpoint, found.user_id) == ("https://other.example", "7")
    assert set(found.origins.values()) == {"argument"}


@pytest.mark.parametrize("missing", [*[{name} for name in LIVE], set(LIVE)])
def test_missing_settings_are_all_named_with_the_way_out(monkeypatch, missing):
    for name in set(LIVE) - missing:
        monkeypatch.setenv(name, LIVE[name])
    with pytest.raises(kd.ConfigurationError) as caught:
        kd.connect()
    message = str(caught.value)
    assert all(
        (name in message.split(". Set them", maxsplit=1)[0]) == (name in missing) for name in LIVE
    )
    assert 'kd.connect("sandbox")' in message


def test_an_app_id_with_its_secret_stands_in_for_a_token(monkeypatch, service):
    monkeypatch.setenv("KOODRIVE_ENDPOINT", service.endpoint)
    monkeypatch.setenv("KOODRIVE_USER_ID", LIVE["KOODRIVE_USER_ID"])
    for name, value in APP.items():
        monkeypatch.setenv(name, value)
    found = settings.resolve()
    assert isinstance(found.auth, kd.AppAuth)
    assert found.origins == {
        "endpoint": "KOODRIVE_ENDPOINT",
        "user_id": "KOODRIVE_USER_ID",
        "auth": "KOODRIVE_APP_ID",
    }
    with kd.connect() as client:
        client.devices()
    (asked,) = service.asked
    assert asked.headers["Authorization"].startswith("HMAC-SHA256 AppId=a378331e,")


@pytest.mark.parametrize("there", APP)
@pytest.mark.parametrize("other", [None, ""])
def test_half_of_an_app_names_the_other_half_as_missing(monkeypatch, there, other):
    (missing,) = APP.keys() - {there}
    for name in ("KOODRIVE_ENDPOINT", "KOODRIVE_USER_ID"):
        monkeypatch.setenv(name, LIVE[name])
    monkeypatch.setenv(there, APP[there])
    if other is not None:
        monkeypatch.setenv(missing, other)
    with pytest.raises(kd.ConfigurationError) as caught:
        kd.connect()
    assert str(caught.value).startswith(f"Not set: {missing}. ")
    assert APP[there] not in str(caught.value)


@pytest.mark.parametrize("there", APP)
def test_half_of_an_app_is_named_with_all_else_that_is_missing(monkeypatch, there):
    (missing,) = APP.keys() - {there}
    monkeypatch.setenv(there, APP[there])
    with pytest.raises(kd.ConfigurationError) as caught:
        kd.connect()
    assert str(caught.value).startswith(
        f"Not set: KOODRIVE_ENDPOINT, KOODRIVE_USER_ID, {missing}. "
    )


@pytest.mark.usefixtures("live")
def test_a_token_beside_a_whole_app_is_one_too_many(monkeypatch):
    for name, value in APP.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(kd.ConfigurationError, match="unset those") as caught:
        kd.connect()
    message = str(caught.value)
    assert all(name in message for name in ("KOODRIVE_TOKEN", *APP))
    assert not any(value in message for value in (LIVE["KOODRIVE_TOKEN"], *APP.values()))


@pytest.mark.usefixtures("live")
@pytest.mark.parametrize("there", APP)
def test_a_token_counts_where_the_app_is_only_half_there(monkeypatch, there):
    monkeypatch.setenv(there, APP[there])
    found = settings.resolve()
    assert isinstance(found.auth, kd.TokenAuth)
    assert found.origins["auth"] == "KOODRIVE_TOKEN"


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["KOODRIVE_TOKEN"],
        ["KOODRIVE_APP_ID"],
        ["KOODRIVE_APP_SECRET"],
        [*APP],
        ["KOODRIVE_TOKEN", *APP],
    ],
)
@pytest.mark.parametrize("auth", [kd.TokenAuth("t"), kd.AppAuth("id", "secret")])
def test_credentials_passed_win_over_any_in_the_environment(monkeypatch, names, auth):
    for name in ("KOODRIVE_ENDPOINT", "KOODRIVE_USER_ID", *names):
        monkeypatch.setenv(name, (LIVE | APP)[name])
    found = settings.resolve(auth=auth)
    assert found.auth is auth
    assert found.origins["auth"] == "argument"


def test_the_sandbox_in_the_place_of_an_endpoint_needs_no_account_and_keeps_its_time(monkeypatch):
    monkeypatch.setenv("KOODRIVE_ENDPOINT", "sandbox")
    with kd.connect() as client:
        frame = client.record("1842862763295184641")
    assert "source='sandbox'" in repr(client)
    assert set(frame["source"]) == {"sandbox"}
    assert set(frame["fetched_at"]) == {kd.sandbox.as_of()}
    with pytest.raises(kd.InvalidParameterError, match="brings its own endpoint and credentials"):
        kd.connect(auth=kd.TokenAuth("t0ken"))


def test_an_unfit_app_of_the_environment_is_refused_and_not_repeated(monkeypatch):
    for name, value in LIVE.items():
        monkeypatch.setenv(name, "" if name == "KOODRIVE_TOKEN" else value)
    monkeypatch.setenv("KOODRIVE_APP_ID", APP["KOODRIVE_APP_ID"])
    monkeypatch.setenv("KOODRIVE_APP_SECRET", "bd355f20\n2be40f95")
    with pytest.raises(kd.ConfigurationError, match="copy each again") as caught:
        kd.connect()
    assert "bd355f20" not in str(caught.value)


@pytest.mark.usefixtures("live")
@pytest.mark.parametrize("empty", LIVE)
def test_an_empty_variable_counts_as_missing(monkeypatch, empty):
    monkeypatch.setenv(empty, "")
    with pytest.raises(kd.ConfigurationError, match=f"Not set: {empty}"):
        kd.connect()


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("koodrive.example", "no scheme or no host"),
        ("ftp://koodrive.example", "no scheme or no host"),
        ("https://", "no scheme or no host"),
        ("https://exa mple", "no scheme or no host"),
        ("https://koodrive.example:port", "is no address"),
        ("https://koodrive.example/koodrive/ose/v1", "has a path"),
        ("https://koodrive.example?x=1", "has a path"),
        ("https://koodrive..example", "no scheme or no host"),
        (f"https://{'a' * 64}.example", "no scheme or no host"),
        ("http://koodrive.example", "use https://"),
        ("http://10.0.0.1", "use https://"),
        ("http://127.0.0.1.evil.example", "use https://"),
        (5, "must be text"),
    ],
)
def test_an_unfit_endpoint_is_refused_with_what_to_write(endpoint, says):
    with pytest.raises(kd.ConfigurationError, match=says):
        kd.connect(endpoint=endpoint, user_id="7", auth=kd.TokenAuth("t"))


def test_a_password_in_the_endpoint_is_refused_and_not_repeated():
    with pytest.raises(kd.ConfigurationError) as caught:
        kd.connect(endpoint="https://me:hunter2@host", user_id="7", auth=kd.TokenAuth("t"))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "kept"),
    [
        ("https://Koodrive.example:8443/", "https://koodrive.example:8443"),
        ("http://localhost:80", "http://localhost:80"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:9000", "http://[::1]:9000"),
    ],
)
def test_a_fit_endpoint_is_kept_as_scheme_and_host(endpoint, kept):
    assert settings.checked_endpoint(endpoint) == kept


def test_text_for_credentials_is_refused_and_not_repeated():
    with pytest.raises(kd.InvalidParameterError) as caught:
        kd.connect(endpoint="https://host", user_id="7", auth="s3cret-token")
    assert "TokenAuth" in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "it is empty"),
        (1842862763295184641, "must be text, not int"),
        (1.842862763295184641e18, "must be text, not float"),
        (None, "record id is missing"),
        ("1.84286E+18", "holds something else"),
        ("../device", "holds something else"),
        ("1/files", "holds something else"),
        ("1?x=1", "holds something else"),
        ("1\r\nX-Evil: 1", "holds something else"),
        ("1842862763295184641 ", "holds something else"),
        ("１２３", "holds something else"),
        ("%2e%2e", "holds something else"),
        ("9" * 200, "holds something else"),
    ],
)
def test_an_unfit_id_is_refused_before_anything_is_sent(service, value, says):
    with service.connect() as client:
        with pytest.raises(kd.InvalidParameterError, match=says):
            client.record(value)
        if value is not None:
            with pytest.raises(kd.InvalidParameterError, match=says):
                client.records(device_id=value)
    assert service.asked == []


def test_an_unfit_user_id_is_refused_before_anything_is_sent(service):
    with pytest.raises(kd.InvalidParameterError, match="user id"):
        service.connect(user_id="a b")


def test_the_zone_comes_from_the_argument_then_the_environment_then_utc(monkeypatch):
    assert settings.display_zone(None).key == "UTC"
    monkeypatch.setenv("KOODRIVE_TZ", "Asia/Shanghai")
    assert settings.display_zone(None).key == "Asia/Shanghai"
    assert settings.display_zone("Europe/Berlin").key == "Europe/Berlin"


@pytest.mark.parametrize("name", ["Mars/Olympus", "../etc/passwd", "", 8])
def test_an_unknown_zone_is_refused_with_an_example(name):
    with pytest.raises(kd.InvalidParameterError, match="Asia/Shanghai"):
        settings.display_zone(name)


def test_an_unknown_zone_of_the_environment_names_the_variable(monkeypatch):
    monkeypatch.setenv("KOODRIVE_TZ", "Nowhere")
    with pytest.raises(kd.InvalidParameterError, match="KOODRIVE_TZ 'Nowhere'"):
        settings.display_zone(None)
