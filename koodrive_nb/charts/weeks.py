"""Maps of the hours of the week, at which backups begin."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb.analysis.loads import HOURS
from koodrive_nb.charts import caveats, panels, theme
from koodrive_nb.charts.sketch import Sketch
from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import plotly.graph_objects as go

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WEEK_PX, _MARGINAL_PX, _MARGINAL_GAP_PX, _GAP_PX = 196, 60, 6, 44
_ACROSS = 0.88
_TEN, _HUNDRED = 10, 100
_DIGITS = 3
_LEAST_OF_HOUR = 0.5


def draw(
    table: pd.DataFrame,
    groups: Sequence[tuple[str, pd.DataFrame]],
    about: Mapping[str, Any],
    hidden: str,
) -> go.Figure:
    """Draw one map for each group, with one scale; the text `hidden` is for the subtitle."""
    figure = Sketch()
    is_one = len(groups) == 1 and not groups[0][0]
    below = _MARGINAL_PX + _MARGINAL_GAP_PX if is_one else _GAP_PX
    plot_px = max(1, len(groups)) * (_WEEK_PX + below)
    notes = []
    for place, (name, shown) in enumerate(groups):
        part = _whole(shown)
        top = plot_px - place * (_WEEK_PX + below) - below
        number = place + 1
        _week(figure, part, number)
        figure.layout[panels.axis_name("yaxis", number)] = {
            "domain": [(top - _WEEK_PX) / plot_px, top / plot_px],
            "autorange": "reversed",
            "tickmode": "array",
            "tickvals": list(range(7)),
            "ticktext": list(_DAYS),
            "showgrid": False,
            "zeroline": False,
            "automargin": True,
        }
        if name:
            words = f"<b>{name}</b>  {theme.counted(int(shown['n'].sum()), 'backup')} started"
            notes.append(panels.heading(words, 0, top / plot_px))
    hours = {"tickmode": "array", "tickvals": [-0.5, 5.5, 11.5, 17.5, 23.5]}
    hours |= {"ticktext": ["0:00", "6:00", "12:00", "18:00", "24:00"], "range": [-0.5, 23.5]}
    title = {"text": f"hour of the day ({theme.zone_name(about)})"}
    figure.lay_out(
        xaxis={"title": title, "showgrid": False, "zeroline": False, **hours}
        | ({"domain": [0, _ACROSS]} if is_one else {"anchor": "free", "position": 0}),
        coloraxis={
            "colorscale": "Cividis",
            "cmin": 0,
            "colorbar": {
                "title": {"text": "starts/h"},
                "thickness": 10,
                "outlinewidth": 0,
                "tickformat": ",",
            },
        },
        annotations=notes,
    )
    most = _sure(table).max()
    if most < table["starts_per_occurrence"].max():
        figure.layout["coloraxis"]["cmax"] = float(most)
    if is_one:
        _marginals(figure, _whole(table), plot_px)
    n = int(table["n"].sum())
    purged = caveats.purged_before(about, "rates")
    title_words = "Backups started by hour of the week"
    if is_one:
        title_words = _busiest(table, at_least=bool(purged))
    started = (
        f"{theme.counted(n, 'backup')} started, {theme.window(about)}, {theme.provenance(about)}"
    )
    never = (table["occurrences"] == 0).any()
    is_cut = any(len(part) < HOURS for _, part in groups)
    return theme.finish(
        figure,
        title_words,
        [
            started,
            "Starts per hour, over how often that hour of the week came in the window."
            + (" Blank: it never came." if never else "")
            + (" Not drawn: hours that are not in the table." if is_cut else ""),
            hidden,
            caveats.seen_until(about),
            purged,
            caveats.not_drawn(about),
        ],
        plot_px=plot_px,
        alt=f"{title_words}: map of the hours of the week, {n:,} backups.",
    )


def _whole(part: pd.DataFrame) -> pd.DataFrame:
    """Give all hours of the week a row, those that were left out of the table, too."""
    twice = part.duplicated(["weekday", "hour"])
    if twice.any():
        raise InvalidParameterError(
            "The table has an hour of the week twice: pass it with the columns that it is by, or "
            "one group of it."
        )
    hours = pd.MultiIndex.from_product([range(1, 8), range(24)], names=["weekday", "hour"])
    return part.set_index(["weekday", "hour"]).reindex(hours).reset_index()


def _week(figure: Sketch, part: pd.DataFrame, number: int) -> None:
    rates = [_number(rate) for rate in part["starts_per_occurrence"]]
    hovers = [
        f"{_hour(weekday, hour)}: {_rate(rate)} over {_times(came)}"
        if rate is not None
        else f"{_hour(weekday, hour)}: not in the {'table' if math.isnan(came) else 'window'}"
        for weekday, hour, rate, came in zip(
            part["weekday"], part["hour"], rates, part["occurrences"], strict=True
        )
    ]
    words = [_short(rate) for rate in rates]
    figure.add_heatmap(
        x=list(range(24)),
        y=list(range(7)),
        z=_rows(rates),
        text=_rows(words),
        texttemplate="%{text}",
        textfont={"size": 8 if max(map(len, words)) > _DIGITS else 9},
        customdata=_rows(hovers),
        hovertemplate="%{customdata}<extra></extra>",
        coloraxis="coloraxis",
        xgap=1,
        ygap=1,
        xaxis="x",
        yaxis=panels.axis_name("y", number),
    )


def _marginals(figure: Sketch, table: pd.DataFrame, plot_px: int) -> None:
    """Draw the mean of each hour of the day above the map, and of each day beside it."""
    paint = {"color": theme.QUIET, "line": {"width": 0}}
    hours, days = (table.groupby(name)[["n", "occurrences"]].sum() for name in ("hour", "weekday"))
    for part, names, more in (
        (hours, [f"{hour}:00-{hour + 1}:00" for hour in hours.index], {"yaxis": "y2"}),
        (days, [_DAYS[day - 1] for day in days.index], {"orientation": "h", "xaxis": "x2"}),
    ):
        came = part["occurrences"]
        means = [_number(mean) for mean in part["n"] / came.where(came > 0)]
        places = list(range(len(part)))
        is_above = "yaxis" in more
        figure.add_bar(
            x=places if is_above else means,
            y=means if is_above else places,
            marker=paint,
            showlegend=False,
            customdata=[f"{name}: {_rate(mean)}" for name, mean in zip(names, means, strict=True)],
            hovertemplate="%{customdata} on average<extra></extra>",
            **more,
        )
    quiet = {
        "showgrid": False,
        "rangemode": "tozero",
        "nticks": 3,
        "automargin": True,
        "tickformat": ",",
    }
    quiet |= {"tickfont": {"size": 10}, "zerolinecolor": theme.GRID}
    figure.lay_out(
        bargap=0.15,
        yaxis2=quiet | {"domain": [1 - _MARGINAL_PX / plot_px, 1], "anchor": "x"},
        # Above, where no label of the hours is.
        xaxis2=quiet | {"domain": [_ACROSS + 0.01, 1], "anchor": "y", "side": "top"},
    )


def _busiest(table: pd.DataFrame, *, at_least: bool) -> str:
    rates = _sure(table)
    if table.empty or not rates.max():
        return "Backups started by hour of the week"
    busiest = int(rates.argmax())
    when = _hour(table["weekday"].iloc[busiest], table["hour"].iloc[busiest])
    # Only of what is there can anything be said.
    of_shown = " of the hours shown" if len(table) < HOURS else ""
    return (
        f"Most backups{of_shown} start on {when}: {'at least ' if at_least else ''}"
        f"{_rate(rates.max())}"
    )


def _sure(table: pd.DataFrame) -> pd.Series[float]:
    """Give the rates of hours that came for half of one at least: others are made by one backup."""
    return table["starts_per_occurrence"].where(table["occurrences"] >= _LEAST_OF_HOUR, 0.0)


def _hour(weekday: float, hour: float) -> str:
    return f"{_DAYS[int(weekday) - 1]} {int(hour):02d}:00-{int(hour) + 1:02d}:00"


def _rate(rate: float | None) -> str:
    if rate is None:
        return "not in the window"
    return f"{rate:,.0f} starts/h" if rate >= _HUNDRED else f"{rate:.3g} starts/h"


def _short(rate: float | None) -> str:
    """Write a rate in at most four characters, to fit into a cell."""
    if rate is None:
        return ""
    if rate >= 10 * _HUNDRED:
        thousands = rate / 1000
        return f"{thousands:.0f}k" if thousands >= _TEN else f"{thousands:.1f}k"
    return f"{rate:.0f}" if rate >= _TEN or not rate else f"{rate:.1f}"


def _times(came: float) -> str:
    return f"{came:.4g} occurrence{'' if came == 1 else 's'}"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 3)


def _rows(cells: list[Any]) -> list[list[Any]]:
    return [cells[start : start + 24] for start in range(0, len(cells), 24)]
