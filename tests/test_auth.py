import copy
import pickle
import traceback

import pytest

import koodrive_nb as kd

SECRET = "5e1c0ffee5e1c0ffee5e1c0ffee"


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


def test_a_callable_gives_a_fresh_token_for_each_request(service):
    tokens = iter(["first", "second"])
    with service.connect(auth=kd.TokenAuth(lambda: next(tokens))) as client:
        client.devices()
        client.devices()
    assert [asked.headers["Authorization"] for asked in service.asked] == [
        "Bearer first",
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


def test_no_repr_or_attribute_listing_shows_the_token():
    auth = kd.TokenAuth(SECRET)
    assert SECRET not in f"{auth!r} {auth!s} {vars(auth)!r}"


def test_credentials_are_neither_pickled_nor_copied():
    for attempt in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="not pickled"):
            attempt(kd.TokenAuth(SECRET))
