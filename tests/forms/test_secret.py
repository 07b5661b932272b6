"""What is typed into a field for secrets is kept by nothing that shows."""

import pickle

import ipywidgets as widgets
import pytest
from ipywidgets.embed import embed_snippet

from koodrive_nb.forms.secret import Secret


def secret():
    """Make the secret to look for, so that no source line or constant of this file shows it."""
    return f"m4rk-of-a-secret-{4711:08}"


def by_hand(front_end, field):
    front_end(field).sets(value=secret())


def by_code(front_end, field):
    field.value = secret()


def while_notices_are_held(front_end, field):
    with field.hold_trait_notifications():
        field.value = secret()
        assert secret() not in repr(field.get_state())


CHANNELS = {
    "state": lambda field: repr(field.get_state()),
    "state of all": lambda field: repr(widgets.Widget.get_manager_state()),
    "page": lambda field: embed_snippet(views=[field]),
    "repr": lambda field: f"{field!r} {field} {field._repr_mimebundle_()}",
    "attributes": lambda field: repr(vars(field)) + repr(list(map(repr, vars(field).values()))),
    "traits": lambda field: repr(field.trait_values()),
}


@pytest.mark.parametrize("enter", [by_hand, by_code, while_notices_are_held])
@pytest.mark.parametrize("channel", CHANNELS)
def test_what_was_received_shows_nowhere_and_is_taken_once(front_end, enter, channel):
    field = Secret("Access token", "as the login gave it")
    enter(front_end, field)
    assert secret() not in CHANNELS[channel](field)
    assert field.value == ""
    assert field.placeholder == "received, hidden"
    assert field.take() == secret()
    assert (field.take(), field.is_filled) == ("", False)
    assert field.placeholder == "as the login gave it"


def test_the_front_end_is_told_to_empty_the_field_and_never_the_secret(front_end):
    field = Secret("Access token", "hint")
    browser = front_end(field)
    browser.sets(value=secret(), tooltip="x")
    assert {"method": "update", "state": {"value": ""}, "buffer_paths": []} in browser.told
    assert {
        "method": "update",
        "state": {"placeholder": "received, hidden"},
        "buffer_paths": [],
    } in browser.told
    browser.sends({"method": "request_state"})
    assert secret() not in repr(browser.told)
    assert field.tooltip == "x"
    # The kernel keeps the message that it handled last.
    assert secret() not in repr(browser.message)


def test_an_ordinary_field_would_send_the_secret_back(front_end):
    browser = front_end(widgets.Password())
    browser.sets(value=secret())
    assert secret() in repr(browser.told)


def test_the_hidden_value_tells_no_observer(front_end):
    field = Secret("Access token", "hint")
    changes = []
    field.observe(changes.append)
    by_hand(front_end, field)
    assert secret() not in repr(changes)


@pytest.mark.parametrize("value", ["", None, 4711, b"m4rk", ["m4rk"]])
def test_what_is_no_text_is_forgotten_without_an_error_that_shows_it(value):
    field = Secret("Access token", "hint")
    field.value = secret()
    field.value = value
    assert (field.take(), field.value, field.placeholder) == ("", "", "hint")


def test_it_is_not_pickled():
    field = Secret("Access token", "hint")
    field.value = secret()
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(field)
