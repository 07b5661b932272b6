import pytest

from koodrive_nb.text import one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Magic v3", "Magic v3"),
        ("a\nb\tc\x00d", "a b c d"),
        ("\x1b[31mred", "[31mred"),
        ("abc\u202ecba", "abc cba"),
        ("  wide   blanks  ", "wide blanks"),
        ("👩‍👧 phone", "👩‍👧 phone"),
        (13000102, "13000102"),
    ],
)
def test_only_printable_text_is_kept_on_one_line(text, shown):
    assert one_line(text, 40) == shown


def test_long_text_is_cut_where_it_was_asked_to_be():
    assert one_line("x" * 100, 10) == "x" * 9 + "…"


def test_piled_up_accents_and_letters_without_ink_are_dropped():
    assert one_line("e" + "\u0301" * 50, 40) == "e\u0301\u0301"
    assert one_line("\u2800\u3164 x \u2800", 40) == "x"
