"""The few numbers of a week as tiles: value, interval, change and course."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb import privacy
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.report.past import history
from koodrive_nb.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NEEDED = {"kpi", "value", "lo", "hi", "numerator", "denominator", "previous", "change_pp"} | {
    *("comparable", "why_not")
}
_TITLES = {
    "protected": "Protected at the end",
    "protected_time": "Protected over the window",
    "settled": "Backups that completed",
    "never": "Never backed up",
    "stuck": "Stuck",
    "last_copy_at_risk": "Last copy at risk",
}
_LESS_IS_BETTER = {"never", "stuck", "last_copy_at_risk"}
_BLOCKS = "▁▂▃▄▅▆▇█"
_SPARKLINE_WINDOWS = 8
_LEAST_CHANGE_PP = 0.05
_TILE = "border:1px solid #8c959f;border-radius:6px;padding:8px 10px;min-width:0"
_GRID = (
    "display:grid;grid-template-columns:repeat(auto-fit,minmax(196px,1fr));gap:8px;"
    "line-height:1.4;font-family:system-ui,sans-serif"
)


def tiles(headline: pd.DataFrame) -> Tiles:
    """Show a headline as tiles: each value with its interval, change, counts and course.

    Takes the table of `kd.analysis.headline`. A change is an arrow and words, never a colour alone;
    where the two windows cannot be compared, the tile says why. The course comes from the report's
    history, at most 8 windows, and what was published of this very one stands beside what is
    computed today. Where the privacy is counts, counts below 5 are not shown.

    Raises:
        InvalidParameterError: It is no such table.
    """
    columns = {*getattr(headline, "columns", ())}
    if not isinstance(headline, pd.DataFrame) or not columns >= _NEEDED:
        raise InvalidParameterError(
            "tiles() takes the table of kd.analysis.headline(), with the columns "
            f"{', '.join(sorted(_NEEDED))}."
        )
    return Tiles(headline, history())


class Tiles:
    """A headline that shows itself as tiles, or as lines of text."""

    def __init__(self, headline: pd.DataFrame, past: pd.DataFrame | None) -> None:
        self._rows: list[dict[str, Any]] = headline.to_dict("records")  # type: ignore[assignment]  # the names are text
        self._past = past

    def __repr__(self) -> str:
        return "\n".join("; ".join(filter(None, self._words(row))) for row in self._rows)

    def _repr_html_(self) -> str:
        return f'<div style="{_GRID}">{"".join(map(self._tile, self._rows))}</div>'

    def _tile(self, row: dict[str, Any]) -> str:
        title, value, counts, change, published, course = map(
            html.escape, self._words(row, is_apart=True)
        )
        small = "font-size:12px"
        lines = [
            f'<div style="{small};font-weight:600">{title}</div>',
            f'<div style="font-size:24px;font-weight:600">{value}</div>',
            f'<div style="{small}">{counts}</div>',
            f'<div style="{small}">{change}</div>',
            f'<div style="{small}">{published}</div>' if published else "",
            f'<div style="font-size:15px" title="earlier windows">{course}</div>' if course else "",
        ]
        return f'<div style="{_TILE}">{"".join(lines)}</div>'

    def _words(self, row: dict[str, Any], *, is_apart: bool = False) -> tuple[str, ...]:
        kpi = str(row["kpi"])
        title = _TITLES.get(kpi, one_line(kpi, 40))
        if _is_hidden(row):
            few = f"fewer than {privacy.FEW}"
            is_most = not privacy.is_few(row["numerator"])
            value = f"all but {few}" if is_most else f"under {privacy.FEW}"
            counts = f"{'all but ' * is_most}{few} of {_count(row['denominator'])}"
        else:
            value, counts = _percent(row["value"]), _counts(row, kpi)
        head = (title, value) if is_apart else (f"{title}: {value}",)
        return (*head, counts, _change(row, kpi), _published(row), _sparkline(self._course(row)))

    def _course(self, row: dict[str, Any]) -> list[float]:
        if self._past is None or pd.isna(row["value"]) or _is_hidden(row):
            return []
        mine = self._past[self._past["kpi"] == row["kpi"]]
        if {"definition", "window_end"} <= {*row}:
            # What was defined otherwise, or is of this window or a later one, is no course of it.
            mine = mine[mine["definition"] == row["definition"]]
            mine = mine[mine["window_end"] < row["window_end"]]
        earlier = mine.sort_values("window_end")["value"].dropna()
        return [*earlier.tail(_SPARKLINE_WINDOWS - 1), float(row["value"])]


def _is_hidden(row: dict[str, Any]) -> bool:
    if privacy.mode() != "counts" or pd.isna(row["numerator"]):
        return False
    return privacy.is_few(float(row["numerator"]), float(row["denominator"]))


def _percent(share: Any) -> str:
    return "not known" if pd.isna(share) else f"{100 * share:.1f} %"


def _count(number: Any) -> str:
    return "?" if pd.isna(number) else f"{number:,.0f}"


def _counts(row: dict[str, Any], kpi: str) -> str:
    if pd.isna(row["denominator"]):
        return "cannot be computed from what was fetched"
    hours = " device-hours" if kpi == "protected_time" else ""
    counts = f"{_count(row['numerator'])} of {_count(row['denominator'])}{hours}"
    if pd.isna(row["lo"]) or pd.isna(row["hi"]):
        return counts
    return f"{counts} ({100 * row['lo']:.1f} to {100 * row['hi']:.1f} %)"


def _change(row: dict[str, Any], kpi: str) -> str:
    if pd.isna(row["value"]) or _is_hidden(row):
        return ""
    change = row["change_pp"]
    if pd.isna(change) or not row["comparable"]:
        why = row["why_not"]
        return "not comparable" + ("" if pd.isna(why) else f": {one_line(why, 90)}")
    if abs(change) < _LEAST_CHANGE_PP:
        return "→ as before"
    is_better = (change > 0) != (kpi in _LESS_IS_BETTER)
    arrow, word = ("▲", "up") if change > 0 else ("▼", "down")
    return f"{arrow} {word} {abs(change):.1f} points, {'better' if is_better else 'worse'}"


def _published(row: dict[str, Any]) -> str:
    """Tell what was published of this very window, beside what is computed of it today."""
    # Of counts, nobody knows how few a share was made of then.
    if privacy.mode() == "counts" or pd.isna(row.get("published")):
        return ""
    return (
        f"published: {_percent(row['published'])} on {pd.Timestamp(row['published_at']):%Y-%m-%d}"
    )


def _sparkline(values: Sequence[float]) -> str:
    if len(values) < 2:  # noqa: PLR2004 -- one value has no course
        return ""
    low, high = min(values), max(values)
    return "".join(_blocks((value - low) / ((high - low) or 1) for value in values))


def _blocks(heights: Iterable[float]) -> Iterable[str]:
    return (_BLOCKS[round(height * (len(_BLOCKS) - 1))] for height in heights)
