"""Explore records: filter them, click through the figures, keep the code."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import pandas as pd

from koodrive_nb.analysis import arguments
from koodrive_nb.analysis.protection import EXPOSED
from koodrive_nb.analysis.selection import Question
from koodrive_nb.charts import theme
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.forms import tables
from koodrive_nb.forms.code_line import CodeLine
from koodrive_nb.forms.filters import Filters
from koodrive_nb.forms.form import Form, Notice, described, row
from koodrive_nb.forms.hands import handled, once
from koodrive_nb.forms.linked import Breakdown, Timeline
from koodrive_nb.forms.plots import Plot
from koodrive_nb.forms.saving import SaveRow
from koodrive_nb.forms.selector import Selector
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from koodrive_nb.analysis.arguments import StuckAfter

_OPENS_ON = {"since": "14D"}


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
        zone = self._selector.zone.key
        given = arguments.plain(as_of=as_of, stuck_after=stuck_after)
        # Where the line is run, another zone may be set.
        given["tz"] = zone if tz is not None or zone != "UTC" else None
        self._given = {k: v for k, v in given.items() if v is not None and v != "auto"}
        self._has_devices = devices is not None
        frame = self._selector.frame
        sources = sorted(frame["source"].dropna().astype(str).unique())
        known = {"source": " and ".join(sources)} if sources else {}
        self._about = frame.attrs.get(ATTRS, {}) | known | {"tz": self._selector.zone.key}
        asked = _written(Question.read(view or _OPENS_ON))
        super().__init__()
        self._selection: pd.DataFrame | None = None
        self._make_fields()
        self._make_views()
        self._fill(*self._parts())
        self._take(asked)

    @property
    def view(self) -> dict[str, Any]:
        """The keywords of `kd.analysis.select` that give what is shown."""
        return deepcopy(self._view)

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
        """Show a view; until everything of it is made, the former one stays."""
        question = Question.read(view)
        selector = self._selector
        mask = selector.fits(question)
        breakdown = Breakdown(selector, question, mask)
        timeline = Timeline(selector, question, mask)
        self._view = _written(question)
        self._question, self._mask, self._selection = question, mask, None
        self._breakdown, self._timeline = breakdown, timeline
        self.filters.show(question, self._view)
        self.breakdown.show(breakdown.figure)
        self.timeline.show(timeline.figure)
        self._draw_table()
        self.summary.say(self._summarised())
        self.notice.say("")
        self._code.show(self.code)

    def _make_fields(self) -> None:
        self.summary, self.notice = Notice(), Notice()
        self.buttons: dict[str, widgets.Button] = {}
        """The buttons of ready-made views, by what is written on them."""
        self._add_button("Stuck", "Backups that seem stuck, of all time", state="stuck")
        self._add_button(
            "Nothing for 7 days",
            "Records of devices without a completed backup in the last seven days",
            protection=list(EXPOSED),
        )
        self._add_button(
            "Never", "Records of devices that never completed a backup", protection="never"
        )
        self._add_button("This week", "Records from Monday on", since=self._monday())
        self._add_button("Reset", "Records of the last 14 days", **_OPENS_ON)
        self.filters = Filters(self._selector, handled(self._ask, self.notice))

    def _add_button(self, words: str, meaning: str, **view: Any) -> None:
        button = described(widgets.Button(description=words), meaning)

        def show(_: widgets.Button) -> None:
            self.filters.clear_searches()
            self._take(view)

        button.on_click(handled(show, self.notice))
        self.buttons[words] = button

    def _make_views(self) -> None:
        self.breakdown = Plot(on_click=once(handled(self._clicked_state, self.notice)))
        self.timeline = Plot(
            on_click=once(handled(self._clicked_time, self.notice)),
            on_span=handled(self._selected_span, self.notice),
        )
        self.records_table = tables.PagedTable("Records, worst first")
        self.devices_table = tables.PagedTable("Devices, worst first, whatever their records")
        self.table = widgets.ToggleButtons(options=["Records", "Devices"])
        described(self.table, "Which table to show")
        self.table.observe(lambda _: self._draw_table(), "value")
        self._code = CodeLine()
        self.saving = SaveRow(
            "backup_records", self._selector.zone.key, lambda: (self.selection, self.code)
        )

    def _parts(self) -> list[widgets.Widget]:
        beside = widgets.HBox([self.breakdown, self.timeline])
        beside.add_class("koodrive-beside")
        return [
            *(row(*self.buttons.values()), self.filters, self.notice, self.summary, beside),
            *(self.table, self.records_table, self.devices_table, self._code, self.saving),
        ]

    def _ask(self, name: str, value: Any) -> None:
        try:
            self._take(self._view | {name: value})
        except InvalidParameterError as error:
            self.filters.complain(name, str(error))

    def _clicked_state(self, trace: int, place: int, _x: Any, _y: Any) -> None:
        asked = self._breakdown.asked_by(trace, place)
        is_again = all(self._question.chosen.get(k) == [v] for k, v in asked.items())
        self._take(self._view | (dict.fromkeys(asked) if is_again else asked))

    def _clicked_time(self, _trace: int, _place: int, x: Any, y: Any) -> None:
        span = self._timeline.span_at(str(x))
        if span is not None:
            self._selected_span(*span)
            return
        device = self._timeline.device_at(float(y))
        if device is not None:
            is_again = self._question.chosen.get("device_id") == [device]
            self._take(self._view | {"device_id": None if is_again else device})

    def _selected_span(self, first: str, last: str) -> None:
        edges = pd.Timestamp(first).floor("min"), pd.Timestamp(last).ceil("min")
        since, until = (edge.isoformat(sep=" ", timespec="minutes") for edge in edges)
        self._take(self._view | {"since": since, "until": until})

    def _monday(self) -> str:
        now = self._selector.newest
        if not isinstance(now, pd.Timestamp):
            return str(_OPENS_ON["since"])
        local = now.tz_convert(self._selector.zone)
        return (local - pd.Timedelta(days=local.day_of_week)).date().isoformat()

    def _draw_table(self) -> None:
        selector = self._selector
        wants_records = self.table.value == "Records"
        self.records_table.layout.display = None if wants_records else "none"
        self.devices_table.layout.display = "none" if wants_records else None
        if wants_records:
            places = selector.worst_first[self._mask[selector.worst_first]]
            self.records_table.show(
                len(places),
                lambda first, last: tables.record_rows(
                    selector.frame.iloc[places[first:last]], selector.zone
                ),
            )
            return
        fitting = selector.devices[selector.devices_that_fit(self._question)]
        self.devices_table.show(
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


def _written(question: Question) -> dict[str, Any]:
    """Give what is asked as keywords that can be written in a line of code."""
    plain = arguments.plain(since=question.since, until=question.until, text=question.text)
    chosen = {
        name: words[0] if len(words) == 1 else list(words)
        for name, words in question.chosen.items()
    }
    return chosen | {name: value for name, value in plain.items() if value is not None}
