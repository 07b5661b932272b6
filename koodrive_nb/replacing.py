"""Files that are there whole or not at all."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def replace(writers: Mapping[Path, Callable[[BinaryIO], object]]) -> None:
    """Write files beside their places, and only then put each in its place.

    A failure to write leaves what was there.

    Raises:
        OSError: One cannot be written.
    """
    # Names that nobody can guess, lest a link wait there for what is written.
    parts = {path: path.with_name(f".{secrets.token_hex(8)}.part") for path in writers}
    try:
        for path, write in writers.items():
            with parts[path].open("xb") as file:
                write(file)
        for path, part in parts.items():
            part.replace(path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
