"""The secret that the pseudonyms of reports are made with, kept for their author to look up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from koodrive_nb import privacy
from koodrive_nb.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd


def lookup(
    pseudonyms: str | Iterable[str],
    frame: pd.DataFrame,
    *,
    key: str | os.PathLike[str] | None = None,
) -> pd.DataFrame:
    """Find the rows of a frame with names that the pseudonyms of a report stand for.

    `key` is the file of the secret (else `KOODRIVE_PRIVACY_KEY`, else the file that reports use).

    Raises:
        ConfigurationError: There is no key, or it is unfit.
        InvalidParameterError: Something is no pseudonym, or the frame has no ids to compare.
    """
    return privacy.lookup(pseudonyms, frame, secret(key, create=False))


def secret(file: str | os.PathLike[str] | None, *, create: bool) -> str:
    """Read the secret: from the file, else `KOODRIVE_PRIVACY_KEY`, else the file of this user.

    With `create`, a missing file is made, readable for its owner alone.

    Raises:
        ConfigurationError: There is none, or it cannot be read or written.
    """
    if file is None and os.environ.get("KOODRIVE_PRIVACY_KEY"):
        return os.environ["KOODRIVE_PRIVACY_KEY"]
    path = _of_user() if file is None else Path(file)
    try:
        if create:
            _make(path)
        found = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"The key for pseudonyms cannot be read from {path} "
            f"({getattr(error, 'strerror', None) or 'it is no text'}): pass key= (--key) with the "
            "file that the report was made with, or set KOODRIVE_PRIVACY_KEY."
        ) from None
    if privacy.KEY.fullmatch(found):
        return found
    # A traceback may show it, and it may be another secret.
    del found
    raise ConfigurationError(
        f"There is no key for pseudonyms in {path}: name the file that a report has made, or one "
        "that is not there yet."
    )


def _of_user() -> Path:
    import platformdirs  # noqa: PLC0415 -- an optional extra

    return platformdirs.user_config_path("koodrive_nb") / "privacy.key"


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(f"{privacy.new_key()}\n")
