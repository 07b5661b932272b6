"""Text for people; what came from the service is made fit to be shown, since it may be anything."""

from __future__ import annotations

import re
import unicodedata

_JOINERS = "\u200c\u200d"
"""Invisible, yet needed inside emoji and several scripts."""
_BLANKS = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters without ink, which make a name look like no name."""
_MARKS_PER_LETTER = 2
_READ_PER_LETTER = 20
_LONGEST_VALUE = 40
_PLAIN = re.compile(r"[\w.+-]+(?: [\w.+-]+)*(?: \(small\))?|\(missing\)")


def counted(n: int, thing: str) -> str:
    """Write a number of things: 1 lane, 1,200 lanes."""
    return f"{n:,} {thing}" + ("" if n == 1 else "s")


def sample(population: int | None, drawn: int | None) -> str:
    """Name a sample of users by its size, or nothing where the population is None."""
    if population is None:
        return ""
    return f"sample {'from' if drawn is None else f'of {drawn:,} of'} {counted(population, 'user')}"


def one_line(text: object, limit: int) -> str:
    """Keep the printable characters of a text, on one line of at most `limit` characters.

    Control characters, line breaks and the marks that reverse the direction of writing are dropped,
    as are accents piled upon one letter, which would cover the lines above it.
    """
    kept = []
    marks = 0
    whole = str(text)
    # What is dropped has no length, so more is read than is kept; yet a name may go on for ever.
    read = whole[: _READ_PER_LETTER * limit]
    for letter in read:
        marks = marks + 1 if unicodedata.combining(letter) else 0
        if marks > _MARKS_PER_LETTER:
            continue
        is_shown = letter.isprintable() or letter in _JOINERS
        kept.append(letter if is_shown and letter not in _BLANKS else " ")
    line = " ".join("".join(kept).split())
    is_whole = len(line) <= limit and len(read) == len(whole)
    return line if is_whole else f"{line[: limit - 1]}…"


def named(value: object) -> str:
    """Write a value of the service into a sentence: short, on one line, and quoted if not plain."""
    plain = one_line(value, _LONGEST_VALUE)
    return plain if _PLAIN.fullmatch(plain) else f"“{plain}”"
