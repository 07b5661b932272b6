"""Text from the service, made fit to be shown: it may hold anything."""

from __future__ import annotations

_JOINERS = "\u200c\u200d"
"""Invisible, yet needed inside emoji and several scripts."""


def one_line(text: object, limit: int) -> str:
    """Keep the printable characters of a text, on one line of at most `limit` characters.

    Control characters, line breaks and the marks that reverse the direction of writing are dropped.
    """
    kept = "".join(
        letter if letter.isprintable() or letter in _JOINERS else " " for letter in str(text)
    )
    line = " ".join(kept.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
