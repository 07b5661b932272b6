"""Choosing among thousands by a part of the name."""

import time

import pytest

from koodrive_nb.forms.finder import Finder

MANY = {f"9{number:05}": f"Laptop {number} of desk {number % 7}" for number in range(30_000)}


@pytest.fixture
def told():
    return []


@pytest.fixture
def finder(told):
    return Finder("device", MANY, told.append)


def ids(finder):
    return [identity for _, identity in finder.found.options]


def test_the_first_of_thousands_are_listed_and_all_are_counted(finder):
    assert len(ids(finder)) == 50
    assert "30,000 of 30,000 devices fit, the first 50 are listed" in finder._count.value


@pytest.mark.parametrize("typed", ["laptop 2999 of", "  LAPTOP 2999 OF ", "902999"])
def test_a_thing_is_found_by_its_label_or_its_id(finder, typed):
    finder.search.value = typed
    assert ids(finder) == ["902999"]
    assert "1 of 30,000 devices fit<" in finder._count.value


def test_typing_among_thirty_thousand_answers_at_once(finder):
    started = time.perf_counter()
    for letters in ("l", "la", "lap", "laptop 29"):
        finder.search.value = letters
    assert time.perf_counter() - started < 0.4


def test_a_choice_is_told_and_stays_listed_whatever_is_typed(finder, told):
    finder.search.value = "laptop 2999 of"
    finder.found.value = ("902999",)
    finder.search.value = "laptop 17 of"
    assert told == [("902999",)]
    assert ids(finder) == ["902999", "900017"]
    finder.found.value = ("902999", "900017")
    assert told[1:] == [("902999", "900017")]
    assert finder.value == ("902999", "900017")


def test_setting_the_choice_from_code_shows_it_and_tells_nobody(finder, told):
    finder.value = ["929999"]
    assert (finder.value, finder.found.value, told) == (("929999",), ("929999",), [])
    finder.value = ()
    assert (finder.value, finder.found.value, told) == ((), (), [])


def test_a_choice_that_is_not_known_is_listed_by_its_id(finder, told):
    finder.value = ["900001", "x"]
    assert finder.value == ("900001", "x")
    assert ids(finder)[:2] == ["900001", "x"]
    assert told == []


def test_other_things_can_be_offered(finder, told):
    finder.value = ["900001"]
    finder.offer({"1": "one"})
    assert (ids(finder), finder.value, told) == (["1"], (), [])


def test_hostile_labels_are_on_one_line_and_short():
    finder = Finder("device", {"1": f"a\n\u202eb{'x' * 100}"}, print)
    ((label, _),) = finder.found.options
    assert label.startswith("a bx")
    assert len(label) == 60
