"""What must not be in a report, and whether it is."""

from __future__ import annotations

import html
import json
import os
import re
from typing import TYPE_CHECKING

from koodrive_nb import notebook_checks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SECRETS = ("KOODRIVE_TOKEN", "KOODRIVE_APP_SECRET", "KOODRIVE_PRIVACY_KEY")
_LEAST = 4
_ESCAPE = re.compile(r"\\(?:[\"\\/bfnrt]|u[0-9a-fA-F]{4})")


def secrets(text: str, key: str | None = None) -> list[str]:
    """Name the secrets of the environment, and the key, that a text holds."""
    known = {name: os.environ.get(name) for name in _SECRETS}
    held = [f"the value of {name}" for name, value in known.items() if value and value in text]
    return [*held, "the key for pseudonyms"] if key and key in text and not held else held


def leaks(text: str, key: str | None) -> list[str]:
    """Name what a text holds that nobody else may see."""
    return [f"holds {what}" for what in secrets(text, key)] + notebook_checks.leaks(text)


def frames_named(text: str, names: Mapping[str, Sequence[str]]) -> list[str]:
    """Give the frames of which a user, device, machine or device name is in a text.

    `names` has the values of each frame. Names of fewer than 4 characters are words like others.
    The text is read as HTML and JSON would show it.
    """
    text = _ESCAPE.sub(lambda found: json.loads(f'"{found[0]}"'), html.unescape(text))
    text = " ".join(text.split())
    words = set(re.findall(r"[\w-]+", text))
    return [frame for frame, each in names.items() if any(_is_in(one, words, text) for one in each)]


def _is_in(value: str, words: set[str], text: str) -> bool:
    if len(value) < _LEAST:
        return False
    value = " ".join(value.split())
    parts = re.findall(r"[\w-]+", value)
    # Most names are not there, which a look at their words tells fast.
    if not parts or not words.issuperset(parts):
        return False
    return re.search(rf"(?<![\w-]){re.escape(value)}(?![\w-])", text) is not None
