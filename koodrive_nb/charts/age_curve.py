"""The share of devices by the age of their newest completed backup, in steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from koodrive_nb.analysis.rules import span
from koodrive_nb.charts import judgements, theme
from koodrive_nb.charts.sketch import Sketch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd
    import plotly.graph_objects as go

_PLOT_PX = 380
_HEADROOM = 0.09
_MOST_POINTS = 2_000
_EXACT_UP_TO = 512
_LABELLED_UP_TO = 12
_FIRST_H, _LAST_H = 1.0, 365.0 * 24
_TICKS_H = {
    "1 h": 1,
    "6 h": 6,
    **{f"{days} d": 24 * days for days in (1, 3, 7, 14, 30, 90)},
    **{f"{years} y": 8760 * years for years in (1, 2, 5, 10)},
}
_LINES_H = (24.0, 72.0, 168.0, 720.0)
# A line closer to the RPO than this factor would be written over it.
_APART = 1.7
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_COLOURS = ("#4172C7", "#C78500", "#BC492F", "#22A5A1", "#B27DAE", "#6C6969")


@dataclass(frozen=True, slots=True)
class _Curve:
    """The ages of one group, and how many devices are at most so old."""

    name: str
    age_h: np.ndarray[Any, Any]
    n: np.ndarray[Any, Any]
    of: int | None

    @property
    def whole(self) -> int:
        """Give how many devices make up the whole: those with a copy, if no others are known."""
        return self.of if self.of is not None else int(self.n[-1] if len(self.n) else 0)

    @property
    def is_thinned(self) -> bool:
        """Tell whether the table has only some of the steps."""
        return bool(len(self.n) and self.n[-1] > _EXACT_UP_TO)

    def up_to(self, age_h: float) -> float:
        """Count the devices at most that old, between the points in proportion."""
        if not len(self.n) or age_h < self.age_h[0]:
            return 0.0
        if self.is_thinned:
            return float(np.interp(age_h, self.age_h, self.n))
        return float(self.n[np.searchsorted(self.age_h, age_h, side="right") - 1])

    def steps(self, at_most: int, last_h: float) -> tuple[list[float], list[int]]:
        """Give the corners of the curve, from the left edge to the right."""
        kept = np.unique(np.linspace(0, len(self.n) - 1, min(at_most, len(self.n))).astype(int))
        age_h, n = self.age_h[kept], self.n[kept]
        begun = int(self.up_to(_FIRST_H))
        seen = age_h > _FIRST_H
        ages = [_FIRST_H, *(round(float(age), 3) for age in age_h[seen]), last_h]
        counts = [begun, *(int(count) for count in n[seen])]
        return ages, [*counts, int(self.n[-1]) if len(self.n) else 0]


def draw(table: pd.DataFrame) -> go.Figure:
    """Draw the share of devices whose newest completed backup is at most so old."""
    about = theme.facts(table)
    found = _curves(table, about)
    drawn = found[: judgements.MOST_GROUPS]
    is_known = all(one.of is not None for one in found)
    last_h = max([_LAST_H, *(float(one.age_h[-1]) for one in drawn if len(one.age_h))])
    figure = Sketch()
    for number, one in enumerate(drawn):
        _draw(figure, one, number, last_h, at_most=_MOST_POINTS // max(1, len(drawn)))
    rpo_h = about.get("rpo_h")
    in_scope = sum(one.whole for one in found)
    lines = [age for age in _LINES_H if rpo_h is None or _is_apart(age, rpo_h)]
    lines += [] if rpo_h is None else [rpo_h]
    notes = [_line_note(found, age, is_rpo=age == rpo_h) for age in lines]
    if len(drawn) == 1 and is_known:
        notes.append(_never_note(drawn[0]))
    figure.lay_out(
        xaxis={
            **theme.UNSEEN_TICKS,
            "type": "log",
            "range": [0, math.log10(last_h)],
            "title": {"text": "age of the newest completed backup"},
            "tickmode": "array",
            "tickvals": list(_TICKS_H.values()),
            "ticktext": list(_TICKS_H),
        },
        yaxis={
            "domain": [0, 1 - _HEADROOM],
            "title": {"text": f"share of {judgements.things(about)} at most so old"},
            "range": [0, 101],
            "ticksuffix": " %",
        }
        if is_known
        else {
            "domain": [0, 1 - _HEADROOM],
            "title": {"text": f"{judgements.things(about)} at most so old"},
            "rangemode": "tozero",
        },
        shapes=[_line(age, is_rpo=age == rpo_h) for age in lines],
        annotations=notes,
    )
    exposed = math.nan
    if is_known and rpo_h is not None:
        exposed = in_scope - sum(one.up_to(rpo_h) for one in found)
    title = judgements.headline(exposed, in_scope, about)
    if title[0].isdigit() and any(one.is_thinned for one in found):
        title = f"About {title}"
    return theme.finish(
        figure,
        title,
        judgements.scope(about, [one.whole for one in found]),
        plot_px=_PLOT_PX,
        alt=f"{title}: curve by age, from {about.get('n_records', 0):,} records.",
    )


def _curves(table: pd.DataFrame, about: Mapping[str, Any]) -> list[_Curve]:
    """Take the table apart, the group with the most devices first."""
    keys = about.get("by") or list(table.columns[: table.columns.get_loc("age_h")])
    groups: Iterable[Any] = table.groupby(keys, dropna=False, observed=True) if keys else []
    named = [(theme.group(values, keys), part) for values, part in groups] or [("", table)]
    found = []
    for name, part in named:
        known = part["of"].dropna()
        of = int(known.iloc[0]) if len(known) else None
        with_age = part[part["age_h"].notna()]
        ages, counts = with_age["age_h"].to_numpy(), with_age["n"].to_numpy("int64")
        found.append(_Curve(name, ages, counts, of))
    return sorted(found, key=lambda one: -one.whole)


def _draw(figure: Sketch, one: _Curve, number: int, last_h: float, *, at_most: int) -> None:
    ages, counts = one.steps(at_most, last_h)
    is_known = one.of is not None
    of = one.whole
    colour = _COLOURS[number % len(_COLOURS)]
    # The same dash comes back with another colour.
    dash = _DASHES[(number + number // len(_COLOURS)) % len(_DASHES)]
    never = f", {judgements.percent(1 - one.n[-1] / of)} never" if is_known and len(one.n) else ""
    label = one.name or "devices"
    is_labelled = not one.name and 0 < len(one.n) <= _LABELLED_UP_TO
    figure.add_scatter(
        name=f"{label}: {of:,}{never}",
        showlegend=bool(one.name),
        x=ages,
        y=[round(100 * count / of, 3) if is_known and of else count for count in counts],
        mode="lines",
        line={
            "shape": "hv",
            "width": 2,
            "dash": dash,
            "color": colour if of >= judgements.FEW or one.name else judgements.NEUTRAL,
        },
        customdata=[[span(3600 * age), count] for age, count in zip(ages, counts, strict=True)],
        hovertemplate=(f"<b>{one.name}</b><br>" if one.name else "")
        + f"%{{customdata[1]:,}} of {of:,}"
        + (" (%{y:.1f} %)" if is_known else " with a copy")
        + " at most %{customdata[0]} old<extra></extra>",
    )
    if is_labelled:
        _draw_dots(figure, one)


def _draw_dots(figure: Sketch, one: _Curve) -> None:
    """Label each step of a few devices."""
    of = one.whole if one.of is not None else 0
    ages = [max(_FIRST_H, round(float(age), 3)) for age in one.age_h]
    figure.add_scatter(
        showlegend=False,
        hoverinfo="skip",
        mode="markers+text",
        x=ages,
        y=[round(100 * int(n) / of, 3) if of else int(n) for n in one.n],
        marker={"color": judgements.NEUTRAL, "size": 8},
        text=[f"{span(3600 * age)}" for age in one.age_h],
        textposition=["top left" if age > _TICKS_H["6 h"] else "top right" for age in ages],
        textfont={"size": 11, "color": theme.INK},
        cliponaxis=False,
    )


def _is_apart(age_h: float, rpo_h: float) -> bool:
    return max(age_h / rpo_h, rpo_h / age_h) > _APART


def _line(age_h: float, *, is_rpo: bool) -> dict[str, Any]:
    line = {"color": theme.INK if is_rpo else theme.QUIET, "width": 1.5 if is_rpo else 1}
    place = {"x0": age_h, "x1": age_h, "yref": "paper", "y0": 0, "y1": 1 - _HEADROOM}
    return {"type": "line", "line": line | {"dash": "dash" if is_rpo else "dot"}} | place


def _line_note(found: list[_Curve], age_h: float, *, is_rpo: bool) -> dict[str, Any]:
    """Write which share of all devices has a newer copy than that."""
    of = sum(one.whole for one in found)
    n = sum(one.up_to(age_h) for one in found)
    is_known = all(one.of is not None for one in found)
    told = judgements.percent(n / of if of else math.nan) if is_known else f"{n:,.0f}"
    words = f"{'RPO ' if is_rpo else ''}{span(3600 * age_h)}<br><b>{told}</b>"
    place = {"x": math.log10(age_h), "yref": "paper", "y": 1 - _HEADROOM, "yanchor": "bottom"}
    return place | {"text": words, "showarrow": False, "font": {"size": 11, "color": theme.INK}}


def _never_note(one: _Curve) -> dict[str, Any]:
    """Name what the curve falls short of the whole by."""
    last = int(one.n[-1]) if len(one.n) else 0
    never = one.whole - last
    share = never / one.whole if one.whole else math.nan
    y = 100 - 50 * (0 if math.isnan(share) else share)
    return {
        "text": f"never: {never:,} ({judgements.percent(share)}) ⇕",
        "xref": "paper",
        "x": 1,
        "xanchor": "right",
        "y": y,
        "yanchor": "middle",
        "showarrow": False,
        "bgcolor": "rgba(255,255,255,0.8)",
        "font": {"size": 11, "color": theme.INK},
    }
