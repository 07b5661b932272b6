"""Explore records: filter them, click through the figures, keep the code."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import pandas as pd

from koodrive_nb.analysis.selection import Question
from koodrive_nb.charts import theme
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.forms import tables
from koodrive_nb.forms.filters import Filters
from koodrive_nb.forms.form import Form, Notice, described, row
from koodrive_nb.forms.linked import Breakdown, Timeline
from koodrive_nb.forms.plots import Plot
from koodrive_nb.forms.saving import SaveRow
from koodrive_nb.forms.selector import Selector
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from koodrive_nb.analysis.arguments import StuckAfter

_OPENS_ON = {"since": "14D"}
_EXPOSED = ("never", "deleting", "outdated", "late")


class Explorer(Form):
    """Filters records and shows them as figures and tables, each of which filters the others.

    `records` are classified once, before any filter. With `devices`, those that never made a record
    are there too. Further keywords are those of `kd.analysis.select`, and are what the form opens
    on; left out, that is the last 14 days. `.selection` is the result, `.code` the line that gives
    the same without the form.

    Raises:
        InvalidParameterError: The records are no pandas frame, columns are missing, or a keyword is
            not what `kd.analysis.select` takes.
    """

    def __init__(
        self,
        records: pd.DataFrame,
        devices: pd.DataFrame | None = None,
        *,
        as_of: object = None,
        tz: str | None = None,
        stuck_after: StuckAfter = "auto",
        **view: Any,
    ) -> None:
        self._selector = Selector(records, devices, as_of=as_of, tz=tz, stuck_after=stuck_after)
        given = {"as_of": as_of, "tz": tz, "stuck_after": stuck_after}
        self._given = {k: v for k, v in given.items() if v is not None and v != "auto"}
        self._has_devices = devices is not None
        frame = self._selector.frame
        sources = sorted(frame["source"].dropna().astype(str).unique())
        known = {"source": " and ".join(sources)} if sources else {}
        self._about = frame.attrs.get(ATTRS, {}) | known | {"tz": self._selector.zone.key}
        view = view or _OPENS_ON
        self._question = Question.read(**view)
        super().__init__()
        self._selection: pd.DataFrame | None = None
        self._make_fields()
        self._make_views()
        self._fill(*self._parts())
        self._take(view)

    @property
    def view(self) -> dict[str, Any]:
        """The keywords of `kd.analysis.select` that give what is shown."""
        return dict(self._view)

    @property
    def selection(self) -> pd.DataFrame:
        """The records that fit, classified, as `kd.analysis.select` gives them."""
        if self._selection is None:
            self._selection = self._selector.take(self._mask)
        return self._selection

    @property
    def code(self) -> str:
        """The line that gives the same frame, of variables named records and devices."""
        asked: dict[str, Any] = self._view | self._given
        named = [f"{name}={value!r}" for name, value in asked.items()]
        if self._has_devices and self._view.keys() & {"protection", "cause"}:
            named.insert(0, "devices=devices")
        return f"kd.analysis.select({', '.join(['records', *named])})"

    def filter(self, **changes: Any) -> None:
        """Change some of what is asked, by the keywords of `kd.analysis.select`; None drops one.

        Raises:
            InvalidParameterError: A keyword is not what `kd.analysis.select` takes.
        """
        self._take(self._view | changes)

    def reset(self, **view: Any) -> None:
        """Ask for this and nothing else; without keywords for what the form opens on by itself.

        Raises:
            InvalidParameterError: A keyword is not what `kd.analysis.select` takes.
        """
        self._take(view or _OPENS_ON)

    def _take(self, view: Mapping[str, Any]) -> None:
        view = {name: value for name, value in view.items() if value is not None}
        question = Question.read(**view)
        self._selector.window(question)
        self._view, self._question = view, question
        self.filters.show(question, view)
        self._draw()

    # What the form is made of.

    def _make_fields(self) -> None:
        self.buttons: dict[str, widgets.Button] = {}
        """The buttons of ready-made views, by what is written on them."""
        self._add_button("Stuck", "Backups that seem stuck, of all time", state="stuck")
        self._add_button(
            "Nothing for 7 days",
            "Records of devices without a completed backup in the last seven days",
            protection=list(_EXPOSED),
        )
        self._add_button(
            "Never", "Records of devices that never completed a backup", protection="never"
        )
        self._add_button("This week", "Records from Monday on", since=self._monday())
        self._add_button("Reset", "Records of the last 14 days", **_OPENS_ON)
        self.filters = Filters(self._selector, self._ask)

    def _add_button(self, words: str, meaning: str, **view: Any) -> None:
        button = described(widgets.Button(description=words), meaning)
        button.on_click(lambda _: self._try(view))
        self.buttons[words] = button

    def _make_views(self) -> None:
        self.summary = Notice()
        self.breakdown = Plot(on_click=self._clicked_state)
        self.timeline = Plot(on_click=self._clicked_time, on_span=self._selected_span)
        self.records = tables.PagedTable("Records, worst first")
        self.devices = tables.PagedTable("Devices, worst first, whatever their records")
        self._table = widgets.ToggleButtons(options=["Records", "Devices"])
        described(self._table, "Which table to show")
        self._table.observe(lambda _: self._draw_table(), "value")
        self._code = widgets.HTML()
        self.saving = SaveRow(
            "backup_records", self._selector.zone.key, lambda: (self.selection, self.code)
        )

    def _parts(self) -> list[widgets.Widget]:
        beside = widgets.HBox([self.breakdown, self.timeline])
        beside.add_class("koodrive-beside")
        return [
            *(row(*self.buttons.values()), self.filters, self.summary, beside),
            *(self._table, self.records, self.devices, self._code, self.saving),
        ]

    # What a hand does.

    def _ask(self, name: str, value: Any) -> None:
        self._try(self._view | {name: value}, name)

    def _try(self, view: Mapping[str, Any], name: str | None = None) -> None:
        """Show a view that a hand asked for; what is wrong with it is said beside its field."""
        try:
            self._take(view)
        except InvalidParameterError as error:
            if name is None:
                self.summary.say(str(error), "error")
            else:
                self.filters.complain(name, str(error))

    def _clicked_state(self, trace: int, place: int, _x: Any, _y: Any) -> None:
        asked = self._breakdown.asked_by(trace, place)
        is_again = all(self._question.chosen.get(k) == [v] for k, v in asked.items())
        self._try(self._view | (dict.fromkeys(asked) if is_again else asked))

    def _clicked_time(self, _trace: int, _place: int, x: Any, y: Any) -> None:
        span = self._timeline.span_at(str(x))
        if span is not None:
            self._selected_span(*span)
            return
        device = self._timeline.device_at(float(y))
        if device is not None:
            is_again = self._question.chosen.get("device_id") == [device]
            self._try(self._view | {"device_id": None if is_again else device})

    def _selected_span(self, first: str, last: str) -> None:
        edges = pd.Timestamp(first).floor("min"), pd.Timestamp(last).ceil("min")
        since, until = (edge.isoformat(sep=" ", timespec="minutes") for edge in edges)
        self._try(self._view | {"since": since, "until": until})

    def _monday(self) -> str:
        now = self._selector.newest
        if not isinstance(now, pd.Timestamp):
            return str(_OPENS_ON["since"])
        local = now.tz_convert(self._selector.zone)
        return (local - pd.Timedelta(days=local.day_of_week)).date().isoformat()

    # What is shown.

    def _draw(self) -> None:
        selector, question = self._selector, self._question
        self._selection = None
        self._mask = selector.fits(question)
        self._breakdown = Breakdown(selector, question, self._mask)
        self._timeline = Timeline(selector, question, self._mask)
        self.breakdown.show(self._breakdown.figure)
        self.timeline.show(self._timeline.figure)
        self._draw_table()
        self.summary.say(self._summarised())
        self._code.value = _code_html(self.code)

    def _draw_table(self) -> None:
        selector = self._selector
        wants_records = self._table.value == "Records"
        self.records.layout.display = None if wants_records else "none"
        self.devices.layout.display = "none" if wants_records else None
        if wants_records:
            places = selector.worst_first[self._mask[selector.worst_first]]
            self.records.show(
                len(places),
                lambda first, last: tables.record_rows(
                    selector.frame.iloc[places[first:last]], selector.zone
                ),
            )
            return
        fitting = selector.devices[selector.devices_that_fit(self._question)]
        self.devices.show(
            len(fitting),
            lambda first, last: tables.device_rows(fitting.iloc[first:last], selector.zone),
        )

    def _summarised(self) -> str:
        selector = self._selector
        n, total = int(self._mask.sum()), len(selector.frame)
        n_devices = int(selector.devices_in(self._mask).sum())
        first, end = selector.window(self._question)
        edges = {
            "since": first if first is not None else selector.oldest,
            "until": end if end is not None else selector.newest,
        }
        about = self._about | {k: v.isoformat() for k, v in edges.items() if pd.notna(v)}
        return (
            f"{n:,} of {theme.counted(total, 'record')} on {theme.counted(n_devices, 'device')} · "
            f"{theme.window(about)} · {theme.provenance(about)}"
        )

    def _facts(self) -> str:
        asked = "".join(f", {name}={value!r}" for name, value in self._view.items())
        return f"{int(self._mask.sum()):,} of {len(self._selector.frame):,} records{asked}"


def _code_html(code: str) -> str:
    # The button copies what is written before it; without it, a click selects the whole line.
    return (
        f'<div class="koodrive-code"><code>{html.escape(code)}</code>'
        '<button class="jupyter-button" title="Copy this line" '
        'onclick="navigator.clipboard.writeText(this.previousElementSibling.textContent)">'
        "Copy</button></div>"
    )
