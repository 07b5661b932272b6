"""Bars of one local day each, and what hatches them: purged, or not over."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb.charts import judgements, theme

if TYPE_CHECKING:
    from collections.abc import Mapping
    from zoneinfo import ZoneInfo

    from koodrive_nb.charts.sketch import Sketch


_DAY_MS = 86_400_000


def places(table: pd.DataFrame, zone: ZoneInfo) -> dict[str, Any]:
    """Give the noons of the days as plotly counts them: the wall has 24 hours on every day."""
    if table.empty:
        return {"x": []}
    return {"x0": f"{_dates(table, zone)[0]}T12:00", "dx": _DAY_MS}


def axis(table: pd.DataFrame, zone: ZoneInfo, about: Mapping[str, Any]) -> dict[str, Any]:
    """Give the axis that the days lie on."""
    title = {"text": f"day ({theme.zone_name(about)})"}
    found: dict[str, Any] = {"type": "date", "title": title, **theme.UNSEEN_TICKS}
    if table.empty:
        return found
    dates = _dates(table, zone)
    end = pd.Timestamp(dates[-1]) + pd.Timedelta("1D")
    return found | {"range": [dates[0], f"{end:%Y-%m-%d}"], "hoverformat": "%a %d %b %Y"}


def told(about: Mapping[str, Any]) -> dict[str, Any]:
    """Give the facts with a window that ends with the last day that is drawn, or "now"."""
    if not about.get("until"):
        return dict(about)
    end = pd.Timestamp(about["until"]) - pd.Timedelta("1ms")
    if about.get("as_of"):
        end = min(end, pd.Timestamp(about["as_of"]))
    return {**about, "until": end.isoformat()}


def purged_before(table: pd.DataFrame, about: Mapping[str, Any], zone: ZoneInfo) -> str:
    """Say from when on records are known to be there, where the figure begins before."""
    horizon = about.get("history_complete_from")
    if table.empty or table["is_complete"].all():
        return ""
    if not horizon:
        return "records may be purged"
    local = pd.Timestamp(horizon).tz_convert(zone)
    return f"records may be purged before {local.day} {local:%b %Y}"


def warning(purged: str) -> str:
    """Say what hatched days are worth."""
    return (
        f"Hatched: {purged}; they look worse than they were, and the title leaves them out."
        if purged
        else ""
    )


def stack(
    figure: Sketch,
    table: pd.DataFrame,
    parts: Mapping[str, str],
    whole: str,
    zone: ZoneInfo,
) -> tuple[bool, int]:
    """Draw columns upon each other, as shares of the column `whole`; counts where it is missing.

    Returns whether they are shares, and the most devices of any day.
    """
    of = table[whole].astype("float64")
    is_known = bool(table.empty or of.notna().any())
    most = (of if is_known else table[list(parts)].sum(axis=1)).max()
    is_judged = bool(most >= judgements.FEW)
    for column, name in parts.items():
        counts = table[column].astype("float64")
        if counts.isna().all() and len(counts):
            continue
        heights = 100 * counts / of.where(of > 0) if is_known else counts
        figure.add_bar(
            **places(table, zone),
            y=[None if math.isnan(height) else round(height, 3) for height in heights],
            name=name,
            width=_DAY_MS,
            marker=judgements.fill(column, is_judged=is_judged) | {"line": {"width": 0}},
            customdata=[
                [None if math.isnan(count) else int(count), int(n) if is_known else None]
                for count, n in zip(counts, of, strict=True)
            ],
            hovertemplate=f"{name}: %{{customdata[0]:,}}"
            + (" of %{customdata[1]:,} (%{y:.1f} %)" if is_known else "")
            + "<extra></extra>",
        )
    return is_known, 0 if pd.isna(most) else int(most)


def hatch(figure: Sketch, hatched: pd.DataFrame, name: str, zone: ZoneInfo, *, shape: str) -> None:
    """Hatch from the first to the last of those days, over whatever is drawn of them."""
    if hatched.empty:
        return
    dates = _dates(hatched, zone)
    begin, end = dates[0], f"{pd.Timestamp(dates[-1]) + pd.Timedelta('1D'):%Y-%m-%d}"
    figure.add_scatter(
        x=[begin, begin, end, end],
        y=[0, 1, 1, 0],
        yaxis="y2",
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillpattern={
            "shape": shape,
            "fgcolor": theme.INK,
            "bgcolor": "rgba(255,255,255,0.55)",
            "size": 7,
            "solidity": 0.2,
        },
        hoverinfo="skip",
        name=name,
    )


def hatched_axis() -> dict[str, Any]:
    """Give the axis of what is hatched, as high as the plot."""
    return {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}


def _dates(table: pd.DataFrame, zone: ZoneInfo) -> list[str]:
    # Where a day begins at one, since its midnight is skipped, the date is still that of the day.
    return [f"{stamp:%Y-%m-%d}" for stamp in table["bin_start"].dt.tz_convert(zone)]
