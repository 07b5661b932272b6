"""Ids as people paste them: from columns, lists, mails and code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from koodrive_nb import settings
from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Iterable

# Blanks of all kinds, also those without width; then what separates, quotes and brackets.
_BETWEEN = re.compile(
    r"[\s\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
    r",;|、，；。"
    r"'\"`´‘’‚‛“”„‟«»‹›＇＂「」『』"
    r"()\[\]{}<>（）［］｛｝【】《》]+"
)
_ROUNDED = re.compile(r"\d(?:[.]\d+)?[eE]\+\d+")


def ids(given: str | Iterable[object]) -> tuple[list[str], dict[str, str]]:
    """Find the ids in pasted text, or check those of a list: each once, in their order.

    Gives the ids, and what is none with the reason.

    Raises:
        InvalidParameterError: It is neither text nor a list of texts.
    """
    if not isinstance(given, str) and (
        isinstance(given, dict) or hasattr(given, "columns") or not hasattr(given, "__iter__")
    ):
        raise InvalidParameterError(
            "Pass the ids as text, a list, or a column such as records['record_id']."
        )
    parts = filter(None, _BETWEEN.split(given)) if isinstance(given, str) else given
    found: dict[str, None] = {}
    refused: dict[str, str] = {}
    for part in parts:
        try:
            found[settings.checked_id(part, "record id")] = None
        except InvalidParameterError as error:
            is_rounded = isinstance(part, str) and _ROUNDED.fullmatch(part)
            refused[str(part)] = (
                "A spreadsheet has rounded this id: format its column as text, then copy it again."
                if is_rounded
                else str(error)
            )
    return list(found), refused
