"""Which segments the change of the settled share goes with, as a waterfall."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb import analysis
from koodrive_nb.analysis import drivers
from koodrive_nb.analysis.rules import span, word
from koodrive_nb.charts import caveats, days, theme
from koodrive_nb.charts.sketch import Sketch

if TYPE_CHECKING:
    from collections.abc import Mapping

    import plotly.graph_objects as go

_MOST = 12
_ROW_PX = 26
_LEAST_PX = 120
_EMPTY_PX = 20
_STEP = 0.36
_ROOM = 0.12
_WHOLE, _LOWER, _HIGHER = "the whole change", "lowers the share", "raises the share"
_PAINT = {
    _LOWER: theme.fill("stuck"),
    _HIGHER: theme.fill("completed"),
    _WHOLE: theme.patterned("#6C6969", ""),
}
_MARK = "◆"


@theme.chart_of(analysis.explain_change, {"dimension", "total_pp"})
def explain_change(table: pd.DataFrame) -> go.Figure:
    """Draw what each segment adds to the change of the settled share, in percentage points.

    Takes records and the options of `kd.analysis.explain_change`, or its table. Each dimension is a
    waterfall of its own, the largest steps first, 12 at most and the others in one, down to the
    whole change. A segment that stands out from its dimension is marked.

    Raises:
        InvalidParameterError: It is neither, or an option is not what the analysis takes.
    """
    about = theme.facts(table)
    rows = _rows(table, about)
    figure = Sketch()
    for name in (_LOWER, _HIGHER, _WHOLE):
        part = [(place, row) for place, row in enumerate(rows) if row.get("kind") == name]
        if part:
            _draw(figure, name, part)
    _draw_joints(figure, rows)
    figure.lay_out(
        xaxis={"title": {"text": "percentage points of the settled share"}, "zeroline": True}
        | {"zerolinecolor": theme.QUIET, "automargin": True, "range": _span(rows)}
        | {"visible": bool(rows)},
        yaxis={
            "tickmode": "array",
            "tickvals": list(range(len(rows))),
            "ticktext": [row["label"] for row in rows],
            "range": [len(rows) - 0.4, -0.6],
            "showgrid": False,
            "visible": bool(rows),
        },
        bargap=0,
        uniformtext={"mode": "show", "minsize": 11},
    )
    return theme.finish(
        figure,
        _title(about),
        _subtitle(table, about),
        plot_px=max(_LEAST_PX, _ROW_PX * len(rows)) if rows else _EMPTY_PX,
        alt=f"{_title(about)}. {_said(about)}",
    )


def _rows(table: pd.DataFrame, about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give what is written line by line: headings, steps from where to where, and the sum."""
    rows: list[dict[str, Any]] = []
    for dimension, part in table.groupby("dimension", sort=False):
        rows.append({"label": f"<b>{theme.shown(word(str(dimension)))}</b>"})
        at = 0.0
        steps = part.to_dict("records")
        for step in steps[:_MOST]:
            rows.append(_step(step, at, about))
            at += step["total_pp"]
        rest = steps[_MOST:]
        if rest:
            total = sum(step["total_pp"] for step in rest)
            label = theme.counted(len(rest), "other")
            words = f"<b>{label}</b>, {_signed(total)} points together"
            rows.append(_bar(label, at, total, words))
            at += total
        words = f"<b>the whole change</b>, {_signed(at)} points"
        if "n" in about:
            words += f"<br>{_of(about)}"
        rows.append(_bar("all", 0.0, at, words) | {"kind": _WHOLE})
    return rows


def _step(step: Mapping[Any, Any], at: float, about: Mapping[str, Any]) -> dict[str, Any]:
    name = theme.group([step["segment"]], [str(step["dimension"])])
    words = [f"<b>{name}</b>, {_signed(step['total_pp'])} points", _of(step)]
    weight = (100 * step[which] for which in ("weight_previous", "weight"))
    words.append("{:.1f} % of all backups before, {:.1f} % now".format(*weight))
    words.append(
        f"by its own share {_signed(step['rate_effect_pp'])}, by its weight "
        f"{_signed(step['mix_effect_pp'])} points"
    )
    if not pd.isna(step["p_value"]):
        among = theme.counted(about.get("n_segments", 1), "segment")
        words.append(
            f"p = {step['p_value']:.2g} among {among}; a driver has less than {drivers.CHANCE}"
        )
    why_not = step.get("reason")
    if not step["is_driver"] and not pd.isna(why_not):
        words.append(f"no driver, {theme.shown(why_not, 120)}")
    label = f"{_MARK} <b>{name}</b>" if step["is_driver"] else name
    return _bar(label, at, step["total_pp"], "<br>".join(words))


def _bar(label: str, at: float, total: float, words: str) -> dict[str, Any]:
    kind = _LOWER if total < 0 else _HIGHER
    return {"label": label, "at": at, "total": total, "words": words, "kind": kind}


def _of(counts: Mapping[Any, Any]) -> str:
    parts = [
        f"{100 * counts[f'settled_share{which}']:.1f} % of {counts[f'n{which}']:,}"
        if counts[f"n{which}"]
        else "none"
        for which in ("_previous", "")
    ]
    return f"completed: {parts[0]} before, {parts[1]} now"


def _draw(figure: Sketch, name: str, part: list[tuple[int, dict[str, Any]]]) -> None:
    figure.add_bar(
        orientation="h",
        name=name,
        y=[place for place, _ in part],
        base=[round(row["at"], 4) for _, row in part],
        x=[round(row["total"], 4) for _, row in part],
        width=2 * _STEP,
        marker=_PAINT[name] | {"line": {"width": 0}},
        text=[_signed(row["total"]) for _, row in part],
        textposition="outside",
        cliponaxis=False,
        customdata=[row["words"] for _, row in part],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _draw_joints(figure: Sketch, rows: list[dict[str, Any]]) -> None:
    """Join the end of each step with the beginning of the next one."""
    x: list[float | None] = []
    y: list[float | None] = []
    for place, row in enumerate(rows[:-1]):
        if row.get("kind") in {_LOWER, _HIGHER}:
            end = round(row["at"] + row["total"], 4)
            x += [end, end, None]
            y += [place + _STEP, place + 1 - _STEP, None]
    if x:
        line = {"color": theme.QUIET, "width": 1}
        figure.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)


def _span(rows: list[dict[str, Any]]) -> list[float]:
    """Leave room for the numbers beside the bars."""
    ends = [0.0, *(row["at"] + row["total"] for row in rows if "kind" in row)]
    low, high = min(ends), max(ends)
    room = _ROOM * (high - low) or 1.0
    return [round(low - room * (low < 0 or high <= 0), 4), round(high + room, 4)]


def _signed(points: float) -> str:
    text = f"{points:+.2f}".replace("-", "\u2212")
    return text if float(text[1:]) else text[1:]


def _title(about: Mapping[str, Any]) -> str:
    if "change_pp" not in about:
        return "What the change of the settled share goes with"
    return drivers.went(about["change_pp"])


def _said(about: Mapping[str, Any]) -> str:
    """Give the verdict without what the title says already, and what `_running` says at length."""
    rest = str(about.get("verdict", "")).removeprefix(_title(about)).removeprefix(", ")
    rest = rest.removesuffix(drivers.NOT_OVER)
    return theme.shown(rest[:1].upper() + rest[1:], 600)


def _subtitle(table: pd.DataFrame, about: Mapping[str, Any]) -> list[str]:
    edges = {"since": about.get("previous_start"), "until": about.get("previous_end")}
    counted = [theme.counted(about.get(name, 0), "backup") for name in ("n_previous", "n")]
    kinds = (
        (about.get("n_young"), "younger than the stuck limit"),
        (about.get("n_open"), "in progress or unknown"),
        (about.get("n_purged"), "of devices whose earlier backups may be purged"),
    )
    left_out = ", ".join(f"{n:,} {what}" for n, what in kinds if n)
    is_marked = bool(table["is_driver"].any())
    windows = (
        f"Before: {counted[0]}, {theme.window(days.told({**about, **edges}))}. "
        f"Now: {counted[1]}, {theme.window(days.told(about))}, {theme.provenance(about)}"
    )
    return [
        _said(about),
        windows,
        _running(about),
        caveats.unmarked(about),
        f"{_MARK} Stands out from what its weight would bring; that is no cause."
        if is_marked
        else "",
        f"Left out of both: {left_out}." if left_out else "",
        theme.shown(about.get("stuck_rule", ""), 400),
    ]


def _running(about: Mapping[str, Any]) -> str:
    """Say how much of a window there is that was not over at the fetch."""
    if not about.get("seen_until"):
        return ""
    since, until, seen = (pd.Timestamp(about[name]) for name in ("since", "until", "seen_until"))
    at = seen.tz_convert(about.get("tz", "UTC"))
    parts = [span((end - since).total_seconds()) for end in (seen, until)]
    return (
        f"This window was not over at the fetch ({at.day} {at:%b %H:%M}): {parts[0]} of its "
        f"{parts[1]} are compared with the whole one before."
    )
