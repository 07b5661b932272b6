"""What the frames of an executed notebook tell of themselves; runs in its kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import narwhals as nw
import pandas as pd

from koodrive_nb.fleet import Fleet
from koodrive_nb.privacy import PSEUDONYM
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MIME = "application/vnd.koodrive-nb.facts+json"
_DEPTH = 2
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
    for name, frame in _frames(namespace.items()):
        named = _names(frame)
        if named:
            names.setdefault(name, []).extend(named)
        if not isinstance(frame, pd.DataFrame):
            continue
        about = frame.attrs.get(ATTRS)
        if isinstance(about, dict):
            is_complete &= about.get("complete") is not False
            sources |= {str(about["source"])} if about.get("source") else set()
        if "fetched_at" in frame.columns and len(frame):
            newest = pd.to_datetime(frame["fetched_at"], utc=True, errors="coerce").max()
            times += [] if pd.isna(newest) else [newest]
    return {
        "complete": is_complete,
        "sources": sorted(sources),
        "as_of": max(times).isoformat() if times else None,
        "names": names,
    }


def _frames(named: Iterable[tuple[str, Any]], depth: int = 0) -> Iterator[tuple[str, Any]]:
    for name, value in list(named):
        if name in {"In", "Out"}:
            # IPython has what is in them under other names, too.
            continue
        if isinstance(value, Fleet):
            for part in ("records", "devices", "users"):
                yield f"{name}.{part}", getattr(value, part)
        elif isinstance(value, dict | list | tuple) and depth < _DEPTH:
            parts = value.values() if isinstance(value, dict) else value
            yield from _frames(((name, part) for part in parts), depth + 1)
        elif (
            isinstance(value, pd.DataFrame)
            or nw.dependencies.is_into_series(value)
            or nw.dependencies.is_into_dataframe(value)
        ):
            yield name, value


def _names(frame: Any) -> list[str]:
    if isinstance(frame, pd.DataFrame):
        # A frame may have two columns of one name, and an index of a name that a column has.
        levels = enumerate(frame.index.names)
        named: list[tuple[Any, Any]]
        named = [(name, frame.iloc[:, at]) for at, name in enumerate(frame.columns)]
        named += [(name, frame.index.get_level_values(at)) for at, name in levels]
        found = [column.unique() for name, column in named if name in _WHOM]
    else:
        read = nw.from_native(frame, eager_only=True, allow_series=True)
        parts = [read] if isinstance(read, nw.Series) else [*read.iter_columns()]
        found = [part.unique().to_list() for part in parts if part.name in _WHOM]
    values = {str(one).strip() for each in found for one in each if isinstance(one, str | int)}
    return sorted(value for value in values if not PSEUDONYM.fullmatch(value))
