"""How old the newest completed backups are, and why there is none newer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb import analysis
from koodrive_nb.analysis.exposures import AGES
from koodrive_nb.analysis.rules import span, word
from koodrive_nb.charts import age_curve, judgements, theme
from koodrive_nb.charts.sketch import Sketch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import plotly.graph_objects as go

_ROW_PX = 36
_DENSE_ROW_PX = 19
_GUTTER_PX = 172
_BAR_ROWS = 0.76
_ROWS = (*AGES, "never")
_PARTS = {"protected": "within the RPO"} | {cause: word(cause) for cause in judgements.CAUSES}


@theme.chart_of(analysis.exposure, {"bucket", "age_to_h"}, {"age_h", "of"})
def exposure(table: pd.DataFrame) -> go.Figure:
    """Draw how many devices have a newest completed backup of what age, and why none newer.

    Takes records and the options of `kd.analysis.exposure`, or its table. Kind "buckets": one bar
    per age, divided by cause, with the shares on both sides of each edge, as they would be with an
    RPO there; a line at the RPO. Kind "curve": the share of devices by age, in steps. Of many
    groups the 12 with the most devices are drawn; the subtitle tells of the others.

    Raises:
        InvalidParameterError: It is neither, or an option is not what the analysis takes.
    """
    if "age_h" in table.columns:
        return age_curve.draw(table)
    about = theme.facts(table)
    keys = about.get("by") or list(table.columns[: table.columns.get_loc("bucket")])
    groups = _groups(table, keys)
    drawn = groups[: judgements.MOST_GROUPS]
    rpo_h = about.get("rpo_h")
    figure = Sketch()
    _draw_bars(figure, drawn, about)
    top = _top(drawn)
    row_px = _DENSE_ROW_PX if keys else _ROW_PX
    figure.lay_out(
        barmode="stack",
        legend={"traceorder": "normal"},
        xaxis={
            "title": {"text": f"share of {judgements.things(about)} in scope"},
            "range": [0, 100],
            "ticksuffix": " %",
        }
        if all(group.is_known for group in drawn)
        else {"title": {"text": judgements.things(about)}, "rangemode": "tozero"},
        yaxis={
            "range": [top - 0.5, -0.5],
            "showgrid": False,
            "zeroline": False,
            "tickmode": "array",
            "tickvals": [place for group in drawn for place, _ in group.ticks()],
            "ticktext": [text for group in drawn for _, text in group.ticks()],
        },
        shapes=[] if rpo_h is None else [_line(group.place_of(rpo_h)) for group in drawn],
        annotations=[note for group in drawn for note in _edges(group, rpo_h)],
    )
    exposed = float("nan")
    if all(group.is_known for group in groups):
        causes = table.loc[table["bucket"].isin(_ROWS), list(judgements.CAUSES)]
        exposed = float(causes.astype("float64").to_numpy().sum())
    in_scope = sum(group.of for group in groups)
    title = judgements.headline(exposed, in_scope, about)
    finished = theme.finish(
        figure,
        title,
        judgements.scope(about, [group.of for group in groups]),
        plot_px=24 + row_px * max(1, top),
        alt=f"{title}: bars by age and cause, from {about.get('n_records', 0):,} records.",
    )
    finished.layout.margin.r = _GUTTER_PX
    return finished


@dataclass(frozen=True, slots=True)
class _Group:
    """The buckets of one group, and the row that its bars begin in."""

    name: str
    first: int
    rows: pd.DataFrame
    of: int
    is_known: bool

    @property
    def exposed(self) -> float:
        """Give how many in scope are older than the RPO; NaN: not known."""
        causes = self.rows[list(judgements.CAUSES)].astype("float64")
        return float(causes.to_numpy().sum()) if self.is_known else float("nan")

    def counts(self, part: str) -> list[float]:
        """Count the devices of each bucket that are protected, or are not for one cause."""
        causes = self.rows[list(judgements.CAUSES)].astype("float64")
        if part != "protected":
            return list(causes[part])
        return list(self.rows["n"].astype("float64") - causes.sum(axis=1))

    def placed(self) -> list[tuple[int, Any]]:
        """Give the place of each bucket, and its numbers."""
        return list(enumerate(self.rows.itertuples(index=False), self.first))

    def ticks(self) -> list[tuple[int, str]]:
        """Label the rows, with the name of the group above them."""
        labels = []
        for place, row in self.placed():
            n, share = row.n, row.share
            if pd.isna(n):
                text = "not known"
            elif pd.isna(share) or not n:
                text = f"{n:,}"
            else:
                text = f"{n:,} · {100 * share:.1f} %"
            labels.append((place, f"<b>{bucket(str(row.bucket))}</b>  {text}"))
        if not self.name:
            return labels
        of = f"  {self.of:,} in scope" if self.is_known else ""
        return [(self.first - 1, f"<b>{self.name}</b>{of}"), *labels]

    def place_of(self, age_h: float) -> float:
        """Give the place of an age among the rows."""
        for place, row in self.placed():
            if pd.notna(row.age_to_h) and age_h <= row.age_to_h:
                low, high = row.age_from_h, row.age_to_h
                return float(place - 0.5 + (age_h - low) / (high - low))
        return self.first + len(AGES) - 1


def bucket(name: str) -> str:
    """Write a bucket without signs that plotly would read as markup."""
    return name.replace("<=", "≤ ").replace(">", "over ").replace("-", "–")


def _groups(table: pd.DataFrame, keys: list[str]) -> list[_Group]:
    """Take the table apart, the group with the most devices first."""
    judged = table[table["bucket"].isin(_ROWS)]
    parts: Iterable[Any] = judged.groupby(keys, dropna=False, observed=True) if keys else []
    named = [(theme.group(values, keys), part) for values, part in parts]
    found = [_Group(name, 0, part, *_scope(part)) for name, part in named or [("", judged)]]
    # Of unbound devices nothing is drawn.
    found = [group for group in found if group.of or not group.name] or found[:1]
    found.sort(key=lambda group: -group.of)
    height = len(_ROWS) + bool(keys)
    return [
        _Group(group.name, at * height + bool(keys), group.rows, group.of, group.is_known)
        for at, group in enumerate(found)
    ]


def _scope(part: pd.DataFrame) -> tuple[int, bool]:
    of = part["of"].dropna()
    return (int(of.iloc[0]), True) if len(of) else (int(part["n"].fillna(0).sum()), False)


def _top(groups: list[_Group]) -> int:
    return groups[-1].first + len(_ROWS) if groups else 1


def _draw_bars(figure: Sketch, groups: list[_Group], about: Mapping[str, Any]) -> None:
    things = judgements.things(about)
    judging: dict[bool, list[_Group]] = {True: [], False: []}
    for group in groups:
        judging[group.of >= judgements.FEW].append(group)
    for part, name in _PARTS.items():
        for is_judged, members in judging.items():
            if not members:
                continue
            x, y, customdata = [], [], []
            for group in members:
                for (place, row), count in zip(group.placed(), group.counts(part), strict=True):
                    if not count > 0:
                        continue
                    share = 100 * count / group.of if group.is_known else float("nan")
                    x.append(round(share, 3) if group.is_known else int(count))
                    y.append(place)
                    where = f"{group.name} {bucket(str(row.bucket))}".strip()
                    of = f" of {group.of:,} {things}, {share:.1f} %"
                    customdata.append(
                        [where, f"{count:,.0f}" + (of if group.is_known else f" {things}")]
                    )
            figure.add_bar(
                orientation="h",
                name=name,
                legendgroup=part,
                showlegend=is_judged or not judging[True],
                x=x,
                y=y,
                # Left to plotly, bars would be as high as the rows that are empty.
                width=_BAR_ROWS,
                marker=judgements.fill(part, is_judged=is_judged)
                | {"line": {"color": "#FFFFFF", "width": 1}},
                customdata=customdata,
                hovertemplate=f"<b>%{{customdata[0]}}</b><br>{name}: %{{customdata[1]}}"
                "<extra></extra>",
            )


def _line(y: float) -> dict[str, Any]:
    """Part what is protected from what is exposed."""
    line = {"color": theme.INK, "width": 1.5, "dash": "dash"}
    place = {"xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y}
    return {"type": "line", "line": line} | place


def _edges(group: _Group, rpo_h: float | None) -> list[dict[str, Any]]:
    """Write at each edge of age which share is newer, and which is older or has none."""
    at_rpo = None if rpo_h is None else group.place_of(rpo_h)
    notes = []
    for place, row in group.placed():
        y = place + 0.5
        if pd.isna(row.cumulative_share) or pd.isna(row.age_to_h):
            continue
        if at_rpo is None or abs(y - at_rpo) > 0.7:  # noqa: PLR2004 -- of a row, as high as text
            notes.append(_note(y, f"≤ {span(3600 * row.age_to_h)}", row.cumulative_share))
    if at_rpo is not None and rpo_h is not None:
        share = 1 - group.exposed / group.of if group.of else float("nan")
        words = f"RPO {span(3600 * rpo_h)}"
        notes.append(_note(at_rpo, f"<b>{words}</b>", share))
    return notes


def _note(y: float, edge: str, share: float) -> dict[str, Any]:
    shares = f": {judgements.percent(share)} · older {judgements.percent(1 - share)}"
    place = {"xref": "paper", "x": 1, "xanchor": "left", "xshift": 6, "y": y, "yanchor": "middle"}
    text = edge if pd.isna(share) else f"{edge}{shares}"
    return place | {"text": text, "showarrow": False, "font": {"size": 11, "color": theme.INK}}
