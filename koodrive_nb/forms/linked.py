"""The two figures of the explorer, and what a click in them asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from koodrive_nb import analysis, charts
from koodrive_nb.analysis.rules import STATES
from koodrive_nb.charts.time_axis import TimeAxis
from koodrive_nb.charts.timelines import rows_of
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from koodrive_nb.analysis.selection import Question
    from koodrive_nb.forms.selector import Mask, Selector

MAX_LANES = 12
_FLOW_ABOVE_DEVICES = 1_000
_ASKED_BY_STATUS = ("module", "state")


class Breakdown:
    """How many records are in which state, of all that is asked but module and state.

    Those two are what a click in it asks for: what fits them is bright, the rest is faint.
    """

    def __init__(self, selector: Selector, question: Question, mask: Mask) -> None:
        asked = question.chosen
        is_clicked = bool(asked.keys() & set(_ASKED_BY_STATUS))
        if is_clicked:
            mask = selector.fits(question, without=_ASKED_BY_STATUS)
        self.table = analysis.status_breakdown(selector.part(mask), tz=selector.zone.key)
        for name, edge in zip(("since", "until"), selector.window(question), strict=True):
            if edge is not None:
                self.table.attrs[ATTRS][name] = edge.isoformat()
        self.figure: go.Figure = charts.status_breakdown(self.table)
        if is_clicked:
            modules = self.table["module"].isin(asked.get("module", self.table["module"]))
            bright = [int(place) for place in np.flatnonzero(modules)]
            for state, trace in zip(STATES, self.figure.data, strict=True):
                trace.selectedpoints = bright if state in asked.get("state", STATES) else []
                trace.unselected = {"marker": {"opacity": 0.25}}

    def asked_by(self, trace: int, place: int) -> dict[str, str]:
        """Tell which module and state a click on a bar asks for."""
        return {"module": str(self.table["module"].iloc[place]), "state": STATES[trace]}


class Timeline:
    """When the devices of a selection backed up, or for many devices how much they did.

    Gaps are those of all records of a device and of the modules asked for: what is left out by
    state, time or text completed none the less.
    """

    def __init__(self, selector: Selector, question: Question, mask: Mask) -> None:
        self._selector = selector
        first, end = selector.window(question)
        window: dict[str, Any] = {"since": first, "until": end, "tz": selector.zone.key}
        candidates = selector.devices_in(mask)
        if question.chosen.keys() - set(_ASKED_BY_STATUS):
            # Asked for by what they are, devices without any record show that they have none.
            candidates |= selector.devices_that_fit(question) & ~selector.has_records
        chosen = np.flatnonzero(candidates)
        if len(chosen) > _FLOW_ABOVE_DEVICES:
            self.table = analysis.activity(selector.part(mask), **window)
            self.figure: go.Figure = charts.activity(self.table)
        else:
            self.table = self._lanes(question, mask, chosen, window)
            self.figure = charts.timeline(self.table)

    def _lanes(
        self, question: Question, mask: Mask, chosen: np.ndarray[Any, Any], window: dict[str, Any]
    ) -> pd.DataFrame:
        selector = self._selector
        drawn = np.zeros(len(selector.devices) + 1, dtype=bool)
        drawn[chosen[:MAX_LANES]] = True
        is_drawn = drawn[selector.device_numbers]
        asked = question.chosen
        of_modules = selector.narrow["module"].isin(asked["module"]) if "module" in asked else True
        records = selector.narrow[is_drawn & of_modules]
        silent = chosen[:MAX_LANES][~selector.has_records[chosen[:MAX_LANES]]]
        table = analysis.timeline(
            records, devices=selector.listed(silent), max_lanes=MAX_LANES, **window
        )
        kept = selector.narrow["record_id"][is_drawn & mask]
        shown = table[(table["kind"] != "backup") | table["record_id"].isin(kept)]
        about = table.attrs[ATTRS] | {"n_lanes_left_out": max(0, len(chosen) - MAX_LANES)}
        shown.attrs[ATTRS] = about
        return shown

    def device_at(self, y: float) -> str | None:
        """Tell which device a click at a height asks for."""
        if "lane" not in self.table.columns:
            return None
        rows = rows_of(self.table)
        place = round(y)
        if not 0 <= place < len(rows):
            return None
        lane = self.table[self.table["lane"] == rows[place][0]]
        device = lane["device_id"].iloc[0]
        return None if pd.isna(device) else str(device)

    def span_at(self, x: str) -> tuple[str, str] | None:
        """Tell which time a click in a flow asks for."""
        if "bin_start" not in self.table.columns:
            return None
        bins = self.table[["bin_start", "bin_end"]].drop_duplicates()
        starts = TimeAxis(bins, self._selector.zone).local(bins["bin_start"])
        place = int(starts.searchsorted(pd.Timestamp(x), side="right")) - 1
        if place < 0:
            return None
        edges = (bins[name].iloc[place] for name in ("bin_start", "bin_end"))
        first, end = (edge.tz_convert(self._selector.zone).isoformat() for edge in edges)
        return first, end
