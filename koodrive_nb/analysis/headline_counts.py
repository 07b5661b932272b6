"""How many devices and backups each number of a headline counts, in each of two windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import narwhals as nw
import pandas as pd

from koodrive_nb.analysis import history, rules
from koodrive_nb.columns import TIME

if TYPE_CHECKING:
    from koodrive_nb.analysis.objective import Objective
    from koodrive_nb.analysis.windows import Window

KPIS = ("protected", "protected_time", "settled", "never", "stuck", "last_copy_at_risk")
OF_BACKUPS = "settled"
OF_NOW = ("stuck", "last_copy_at_risk")


def known_until(table: pd.DataFrame, otherwise: pd.Timestamp | None) -> pd.Timestamp | None:
    """Give the earliest "now" of the bound devices: nobody knows of all of them what came after."""
    now = table.loc[table["is_bound"], "as_of"].min()
    return now if isinstance(now, pd.Timestamp) else otherwise


def spans(windows: list[Window], now: pd.Timestamp | None) -> pd.DataFrame:
    """Give each window with the instant it is counted at."""
    table = pd.DataFrame(
        {
            "bin_start": [each.start for each in windows],
            "at": [each.end if now is None else min(each.end, now) for each in windows],
        }
    )
    return table.astype(TIME)


def count(  # noqa: PLR0913 PLR0917 -- what was reduced once, and is counted in three ways
    frame: nw.LazyFrame[Any],
    known: nw.LazyFrame[Any],
    table: pd.DataFrame,
    windows: list[Window],
    spans: pd.DataFrame,
    goal: Objective,
) -> pd.DataFrame:
    """Count for each kpi and window: one row each, as far as it is known.

    `frame` has the classified records, `known` those of devices, `table` the judged devices. Gives
    `kpi`, `place` (of the window), `numerator`, `denominator`, `excluded` and `n`, the devices or
    backups that the denominator stands for.
    """
    found = [
        *_of_devices(spans, known, table, goal),
        *_of_backups(frame, windows),
        *_of_now(table, windows[0]),
    ]
    return pd.DataFrame(found)


def _row(kpi: str, place: int, counts: tuple[float, float, float], n: float) -> dict[str, Any]:
    numerator, denominator, excluded = counts
    return {
        "kpi": kpi,
        "place": place,
        "numerator": numerator,
        "denominator": denominator,
        "excluded": excluded,
        "n": n,
    }


def _of_devices(
    spans: pd.DataFrame, known: nw.LazyFrame[Any], table: pd.DataFrame, goal: Objective
) -> list[dict[str, Any]]:
    counts = history.counted(spans, known, table[table["is_bound"]].reset_index(drop=True), goal)
    begun = table["bound"].fillna(table["first"])
    rows = []
    for place, span in counts.iterrows():
        n = int(span["in_scope"])
        # Who was bound at an unknown time counts as bound for long.
        excluded = int((begun <= span["at"]).sum()) - n + int(begun.isna().sum())
        hours = float(span["in_scope_h"])
        for kpi, numerator, denominator in (
            ("protected", int(span["protected"]), n),
            ("protected_time", hours - float(span["exposed_h"]), hours),
            ("never", int(span["never"]), n),
        ):
            rows.append(_row(kpi, int(str(place)), (numerator, denominator, excluded), n))
    return rows


def _of_backups(frame: nw.LazyFrame[Any], windows: list[Window]) -> list[dict[str, Any]]:
    created = nw.col("create_time")
    names = [f"_in_{place}" for place in range(len(windows))]
    inside = {
        name: (
            (created >= nw.lit(each.start.to_pydatetime()))
            & (created < nw.lit(each.end.to_pydatetime()))
        ).fill_null(value=False)
        for name, each in zip(names, windows, strict=True)
    }
    marked = frame.filter(~rules.later(nw.col("as_of"))).select(
        _state=nw.col("state"), _end=nw.col("end_time"), **inside
    )
    groups = marked.filter(nw.any_horizontal(*names, ignore_nulls=True)).group_by("_state", *names)
    counts = rules.collect(groups.agg(n=nw.len(), n_ended=nw.col("_end").count()))
    rows = []
    for place, name in enumerate(names):
        mine = counts[counts[name].astype(bool)].groupby("_state", observed=True)
        n, n_ended = (mine[column].sum().astype("int64") for column in ("n", "n_ended"))
        well = int(n.get("completed", 0)) + int(n_ended.get("to_be_deleted", 0))
        abandoned = int(n.get("to_be_deleted", 0)) - int(n_ended.get("to_be_deleted", 0))
        settled = well + int(n.get("stuck", 0)) + abandoned
        rows.append(_row(OF_BACKUPS, place, (well, settled, int(n.sum()) - settled), settled))
    return rows


def _of_now(table: pd.DataFrame, this: Window) -> list[dict[str, Any]]:
    now = known_until(table, None)
    if now is not None and now >= this.end + (this.end - this.start):
        # A later window has gone by since, whose states these are.
        return []
    judged = table[table["in_scope"]]
    of, excluded = len(judged), len(table) - len(judged)
    hits = (int((judged["stuck_in_a_row"] > 0).sum()), int((judged["state"] == "deleting").sum()))
    return [_row(kpi, 0, (n, of, excluded), of) for kpi, n in zip(OF_NOW, hits, strict=True)]
