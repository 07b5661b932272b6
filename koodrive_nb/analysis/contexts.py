"""What a table covers: how many records, from when to when, its "now" and its stuck limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import narwhals as nw
import pandas as pd

from koodrive_nb.analysis.rules import MODULE_LABELS, collect, stuck_rule
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Mapping


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
        kept = {key: self.attrs[key] for key in ("source", "complete") if key in self.attrs}
        return kept | {
            "n_records": self.n_records,
            "first": _iso(self.first),
            "last": _iso(self.last),
            "as_of": _iso(self.as_of),
            "tz": self.tz,
            "stuck_rule": stuck_rule(self.limits_s),
            **more,
        }


def _iso(instant: pd.Timestamp | None) -> str | None:
    return None if instant is None else instant.isoformat()


def stamp_context(
    frame: nw.LazyFrame[Any],
    attrs: Mapping[str, Any],
    tz: str,
    limits_s: Mapping[str, float] | None = None,
) -> Context:
    """Measure the span of a frame with `as_of`, its newest "now" and its stuck limits.

    A classified frame knows its limits.
    """
    names = frame.collect_schema().names()
    keys = ["module", *(["source"] if "source" in names else [])]
    limits = {} if limits_s is not None else {"limit_s": nw.col("stuck_after_s").max()}
    created, now = nw.col("create_time"), nw.col("as_of")
    undated, later = created.is_null(), (created > now).fill_null(value=False)
    groups = collect(
        frame.with_columns(_undated=undated.cast(nw.Int64), _later=later.cast(nw.Int64))
        .group_by(*keys)
        .agg(
            n=nw.len(),
            n_undated=nw.col("_undated").sum(),
            n_later=nw.col("_later").sum(),
            first=created.min(),
            last=created.max(),
            as_of=now.max(),
            **limits,
        )
    )
    order = [label for label in MODULE_LABELS if label in set(groups["module"].astype(str))]
    known: dict[str, Any] = dict(attrs.get(ATTRS, {}))
    sources = sorted(set(groups["source"].dropna())) if "source" in keys else []
    if sources:
        known["source"] = " and ".join(sources)
    known_s: Any = limits_s
    if limits_s is None:
        known_s = groups.groupby(groups["module"].astype(str))["limit_s"].max()
    return Context(
        n_records=int(groups["n"].sum()),
        first=_known(groups["first"].min()),
        last=_known(groups["last"].max()),
        as_of=_known(groups["as_of"].max()),
        limits_s={label: float(known_s[label]) for label in order},
        attrs=known,
        tz=tz,
        n_undated=int(groups["n_undated"].sum()),
        n_later=int(groups["n_later"].sum()),
    )


def _known(stamp: object) -> pd.Timestamp | None:
    return stamp if isinstance(stamp, pd.Timestamp) else None
