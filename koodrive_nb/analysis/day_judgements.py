"""What to say of a day that is held against the same weekday of the weeks before."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from koodrive_nb.analysis import deviations, rules
from koodrive_nb.analysis.day_series import FEW
from koodrive_nb.text import counted, named

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from koodrive_nb.analysis.bins import Bins
    from koodrive_nb.analysis.day_series import Series

WEEKS = 6
_LEAST_WEEKS = 3
# A deviation that is sure, and yet so small that nobody would look into it, is no alarm.
LEAST_RATIO = {"created": 1.5, "stuck_share": 2.0, "duration_p50_s": 1.25}
VERDICTS = ("usual", "unusually_high", "unusually_low", "not_judged")
_A_WEEKDAY = re.compile(r"earlier \w+days")
ONLY_A_FALL = "earlier records may be purged: only a fall can be seen"


def judge(  # noqa: PLR0913 -- what is known of each group, and of each day
    series: Series,
    metric: str,
    found: Bins,
    edges: Sequence[pd.Timestamp | None],
    *,
    lead: int,
    is_over: np.ndarray[Any, Any],
    is_young: np.ndarray[Any, Any],
) -> pd.DataFrame:
    """Judge the days after the first `lead` ones, which are there to be compared with.

    `edges` tell from when on the records of each group are complete.
    """
    measured, n_days = series.measured, series.n.shape[1]
    days = np.arange(n_days)
    # The day of the first record is cut by it.
    is_known = days[None, :] > series.first[:, None]
    is_complete = np.ones_like(is_known)
    for row, edge in enumerate(edges):
        if edge is not None:
            is_complete[row] = found.edges[:-1] >= edge
    if metric != "created":
        is_known &= series.n >= FEW
    at = days[lead:]
    weeks = at[None, :] - 7 * np.arange(1, WEEKS + 1)[:, None]
    known = np.moveaxis(is_known[:, weeks], 1, 0)
    complete = known & (np.moveaxis(is_complete[:, weeks], 1, 0) | (metric != "created"))
    n_complete = complete.sum(axis=0)
    is_least = n_complete < _LEAST_WEEKS
    used = np.where(is_least, known, complete)

    def earlier(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.where(used, np.moveaxis(values[:, weeks], 1, 0), np.nan)

    place, noise = measured.place[:, lead:], measured.noise[:, lead:]
    middle, scale = deviations.compare(
        place, noise, earlier(measured.place), earlier(measured.noise), of_noise=is_least
    )
    value = measured.value[:, lead:]
    usual, _ = deviations.compare(
        place, noise, earlier(measured.value), earlier(measured.noise), of_noise=is_least
    )
    ratio = LEAST_RATIO[metric]
    reach = deviations.LIMIT_Z * scale
    low = np.minimum(_back(series, middle - reach, lead), usual / ratio)
    high = np.maximum(_back(series, middle + reach, lead), usual * ratio)
    with np.errstate(divide="ignore", invalid="ignore"):
        table = pd.DataFrame(
            {
                "value": value.ravel(),
                "usual": usual.ravel(),
                "usual_lo": low.ravel(),
                "usual_hi": high.ravel(),
                "ratio": np.where(usual > 0, value / usual, np.nan).ravel(),
                "z": ((place - middle) / scale).ravel(),
                "n": series.n[:, lead:].ravel().astype("int64"),
                "n_baseline": used.sum(axis=0).ravel(),
            }
        )
    if metric == "stuck_share":
        # What was purged had completed: shares of old days err on the high side.
        table["usual_lo"] = np.nan
    return _with_verdict(
        table,
        metric,
        is_over=is_over,
        is_young=is_young,
        is_complete=is_complete[:, lead:].ravel(),
        is_least=is_least.ravel(),
        weekdays=np.tile(found.edges[at].tz_convert(found.zone).day_name(), len(series.n)),
    )


def _back(series: Series, place: np.ndarray[Any, Any], lead: int) -> np.ndarray[Any, Any]:
    padded = np.zeros(series.n.shape)
    padded[:, lead:] = place
    return series.measured.back(padded)[:, lead:]


def _with_verdict(  # noqa: PLR0913 -- each is a reason of its own
    table: pd.DataFrame,
    metric: str,
    *,
    is_over: np.ndarray[Any, Any],
    is_young: np.ndarray[Any, Any],
    is_complete: np.ndarray[Any, Any],
    is_least: np.ndarray[Any, Any],
    weekdays: np.ndarray[Any, Any],
) -> pd.DataFrame:
    is_count = metric == "created"
    is_low, is_high = table["value"] < table["usual_lo"], table["value"] > table["usual_hi"]
    is_few = (table["n_baseline"] < _LEAST_WEEKS).to_numpy()
    too_few = np.array(
        [f"fewer than {_LEAST_WEEKS} earlier {day}s to compare with" for day in weekdays]
    )
    reasons = (
        (~is_over, "the day is not over"),
        (is_young & (not is_count), "backups of that day may still be under way"),
        (~is_complete, "records of that day may be purged"),
        ((table["n"] < FEW).to_numpy() & (not is_count), f"fewer than {FEW} backups to judge"),
        (is_few, too_few),
    )
    conditions = [condition for condition, _ in reasons]
    reason = np.select(conditions, [words for _, words in reasons], "").astype("object")
    is_barred = reason != ""
    only_a_fall = ~is_barred & is_least
    reason[only_a_fall] = ONLY_A_FALL
    reason[reason == ""] = None
    verdict = np.select(
        [is_barred, is_low, only_a_fall, is_high],
        ["not_judged", "unusually_low", "not_judged", "unusually_high"],
        "usual",
    )
    table.loc[is_few, "usual"] = np.nan
    table.loc[is_least, "usual_hi"] = np.nan
    told = ["usual_lo", "usual_hi", "ratio", "z"]
    table.loc[verdict == "not_judged", told] = np.nan
    return table.assign(verdict=verdict, reason=reason)


def message(metric: str, day: pd.Timestamp, row: Mapping[Any, Any], group: Sequence[Any]) -> str:
    """Say in one line what was found on a day, and what would have been usual."""
    whose = " · ".join("(missing)" if pd.isna(value) else named(value) for value in group)
    begin = f"{day:%a} {day.day} {day:%b}" + (f", {whose}" if whose else "")
    is_barred = row["verdict"] == "not_judged"
    if is_barred and row["reason"] != ONLY_A_FALL:
        return f"{begin}: not judged, {row['reason']}"
    value, usual, n = row["value"], row["usual"], int(row["n"])
    weeks = int(row["n_baseline"])
    which = f"last {weeks}" if weeks == WEEKS else f"{weeks} of the last {WEEKS}"
    least = "at least " if row["reason"] == ONLY_A_FALL else ""
    ratio = row["ratio"]
    if metric == "created":
        backups = "backup" if n == 1 else "backups"
        what, much = f"{n:,} {backups} created, usually {least}{usual:,.0f}", "as many"
    elif metric == "stuck_share":
        what = f"{_share(value)} of {n:,} backups did not complete, usually {_share(usual)}"
        much = "as much"
    else:
        what = f"half of {n:,} backups took {_time(value)} or longer, usually {_time(usual)}"
        much = "as long"
    is_told = value > 0 and row["verdict"].startswith("unusually") and not math.isnan(ratio)
    more = f", {float(f'{ratio:.2g}'):,g} times {much}" if is_told else ""
    if is_barred:
        more = f"; not judged, since {row['reason']}"
    between = _between(metric, row["usual_lo"], row["usual_hi"])
    return f"{begin}: {what}{between} ({which} {day:%A}s){more}"


def _between(metric: str, low: float, high: float) -> str:
    """Say from where to where a day is usual, counts as the whole numbers that still are."""
    if metric == "created":
        low = low if math.isnan(low) else math.ceil(low)
        high = high if math.isnan(high) else math.floor(high)
    write = _WRITTEN[metric]
    ends = [
        f"{word} {write(value)}"
        for word, value in (("from", low), ("up to", high))
        if not math.isnan(value) and (word == "up to" or value > 0)
    ]
    return f", usual {' '.join(ends)}" if ends else ""


def reasons(table: pd.DataFrame) -> str:
    """Say of how many days which reason is why they are not judged, the most frequent first."""
    barred = table.loc[table["verdict"] == "not_judged", "reason"].dropna()
    counts: dict[str, int] = {}
    for reason in barred:
        told = _A_WEEKDAY.sub("earlier days of the same weekday", str(reason))
        counts[told] = counts.get(told, 0) + 1
    ranked = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{counted(n, 'day')} ({told})" for told, n in ranked)


def _share(share: float) -> str:
    return f"{100 * share:.1f} %"


def _time(seconds: float) -> str:
    return rules.span(round(seconds, 1))


_WRITTEN: Mapping[str, Callable[[float], str]] = {
    "created": "{:,.0f}".format,
    "stuck_share": _share,
    "duration_p50_s": _time,
}
