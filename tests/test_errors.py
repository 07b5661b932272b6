import pickle
import re

import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb import errors

FACTS = {
    "status": 400,
    "code": "13000309",
    "message": "Resource does not exist.",
    "advice": "Check the id.",
    "trace_id": "abc",
    "path": "/koodrive/ose/v1/backup/record/1",
    "retry_after_s": 7.5,
}
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type)]
KINDS = [kind for kind in KINDS if issubclass(kind, Exception)]


def test_everything_raised_on_purpose_is_a_koodrive_error():
    named = [getattr(kd, name) for name in kd.__all__ if name.endswith("Error")]
    assert named
    assert all(issubclass(kind, kd.KooDriveError) for kind in named)


def test_every_error_that_is_raised_is_offered():
    assert {kind.__name__ for kind in KINDS} <= set(kd.__all__)
    assert len(KINDS) > 10


def test_the_drawing_shows_every_error_below_its_base():
    drawn = re.findall(r"^([│├└─ ]*)(\w+Error)\b", errors.__doc__, re.MULTILINE)
    assert sorted(name for _, name in drawn) == sorted(kind.__name__ for kind in KINDS)
    above = {}
    for indent, name in drawn:
        depth = len(indent) // 4
        above[depth] = getattr(errors, name)
        assert depth == 0 or above[depth].__bases__[0] is above[depth - 1]


def test_bad_arguments_are_value_errors_too():
    assert issubclass(kd.InvalidParameterError, ValueError)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if issubclass(kind, kd.ServiceError)])
def test_a_refusal_says_all_it_knows_and_survives_pickling(kind):
    error = pickle.loads(pickle.dumps(kind(**FACTS)))
    assert type(error) is kind
    assert vars(error) == FACTS
    for name in FACTS.keys() - {"retry_after_s"}:
        assert str(FACTS[name]).rstrip(".") in str(error)
    assert error.advice in str(error)


def test_a_refusal_without_code_or_message_still_reads_well():
    error = kd.ServerError(**FACTS | {"status": 502, "code": None, "message": ""})
    assert "(HTTP 502). Check the id." in str(error)


@pytest.mark.parametrize("message", ["Resource does not exist.", "Resource does not exist"])
def test_what_the_service_says_ends_in_one_full_stop(message):
    error = kd.NotFoundError(**FACTS | {"message": message})
    assert "code 13000309): Resource does not exist. Check the id. (trace" in str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_tells_whether_to_try_again(kind):
    again = {kd.ConnectionFailedError, kd.ThrottledError, kd.ServerError}
    assert kind.retryable is (kind in again)
    assert kind.retry_after_s is None


@pytest.mark.parametrize("kind", [kd.ConnectionFailedError, kd.ConfigurationError])
def test_what_one_error_knows_of_trying_again_survives_pickling(kind):
    error = kind("no answer")
    error.retryable = not kind.retryable
    found = pickle.loads(pickle.dumps(error))
    assert (str(found), found.retryable, found.retry_after_s) == (
        "no answer",
        error.retryable,
        None,
    )


def test_a_refusal_that_names_no_time_to_wait_has_none():
    facts = {name: fact for name, fact in FACTS.items() if name != "retry_after_s"}
    assert kd.ThrottledError(**facts).retry_after_s is None
    assert kd.ThrottledError(**FACTS).retry_after_s == 7.5


def test_an_incomplete_fetch_keeps_what_came_and_goes_on_with_the_client_given():
    asked = []

    class Rest:
        def finish(self, client):
            asked.append(client)
            return "whole"

    failures = pd.DataFrame(
        {"what": ["page 7", "page 8"], "retryable": [False, True], "retry_after_s": [None, 7]}
    )
    error = kd.IncompleteError("Incomplete: page 7", "frame", failures, Rest())
    assert str(error) == "Incomplete: page 7"
    assert error.frame == "frame"
    assert error.failures is failures
    assert error.retryable
    assert error.retry_after_s == 7
    assert (error.resume(), error.resume("client")) == ("whole", "whole")
    assert asked == [None, "client"]


def test_advice_on_what_is_incomplete_ends_its_message_also_of_a_pickle():
    failures = pd.DataFrame({"retryable": [True], "retry_after_s": [None]})
    error = kd.IncompleteError("Incomplete: page 7.", "frame", failures, None, "Go on.")
    back = pickle.loads(pickle.dumps(error))
    assert str(back) == str(error) == "Incomplete: page 7. Go on."
    assert (back.message, back.advice) == ("Incomplete: page 7.", "Go on.")
