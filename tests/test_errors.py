import pickle

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
}


def test_everything_raised_on_purpose_is_a_koodrive_error():
    named = [getattr(kd, name) for name in kd.__all__ if name.endswith("Error")]
    assert named
    assert all(issubclass(kind, kd.KooDriveError) for kind in named)


def test_the_drawing_names_every_error():
    kinds = [name for name, kind in vars(errors).items() if isinstance(kind, type)]
    assert all(name in errors.__doc__ for name in kinds)


def test_bad_arguments_are_value_errors_too():
    assert issubclass(kd.InvalidParameterError, ValueError)


@pytest.mark.parametrize(
    "kind", [kd.ServiceError, kd.AuthenticationError, kd.NotFoundError, kd.ThrottledError]
)
def test_a_refusal_says_all_it_knows_and_survives_pickling(kind):
    error = pickle.loads(pickle.dumps(kind(**FACTS)))
    assert type(error) is kind
    assert vars(error) == FACTS
    for fact in FACTS.values():
        assert str(fact) in str(error)


def test_a_refusal_without_code_or_message_still_reads_well():
    error = kd.ServerError(**FACTS | {"status": 502, "code": None, "message": ""})
    assert "(HTTP 502). Check the id." in str(error)
