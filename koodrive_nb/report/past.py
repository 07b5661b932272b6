"""What earlier reports published, kept in one Parquet file."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence

VARIABLE = "KOODRIVE_REPORT_HISTORY"
_TIMES = ("window_start", "window_end", "as_of", "published_at")
_TEXTS = ("kpi", "why_not", "definition")
_KEYS = ["kpi", "window_start", "window_end"]
_NEEDED = {*_KEYS, "value", "definition"}
# Of the publication before, which has rows of its own.
_NOT_KEPT = ["published", "published_at"]


def history() -> pd.DataFrame | None:
    """Give what earlier reports published: the rows of their headlines, with `published_at`.

    None outside a report, and before the first one that is made with `history=`. Fits
    `kd.analysis.headline(published=...)`.

    Raises:
        InvalidParameterError: The file is no Parquet file.
    """
    path = os.environ.get(VARIABLE)
    return read(Path(path)) if path else None


def read(path: Path) -> pd.DataFrame | None:
    """Read the file; None where there is none yet.

    Raises:
        InvalidParameterError: It is no Parquet file.
    """
    if not path.exists():
        return None
    try:
        return _typed(pd.read_parquet(path))
    except (OSError, ValueError, TypeError, KeyError):
        raise InvalidParameterError(
            f"{path.name} is no history of reports: name another file, or a new one."
        ) from None


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    kinds = dict.fromkeys(_TIMES, "datetime64[ms, UTC]") | dict.fromkeys(_TEXTS, "string[pyarrow]")
    kinds = {name: kinds.get(name, "float64") for name in table.columns if name != "comparable"}
    return table.astype(dict.fromkeys(_NEEDED, "object")).astype(kinds)


def appended(path: Path, headline: Sequence[dict[str, Any]], now: pd.Timestamp) -> bytes:
    """Give the file with the rows of a headline, in the place of those of the same window.

    Raises:
        InvalidParameterError: The headline lacks columns, or the file is no Parquet file.
    """
    fresh = pd.DataFrame(headline)
    missing = _NEEDED - {*fresh.columns}
    if missing:
        raise InvalidParameterError(
            f"The headline lacks {', '.join(sorted(missing))}, so no history can be kept of it: "
            "pass kd.report.numbers(headline=...) what kd.analysis.headline() gave."
        )
    fresh = fresh.drop(columns=_NOT_KEPT, errors="ignore").assign(published_at=now)
    for name in fresh.columns:
        if name in _TIMES:
            fresh[name] = pd.to_datetime(fresh[name], utc=True).astype("datetime64[ms, UTC]")
        elif name in _TEXTS:
            fresh[name] = fresh[name].astype("string[pyarrow]")
        elif name != "comparable":
            # Small counts may have been written as "<5".
            fresh[name] = pd.to_numeric(fresh[name], errors="coerce").astype("float64")
    former = read(path)
    if former is not None:
        former = former[~_index(former).isin(_index(fresh))]
        # Joined as records, since pandas warns of columns that are all missing.
        fresh = pd.DataFrame([*former.to_dict("records"), *fresh.to_dict("records")])[
            [*fresh.columns]
        ].astype(fresh.dtypes.to_dict())
    file = io.BytesIO()
    fresh.to_parquet(file, index=False)
    return file.getvalue()


def _index(table: pd.DataFrame) -> pd.Index[Any]:
    return pd.MultiIndex.from_frame(table[_KEYS].astype(str))
