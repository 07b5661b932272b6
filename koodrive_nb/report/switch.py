"""A figure for all modules, and in a report one for each of them, without a kernel."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from koodrive_nb import analysis
from koodrive_nb.analysis.rules import MODULE_LABELS, word
from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import plotly.graph_objects as go

VARIABLE = "KOODRIVE_REPORT"
PLOTLY = "application/vnd.plotly.v1+json"
MIME = "application/vnd.koodrive-nb.modules+json"
MODULES: Mapping[str, str] = {
    name: word(name).capitalize() for name in MODULE_LABELS if name != "unknown"
}


def by_module(
    chart: Callable[..., go.Figure], records: Any, *others: Any, **keywords: Any
) -> Switch:
    """Draw a chart of all modules; in a report, the reader may choose one of them.

    `chart` is called as `chart(records, *others, **keywords)`, such as `kd.charts.exposure` with
    devices. All such figures of a report follow one control. Records are classified before they
    are divided, so that the choice changes no state.

    Raises:
        InvalidParameterError: `chart` is no chart, or takes other arguments.
    """
    if not callable(chart):
        raise InvalidParameterError(
            "by_module() takes a chart, as in by_module(kd.charts.timeline, records)."
        )
    classified = analysis.classify(records)
    figures = {"all": chart(classified, *others, **keywords)}
    if os.environ.get(VARIABLE):
        figures |= {
            module: chart(analysis.select(classified, module=module), *others, **keywords)
            for module in MODULES
        }
    return Switch(figures)


class Switch:
    """A figure of all modules, and where a report is made, those that can take its place."""

    def __init__(self, figures: Mapping[str, go.Figure]) -> None:
        self._figures = figures

    def __repr__(self) -> str:
        return "A figure of all modules; in a report, of each one"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        drawn = {name: json.loads(figure.to_json()) for name, figure in self._figures.items()}
        whole = drawn.pop("all")
        more = {MIME: drawn} if drawn else {}
        return {PLOTLY: whole, "text/plain": repr(self)} | more
