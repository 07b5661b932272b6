"""What the frames of an executed notebook tell of themselves; runs in its kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb.fleet import Fleet
from koodrive_nb.privacy import PSEUDONYM
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MIME = "application/vnd.koodrive-nb.facts+json"
_WHOM = ("user_id", "device_id", "machine_code", "device_name")


def show(namespace: Mapping[str, Any]) -> None:
    """Emit the facts of all frames: source, completeness, newest "now", and whom they name."""
    from IPython.display import display  # noqa: PLC0415 -- there is one in a kernel

    emit: Any = display  # It has no annotations.
    emit({MIME: facts(namespace)}, raw=True)


def facts(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Give source, completeness, newest "now", and for each frame whom it names."""
    sources: set[str] = set()
    times: list[pd.Timestamp] = []
    names: dict[str, list[str]] = {}
    is_complete = True
    for name, frame in _frames(namespace):
        about = frame.attrs.get(ATTRS)
        if isinstance(about, dict):
            is_complete &= about.get("complete") is not False
            sources |= {str(about["source"])} if about.get("source") else set()
        if "fetched_at" in frame.columns and len(frame):
            newest = pd.to_datetime(frame["fetched_at"], utc=True, errors="coerce").max()
            times += [] if pd.isna(newest) else [newest]
        named = _names(frame)
        if named:
            names[name] = named
    return {
        "complete": is_complete,
        "sources": sorted(sources),
        "as_of": max(times).isoformat() if times else None,
        "names": names,
    }


def _frames(namespace: Mapping[str, Any]) -> Iterator[tuple[str, pd.DataFrame]]:
    for name, value in list(namespace.items()):
        if isinstance(value, pd.DataFrame):
            yield name, value
        elif isinstance(value, Fleet):
            for part in ("records", "devices", "users"):
                yield f"{name}.{part}", getattr(value, part)


def _names(frame: pd.DataFrame) -> list[str]:
    values: set[str] = set()
    for column in _WHOM:
        # A frame may have two columns of one name.
        if column in frame.columns and isinstance(frame[column], pd.Series):
            values |= {str(value).strip() for value in frame[column].dropna().unique()}
    return sorted(value for value in values if not PSEUDONYM.fullmatch(value))
