"""Connecting by a form: what it says, what it keeps, and what it never shows."""

import datetime as dt
import logging
import re
import sys
import threading
import traceback
from types import SimpleNamespace

import ipywidgets as widgets
import nbclient
import nbformat
import pytest
from ipywidgets.embed import embed_snippet
from ipywidgets.widgets.widget import _instances

import koodrive_nb as kd
from koodrive_nb import client as client_module
from koodrive_nb.forms import ConnectForm

MINE = "1505084218764547200"


def secret():
    """Make the secret to look for, so that no source line or constant of this file shows it."""
    return f"m4rk-of-a-secret-{4711:08}"


@pytest.fixture
def _give_up_soon(monkeypatch):
    monkeypatch.setattr("koodrive_nb.transport._GIVE_UP_AFTER_S", 0.05)


def live(endpoint="", user_id="42", *, token="", app_id="", app_secret=""):
    """Give a form for the live service, filled in as by hand."""
    form = ConnectForm()
    form.service.value = "live"
    form.endpoint.value, form.user_id.value = endpoint, user_id
    if app_id or app_secret:
        form.credentials.value = "app"
    form.token.value, form.app_id.value, form.app_secret.value = token, app_id, app_secret
    return form


def shown(form):
    return [name for name, field in form._fields._fields.items() if field.layout.display != "none"]


def test_it_connects_to_the_sandbox_and_says_how_many_devices_it_sees():
    form = ConnectForm()
    assert (repr(form), form.client) == ("ConnectForm(not connected)", None)
    form.button.click()
    assert form.message.text == (
        f"Connected to the sandbox (synthetic data) as user {MINE}: 11 devices."
    )
    assert repr(form) == "ConnectForm(connected to sandbox, 11 devices)"
    assert len(form.client.devices()) == 11
    assert not form.button.disabled


def test_it_connects_to_the_live_service_and_says_where_each_setting_came_from(
    service, monkeypatch
):
    monkeypatch.setenv("KOODRIVE_ENDPOINT", f"{service.endpoint}/")
    monkeypatch.setenv("KOODRIVE_TOKEN", "token-of-the-environment")
    service.says({"code": 0, "data": [{"deviceId": "9"}]})
    form = ConnectForm()
    assert (form.service.value, form.endpoint.value) == ("live", service.endpoint)
    form.user_id.value = " 42 "
    form.button.click()
    assert form.message.text == (
        f"Connected to {service.endpoint} (from KOODRIVE_ENDPOINT) as user 42 (entered here) with "
        "access token (from KOODRIVE_TOKEN): 1 device."
    )
    assert repr(form) == f"ConnectForm(connected to {service.endpoint}, 1 device)"
    (asked,) = service.asked
    assert asked.headers["Authorization"] == "Bearer token-of-the-environment"
    assert asked.headers["X-User-Id"] == "42"


def test_app_id_and_secret_sign(service, monkeypatch):
    monkeypatch.setenv("KOODRIVE_TOKEN", "token-of-the-environment")
    form = live(service.endpoint, app_id="a3", app_secret=secret())
    form.button.click()
    assert "with App id and secret (entered here): 0 devices." in form.message.text
    assert service.asked[0].headers["Authorization"].startswith("HMAC-SHA256 AppId=a3,")


@pytest.mark.parametrize("choice", ["token", "app"])
def test_where_both_credentials_are_set_the_choice_counts(service, monkeypatch, choice):
    for name, value in (("TOKEN", "t0ken"), ("APP_ID", "a3"), ("APP_SECRET", "s3cret")):
        monkeypatch.setenv(f"KOODRIVE_{name}", value)
    form = live(service.endpoint)
    form.credentials.value = choice
    form.button.click()
    sent = service.asked[0].headers["Authorization"]
    assert sent.startswith({"token": "Bearer t0ken", "app": "HMAC-SHA256 AppId=a3,"}[choice])


def test_what_is_typed_goes_before_the_environment(service, monkeypatch):
    monkeypatch.setenv("KOODRIVE_ENDPOINT", "https://koodrive.example")
    monkeypatch.setenv("KOODRIVE_USER_ID", "7")
    monkeypatch.setenv("KOODRIVE_TOKEN", "token-of-the-environment")
    form = ConnectForm()
    assert form.user_id.value == "7"
    form.endpoint.value, form.user_id.value, form.token.value = service.endpoint, "42", secret()
    form.button.click()
    assert form.message.text.count("(entered here)") == 3
    assert service.asked[0].headers["Authorization"] == f"Bearer {secret()}"


def test_an_empty_user_id_stands_for_the_one_of_the_environment(service, monkeypatch):
    monkeypatch.setenv("KOODRIVE_USER_ID", "7")
    form = live(service.endpoint, "", token=secret())
    form.button.click()
    assert "as user 7 (from KOODRIVE_USER_ID)" in form.message.text


@pytest.mark.parametrize("key", ["0f" * 32, ""])
def test_where_names_are_forbidden_the_user_of_the_environment_is_not_shown(monkeypatch, key):
    monkeypatch.setenv("KOODRIVE_ENDPOINT", "https://koodrive.example")
    monkeypatch.setenv("KOODRIVE_USER_ID", "1505084218764547200")
    monkeypatch.setenv("KOODRIVE_PRIVACY", "pseudonyms")
    monkeypatch.setenv("KOODRIVE_PRIVACY_KEY", key)
    form = ConnectForm()
    assert (form.service.value, form.user_id.value) == ("live", "")


def test_secrets_of_the_environment_are_a_hint_and_choose_the_kind(monkeypatch):
    monkeypatch.setenv("KOODRIVE_APP_ID", "a3")
    monkeypatch.setenv("KOODRIVE_APP_SECRET", secret())
    form = ConnectForm()
    assert form.credentials.value == "app"
    assert form.app_secret.placeholder == "from KOODRIVE_APP_SECRET"
    assert secret() not in repr(widgets.Widget.get_manager_state())


def test_the_sandbox_in_the_place_of_an_endpoint_is_what_the_form_begins_with(monkeypatch):
    monkeypatch.setenv("KOODRIVE_ENDPOINT", "sandbox")
    form = ConnectForm()
    assert (form.service.value, form.endpoint.value) == ("sandbox", "")


def test_an_endpoint_of_the_environment_that_holds_a_password_is_not_shown(monkeypatch):
    monkeypatch.setenv("KOODRIVE_ENDPOINT", f"https://me:{secret()}@koodrive.example")
    form = ConnectForm()
    assert form.endpoint.value == ""
    form.token.value, form.user_id.value = "t0ken", "42"
    form.button.click()
    assert "holds a user name or password" in form.problems["endpoint"]
    assert secret() not in repr(widgets.Widget.get_manager_state())


def test_an_endpoint_typed_with_a_password_is_emptied_at_once(front_end):
    form = live()
    front_end(form.endpoint).sets(value=f"https://me:{secret()}@koodrive.example")
    assert "write it as https://<host>" in form.problems["endpoint"]
    assert secret() not in repr(widgets.Widget.get_manager_state())


def test_only_the_fields_that_count_are_shown():
    form = ConnectForm()
    assert shown(form) == ["user_id"]
    form.service.value = "live"
    assert shown(form) == ["endpoint", "user_id", "token"]
    form.credentials.value = "app"
    assert shown(form) == ["endpoint", "user_id", "app_id", "app_secret"]


def test_choosing_a_service_leaves_alone_what_is_typed_before_the_kernel_answers():
    """Any change of a field that the kernel sends puts back the text that the kernel knows."""
    form, sent = ConnectForm(), []
    for field in (form.endpoint, form.user_id, form.token, form.app_id, form.app_secret):
        field.observe(sent.append)
    form.service.value = "live"
    form.credentials.value = "app"
    form.service.value = "sandbox"
    assert sent == []


def test_the_user_of_the_environment_is_not_offered_to_the_sandbox(monkeypatch):
    monkeypatch.setenv("KOODRIVE_USER_ID", "7")
    form = ConnectForm()
    assert form.user_id.value == ""
    form.service.value = "live"
    assert form.user_id.value == "7"
    form.user_id.value = "42"
    form.service.value = "sandbox"
    assert form.user_id.value == "42"


@pytest.mark.parametrize(
    ("typed", "field", "words"),
    [
        ({"endpoint": ""}, "endpoint", "Enter the address"),
        ({"endpoint": "koodrive.example"}, "endpoint", "no scheme or no host"),
        ({"endpoint": "http://koodrive.example"}, "endpoint", "use https://"),
        ({"user_id": ""}, "user_id", "Enter the user id"),
        ({"user_id": "4 2"}, "user_id", "copy the id as the service shows it"),
        ({"token": ""}, "token", "Enter the access token"),
        ({"token": "a b c"}, "token", "copy it again as one piece"),
        ({"app_secret": "s"}, "app_id", "Enter the AppId"),
        ({"app_secret": "s", "app_id": "a b"}, "app_id", "copy each again"),
        ({"app_id": "a3"}, "app_secret", "Enter the AppSecret"),
        ({"app_id": "a3", "app_secret": "a b"}, "app_secret", "copy each again"),
    ],
)
def test_what_is_unfit_is_said_below_its_field_and_nothing_is_sent(service, typed, field, words):
    filled = {"endpoint": service.endpoint, "user_id": "42"}
    form = live(
        **(filled | ({} if "app_id" in typed or "app_secret" in typed else {"token": "t"}) | typed)
    )
    form.button.click()
    assert list(form.problems) == [field]
    assert words in form.problems[field]
    assert form.message.text == f"Not connected, see {getattr(form, field).description} above."
    assert (form.client, service.asked, form.button.disabled) == (None, [], False)


def test_all_that_is_unfit_is_said_at_once():
    form = live(user_id="")
    form.button.click()
    assert list(form.problems) == ["endpoint", "user_id", "token"]
    form.service.value = "sandbox"
    assert form.problems == {}


REFUSALS = [
    ({"code": 401, "msg": "no"}, 401, {"token": "t"}, "token"),
    ({"code": 401, "msg": "no"}, 401, {"app_id": "a3", "app_secret": "s"}, "app_secret"),
    ({"code": 401, "msg": "X-User-Id is not a user"}, 401, {"token": "t"}, "user_id"),
    ({"code": 13000309, "msg": "no such thing"}, 400, {"token": "t"}, "user_id"),
    ({"code": 5, "msg": "broken"}, 503, {"token": "t"}, None),
    ({"error_code": "APIGW.0308", "error_msg": "slowly"}, 429, {"token": "t"}, None),
    ({"code": 13000102, "msg": "odd"}, 400, {"token": "t"}, None),
    (b"<p>log in</p>", 200, {"token": "t"}, None),
]


@pytest.mark.usefixtures("_give_up_soon")
@pytest.mark.parametrize(("body", "status", "typed", "field"), REFUSALS)
def test_a_refusal_is_said_where_it_can_be_mended(service, body, status, typed, field):
    service.says(body, status)
    form = live(service.endpoint, **typed)
    form.button.click()
    assert list(form.problems) == ([field] if field else [])
    assert form.message.text.startswith("Not connected")
    said = form.problems.get(field, form.message.text)
    assert ("not the API's JSON" if isinstance(body, bytes) else f"HTTP {status}") in said
    assert (form.client, form.button.disabled) == (None, False)


def test_no_answer_is_said_below_the_endpoint():
    form = live("http://127.0.0.1:9", token="t")
    form.button.click()
    assert "gave no answer" in form.problems["endpoint"]
    assert form.client is None


def test_a_user_whom_the_sandbox_does_not_have_is_said_below_the_user_id():
    form = ConnectForm()
    form.user_id.value = "42"
    form.button.click()
    assert form.problems == {
        "user_id": "The sandbox has no such user: empty the field to see its own."
    }


def test_a_missing_extra_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "koodrive_nb.sandbox", None)
    monkeypatch.delattr(kd, "sandbox", raising=False)
    form = ConnectForm()
    form.button.click()
    assert form.message.text.startswith("Not connected. The sandbox needs koodrive_nb.sandbox: pip")


def test_a_failure_keeps_the_client_and_says_so(service):
    form = ConnectForm()
    form.button.click()
    kept = form.client
    form.service.value = "live"
    form.endpoint.value, form.user_id.value, form.token.value = service.endpoint, "42", "t"
    service.says({"code": 401, "msg": "no"}, 401)
    form.button.click()
    assert form.client is kept
    assert form.message.text == (
        "Not connected, see Access token above. Kept: still connected to the sandbox as user "
        f"{MINE}."
    )
    assert repr(form) == "ConnectForm(connected to sandbox, 11 devices)"


def test_another_success_leaves_the_former_client_usable(service):
    form = ConnectForm()
    form.button.click()
    former = form.client
    form.button.click()
    assert form.client is not former
    assert len(former.devices()) == 11


def test_an_unforeseen_error_is_said_without_its_words(monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError(secret())

    monkeypatch.setattr(client_module.Client, "devices", fail)
    form = ConnectForm()
    form.button.click()
    assert re.fullmatch(
        r"This error is not foreseen, please report it: RuntimeError at test_connect\.py, "
        r"line \d+\. What was there before is kept\.",
        form.message.text,
    )
    assert not form.button.disabled


def test_an_interruption_goes_on_and_is_said(monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(client_module.Client, "devices", interrupt)
    form = ConnectForm()
    with pytest.raises(KeyboardInterrupt):
        form.button.click()
    assert form.message.text == "Interrupted; what was there before is kept."
    assert not form.button.disabled


def test_while_it_works_the_button_is_disabled_and_the_line_says_so(service):
    seen = []
    form = live(service.endpoint, token="t")

    def answer(asked):
        seen.append((form.button.disabled, form.message.text))
        return service.Answer({"code": 0, "data": []})

    service.answer = answer
    form.button.click()
    assert seen == [(True, "Connecting…")]


@pytest.fixture
def by_hand(monkeypatch):
    """Let what follows be sent by a hand, so many seconds after the first."""
    header = {"msg_type": "comm_msg"}
    kernel = SimpleNamespace(get_parent=lambda channel: {"header": header})
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel=kernel))

    def sent(seconds):
        header["date"] = dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)

    return sent


CLICK = {"method": "custom", "content": {"event": "click"}}


@pytest.mark.parametrize("apart_s", [0.2, 1.5])
def test_a_double_click_connects_once(service, front_end, monkeypatch, by_hand, apart_s):
    monkeypatch.setenv("KOODRIVE_TOKEN", "t")
    form = live(service.endpoint)
    button = front_end(form.button)
    for n in range(2):
        by_hand(n * apart_s)
        button.sends(CLICK)
    assert len(service.asked) == (1 if apart_s < 1 else 2)
    assert form.message.text.startswith("Connected")


def test_a_click_that_overtook_what_was_typed_is_done_again(service, front_end, by_hand):
    form = live(service.endpoint, user_id="1")
    button, token, user = (front_end(each) for each in (form.button, form.token, form.user_id))
    by_hand(0.02)
    button.sends(CLICK)
    assert list(form.problems) == ["token"]
    by_hand(0)
    token.sets(value="typed")
    assert [each.headers["Authorization"] for each in service.asked] == ["Bearer typed"]
    assert form.message.text.startswith("Connected")
    assert not form.token.is_filled
    # What comes in after it was sent after it, too.
    by_hand(5)
    user.sets(value="2")
    token.sets(value="typed")
    assert len(service.asked) == 1


def test_a_secret_that_comes_in_during_a_click_is_not_forgotten_with_it(service, front_end):
    form = live(service.endpoint, token="first", user_id="1")
    token = front_end(form.token)
    late = threading.Thread(target=lambda: token.sets(value="second"))

    def answer(asked):
        late.start()
        late.join(0.3)
        return service.Answer({"code": 0, "data": []})

    service.answer = answer
    form.button.click()
    late.join()
    assert form.token.is_filled


def test_every_field_is_described_for_screen_readers_and_comes_before_the_button():
    form = ConnectForm()
    inputs = [
        form.service,
        form.endpoint,
        form.user_id,
        form.credentials,
        form.token,
        form.app_id,
        form.app_secret,
        form.button,
    ]
    assert all(each.tooltip and each.description for each in inputs)

    def walk(widget):
        yield widget
        for child in getattr(widget, "children", ()):
            yield from walk(child)

    assert [each for each in walk(form) if each in inputs] == inputs


def test_closing_forgets_what_was_typed_and_frees_every_widget():
    before = set(_instances)
    form = live(token=secret(), app_id="a3", app_secret=secret())
    form.button.click()
    form.token.value = form.app_secret.value = secret()
    form.close()
    assert not form.token.is_filled
    assert not form.app_secret.is_filled
    assert set(_instances) == before


OUTCOMES = {
    "success": ({"code": 0, "data": []}, 200),
    "refused": ({"code": 401, "msg": "no"}, 401),
    "failing": ({"code": 5, "msg": "no"}, 503),
    "unfit": ({"code": 0, "data": []}, 200),
}


def echoed(form):
    return "\n".join([form.message.value, repr(form.problems)])


LOOKS = {
    "state": lambda form: repr(widgets.Widget.get_manager_state()),
    "page": lambda form: embed_snippet(views=[form]),
    "words": echoed,
    "reprs": lambda form: "".join(f"{each!r}{each}" for each in (form, form.client, form.token)),
    "attributes": lambda form: "".join(
        repr(vars(each)) for each in (form, form._fields, form.token, form.app_secret)
    ),
}


@pytest.mark.usefixtures("_give_up_soon")
@pytest.mark.parametrize("kind", ["token", "app"])
@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("look", LOOKS)
def test_no_secret_shows_before_or_after_connect(service, caplog, kind, outcome, look):
    caplog.set_level(logging.DEBUG)
    body, status = OUTCOMES[outcome]

    def answer(asked):
        said = {"msg": asked.headers["Authorization"]} if status != 200 else {}
        return service.Answer(body | said, status)

    service.answer = answer
    typed = {"token": secret()} if kind == "token" else {"app_id": "a3", "app_secret": secret()}
    form = live(service.endpoint, "" if outcome == "unfit" else "42", **typed)
    assert secret() not in LOOKS[look](form)
    form.button.click()
    assert (form.client is not None) == (outcome == "success")
    assert secret() not in LOOKS[look](form)
    assert not form.token.is_filled
    assert not form.app_secret.is_filled
    assert secret() not in "".join(f"{each.getMessage()} {vars(each)}" for each in caplog.records)


@pytest.mark.parametrize("choice", ["sandbox", "token", "app"])
def test_connect_forgets_the_secrets_that_do_not_count_too(service, choice):
    form = live(service.endpoint, token=secret(), app_id="a3", app_secret=secret())
    if choice == "sandbox":
        form.service.value, form.user_id.value = "sandbox", ""
    else:
        form.credentials.value = choice
    form.button.click()
    assert form.message.text.startswith("Connected")
    assert not form.token.is_filled
    assert not form.app_secret.is_filled


def test_no_variable_of_a_frame_holds_a_secret_while_it_connects(service, monkeypatch):
    seen = []

    def look(client):
        summary = traceback.StackSummary.extract(traceback.walk_stack(None), capture_locals=True)
        seen.append("".join(summary.format()))
        raise kd.ConfigurationError("stop")

    monkeypatch.setattr(client_module.Client, "devices", look)
    form = live(service.endpoint, token=secret())
    form.button.click()
    assert "_connect" in seen[0]
    assert secret() not in seen[0]


MADE = """
import koodrive_nb as kd
def make(): return 'm4rk-of-a-' + 'secret'
form = kd.forms.ConnectForm()
form
"""
# As a front end sends it, and as code sets it.
FILLED = """
form.service.value = 'live'
form.endpoint.value, form.user_id.value = ENDPOINT, '42'
data = {'method': 'update', 'state': {'value': make()}, 'buffer_paths': []}
form.token._handle_msg({'content': {'data': data}, 'buffers': []})
form.app_secret.value = make()
"""
CONNECTED = """
form.button.click()
form.message.text
"""
FILLED_AGAIN = "form.token.value = make()"


def test_a_saved_notebook_with_the_state_of_its_widgets_holds_no_secret(service):
    sources = [f"ENDPOINT = {service.endpoint!r}", MADE, FILLED, CONNECTED, FILLED_AGAIN]
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, sources)))
    nbclient.NotebookClient(notebook, store_widget_state=True).execute()
    text = nbformat.writes(notebook)
    assert "Connected to http://127.0.0.1" in notebook.cells[3].outputs[0]["data"]["text/plain"]
    assert "received, hidden" in text
    assert "PasswordModel" in text
    assert "m4rk-of-a-secret" not in text
