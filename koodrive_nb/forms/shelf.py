"""Records as a form shows them: their timeline, a table of many, a card of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from koodrive_nb import analysis, charts
from koodrive_nb.errors import KooDriveError
from koodrive_nb.forms.cards import card
from koodrive_nb.forms.form import Notice, described, row
from koodrive_nb.forms.plots import Plot
from koodrive_nb.forms.tables import PagedTable, record_rows

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    import pandas as pd
    import plotly.graph_objects as go

_MOST_CARDS = 5


class Shelf(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Shows one frame of records after the other.

    Up to five have a card each; of more there is a table, and the card of one, with buttons to go
    on and back and a field for its number.
    """

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._classified: pd.DataFrame | None = None
        self._place = 0
        self.notice = Notice()
        self._no_timeline = Notice()
        self.plot = Plot()
        self.table = PagedTable("Backup records")
        self.previous = described(widgets.Button(description="‹ Previous"), "Previous record")
        self.next = described(widgets.Button(description="Next ›"), "Next record")
        self.number = described(
            widgets.BoundedIntText(value=1, min=1, max=1, description="Record"),
            "Number of the record whose card is shown",
        )
        self._of = widgets.HTML()
        self._pager = row(self.number, self._of, self.previous, self.next)
        self._cards = widgets.HTML()
        self.previous.on_click(lambda _: self._open(self._place - 1))
        self.next.on_click(lambda _: self._open(self._place + 1))
        self.number.observe(lambda change: self._open(change["new"] - 1), "value")
        self.number.layout.width = "170px"
        for each in (self.previous, self.next):
            each.layout.width = "110px"
        self.plot.layout.display = "none"
        super().__init__(
            [self.notice, self._no_timeline, self.plot, self.table, self._pager, self._cards]
        )
        self._hide()

    @property
    def shown(self) -> str:
        """The markup of the cards that are shown."""
        return str(self._cards.value)

    def show(self, records: pd.DataFrame, note: str = "") -> None:
        """Show these records in place of those before, below a note about them."""
        self._hide()
        if records.empty:
            self.plot.layout.display = "none"
            return
        self.notice.say(note)
        try:
            self._classified = analysis.classify(records)
        except KooDriveError as error:
            self.notice.say(str(error), "error")
            self.plot.layout.display = "none"
            return
        self._draw(self._classified)
        n = len(records)
        self._place = 0
        if n <= _MOST_CARDS:
            self._cards.value = "".join(self._card(place) for place in range(n))
            return
        self.table.show(n, self._page)
        # The upper end first: a number above it would be cut to it.
        self.number.max = n
        self.number.value = 1
        self._of.value = f'<span class="koodrive-quiet">of {n:,}</span>'
        self._open(0)
        for part in (self.table, self._pager):
            part.layout.display = None

    def _hide(self) -> None:
        self._classified = None
        self._cards.value = ""
        self.notice.say("")
        self._no_timeline.say("")
        for part in (self.table, self._pager):
            part.layout.display = "none"

    def _draw(self, classified: pd.DataFrame) -> None:
        figure, why = self._timeline(classified)
        # Not hidden before: what is drawn out of sight has text without a size.
        self.plot.layout.display = None if figure is not None else "none"
        if figure is not None:
            self.plot.show(figure)
        self._no_timeline.say(why)

    def _timeline(self, classified: pd.DataFrame) -> tuple[go.Figure | None, str]:
        if classified["create_time"].isna().all():
            return None, "No timeline: none of these records has a creation time."
        try:
            return charts.timeline(classified, since=None, tz=self._zone.key), ""
        except KooDriveError as error:
            return None, f"No timeline: {error}"

    def _page(self, first: int, last: int) -> pd.DataFrame:
        assert self._classified is not None  # noqa: S101 -- the table asks only while it is shown
        rows = record_rows(self._classified.iloc[first:last], self._zone)
        rows.insert(0, "no.", [f"{place + 1:,}" for place in range(first, last)])
        return rows

    def _open(self, place: int) -> None:
        if self._classified is None or not 0 <= place < len(self._classified):
            return
        self._place = place
        self._cards.value = self._card(place)
        self.number.value = place + 1
        self.previous.disabled = place == 0
        self.next.disabled = place + 1 == len(self._classified)

    def _card(self, place: int) -> str:
        assert self._classified is not None  # noqa: S101 -- as above
        record: Any = self._classified.iloc[place].to_dict()
        return card(record, self._zone)
