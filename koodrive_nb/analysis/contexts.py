"""What a table covers: how many records, from when to when, its "now" and its stuck limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import narwhals as nw
import pandas as pd

from koodrive_nb.analysis.rules import MODULE_LABELS, collect, stuck_rule
from koodrive_nb.columns import SOURCES
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Mapping

FETCHED = ("source", "complete", "sampled_of", "sampled")
"""What a table keeps of how its records were fetched."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a figure says about its table besides the numbers."""

    n_records: int
    first: pd.Timestamp | None
    last: pd.Timestamp | None
    as_of: pd.Timestamp | None
    limits_s: Mapping[str, float]
    attrs: Mapping[str, Any]
    tz: str
    n_undated: int = 0
    n_later: int = 0

    def as_attrs(self, **more: object) -> dict[str, Any]:
        """Give it as plain values for `DataFrame.attrs`, which pandas copies deeply."""
        kept = {key: self.attrs[key] for key in FETCHED if key in self.attrs}
        return kept | {
            "n_records": self.n_records,
            "first": _iso(self.first),
            "last": _iso(self.last),
            "as_of": _iso(self.as_of),
            "tz": self.tz,
            "stuck_rule": stuck_rule(self.limits_s),
            **more,
        }

    def seen_until(self, window: tuple[pd.Timestamp | None, pd.Timestamp | None]) -> str | None:
        """Give the newest "now" where a window ends after it.

        Raises:
            InvalidParameterError: It begins after it.
        """
        start, until = window
        if self.as_of is None:
            return None
        if start is not None and start >= self.as_of:
            raise InvalidParameterError(
                f"The window begins after the fetch ({self.as_of:%Y-%m-%d %H:%M} UTC): choose an "
                "earlier one."
            )
        return self.as_of.isoformat() if until is not None and until > self.as_of else None


def _iso(instant: pd.Timestamp | None) -> str | None:
    return None if instant is None else instant.isoformat()


def survey(frame: nw.LazyFrame[Any], *, spans: bool = True) -> pd.DataFrame:
    """Look at all records of a frame with `as_of`, once, and give one row a module.

    Columns: how many completed, and the 99th percentile of their durations; of a classified frame
    the stuck limit instead. With `spans` also what `stamp_context` needs.
    """
    names = frame.collect_schema().names()
    created, now = nw.col("create_time"), nw.col("as_of")
    columns: dict[str, nw.Expr] = {}
    found: dict[str, nw.Expr] = {}
    if "state" in names:
        found["limit_s"] = nw.col("stuck_after_s").max()
    else:
        is_finished = (
            (nw.col("status_code") == 1) & (nw.col("duration_s") >= 0) & (nw.col("end_time") <= now)
        )
        columns["_finished_s"] = nw.when(is_finished).then(nw.col("duration_s"))
        finished_s = nw.col("_finished_s")
        found["n_finished"] = finished_s.count()
        found["p99_s"] = finished_s.quantile(0.99, interpolation="linear")
    if spans:
        counted = {"undated": created.is_null(), "later": created > now}
        if "source" in names:
            counted |= {source: nw.col("source") == source for source in SOURCES}
        for name, is_so in counted.items():
            columns[f"_{name}"] = is_so.fill_null(value=False).cast(nw.Int64)
            found[f"n_{name}"] = nw.col(f"_{name}").sum()
        found |= {"n": nw.len(), "first": created.min(), "last": created.max(), "as_of": now.max()}
    return collect(frame.with_columns(**columns).group_by("module").agg(**found))


def stamp_context(
    surveyed: pd.DataFrame,
    attrs: Mapping[str, Any],
    tz: str,
    limits_s: Mapping[str, float] | pd.Series[float],
) -> Context:
    """Sum up what was surveyed: the span, the newest "now", and the limits of what is there."""
    modules = set(surveyed["module"].astype(str))
    known: dict[str, Any] = dict(attrs.get(ATTRS, {}))
    counts = {name: surveyed[f"n_{name}"] for name in SOURCES if f"n_{name}" in surveyed}
    sources = [name for name, n in counts.items() if n.sum() > 0]
    if sources:
        known["source"] = " and ".join(sources)
    return Context(
        n_records=int(surveyed["n"].sum()),
        first=_known(surveyed["first"].min()),
        last=_known(surveyed["last"].max()),
        as_of=_known(surveyed["as_of"].max()),
        limits_s={name: float(limits_s[name]) for name in MODULE_LABELS if name in modules},
        attrs=known,
        tz=tz,
        n_undated=int(surveyed["n_undated"].sum()),
        n_later=int(surveyed["n_later"].sum()),
    )


def _known(stamp: object) -> pd.Timestamp | None:
    return stamp if isinstance(stamp, pd.Timestamp) else None
