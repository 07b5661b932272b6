"""Tables in forms: a page at a time, every text escaped."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import pandas as pd

from koodrive_nb.analysis.rules import span, word
from koodrive_nb.charts import theme
from koodrive_nb.forms.form import described, row
from koodrive_nb.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from zoneinfo import ZoneInfo

PAGE_ROWS = 20
_TEXT_CHARACTERS = 60
_MISSING = "–"


class PagedTable(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A table of which one page is shown, with buttons to go on and back."""

    def __init__(self, caption: str) -> None:
        self._caption = caption
        self._n = self._first = 0
        self._page: Callable[[int, int], pd.DataFrame] = lambda _, __: pd.DataFrame()
        self._body = widgets.HTML()
        self._place = widgets.HTML()
        self.previous = described(
            widgets.Button(description="‹ Previous"), f"Previous page of {caption}"
        )
        self.next = described(widgets.Button(description="Next ›"), f"Next page of {caption}")
        self.previous.on_click(lambda _: self._turn(-PAGE_ROWS))
        self.next.on_click(lambda _: self._turn(PAGE_ROWS))
        self._pager = row(self.previous, self.next, self._place)
        super().__init__([self._body, self._pager])

    def show(self, n: int, page: Callable[[int, int], pd.DataFrame]) -> None:
        """Show the first page of a table of `n` rows; `page` gives those from one to another.

        The cells it gives are markup: make them by `text`, `moment`, `state` and the like.
        """
        self._n, self._page, self._first = n, page, 0
        self._draw()

    def _turn(self, by: int) -> None:
        if 0 <= self._first + by < self._n:
            self._first += by
            self._draw()

    def _draw(self) -> None:
        last = min(self._first + PAGE_ROWS, self._n)
        rows = self._page(self._first, last) if self._n else None
        self._body.value = table_html(self._caption, rows)
        self._place.value = (
            f'<span class="koodrive-quiet">rows {self._first + 1:,} to {last:,} of {self._n:,}'
            "</span>"
        )
        self.previous.disabled = self._first == 0
        self.next.disabled = last >= self._n
        self._pager.layout.display = None if self._n > PAGE_ROWS else "none"

    @property
    def shown(self) -> str:
        """The markup of the page that is shown."""
        return str(self._body.value)


def table_html(caption: str, rows: pd.DataFrame | None) -> str:
    """Write a table whose cells are markup already."""
    # Wide tables scroll: that a keyboard can do it, they take the focus.
    name = html.escape(caption, quote=True)
    opening = f'<div class="koodrive-scroll" tabindex="0" role="region" aria-label="{name}">'
    if rows is None or rows.empty:
        return f'{opening}<span class="koodrive-quiet">{name}: none</span></div>'
    head = "".join(f'<th scope="col">{html.escape(str(column))}</th>' for column in rows.columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows.to_numpy()
    )
    return (
        f"{opening}<table><caption>{name}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def text(value: Any, limit: int = _TEXT_CHARACTERS) -> str:
    """Write text of the service as markup that shows it as it is; what is missing as a dash."""
    if pd.isna(value):
        return _MISSING
    # Set apart, a name that is written from right to left leaves its neighbours alone.
    return f"<bdi>{html.escape(one_line(value, limit))}</bdi>"


def moment(stamp: Any, zone: ZoneInfo) -> str:
    """Write an instant in a zone, with its offset where that can change."""
    if pd.isna(stamp):
        return _MISSING
    text = f"{stamp.tz_convert(zone):%Y-%m-%d %H:%M:%S}"
    return text if zone.key == "UTC" else f"{text} {theme.offset(stamp, zone)}"


def length(seconds: Any) -> str:
    """Write a duration of seconds."""
    return _MISSING if pd.isna(seconds) else span(float(seconds))


def state(value: Any, reason: Any = None) -> str:
    """Write a state with the mark that figures give it, and why it is stuck."""
    if pd.isna(value):
        return _MISSING
    colour = theme.COLOURS.get(str(value), theme.QUIET)
    why = f" ({html.escape(str(reason))})" if isinstance(reason, str) else ""
    return (
        f'<span class="koodrive-mark" style="background:{colour}"></span>'
        f"{html.escape(word(str(value)))}{why}"
    )


def record_rows(records: pd.DataFrame, zone: ZoneInfo) -> pd.DataFrame:
    """Write classified records as the rows of a table."""
    rows: Any = records.itertuples()
    return pd.DataFrame([_record_row(row, zone) for row in rows])


def _record_row(row: Any, zone: ZoneInfo) -> Mapping[str, str]:
    return {
        "state": state(row.state, row.stuck_reason),
        "device": text(row.device_label),
        "module": text(word(str(row.module))),
        f"created ({zone.key})": moment(row.create_time, zone),
        "ended": moment(row.end_time, zone),
        "duration": length(row.duration_s),
        "record id": text(row.record_id),
        "user id": text(row.user_id),
    }


def device_rows(devices: pd.DataFrame, zone: ZoneInfo) -> pd.DataFrame:
    """Write devices, with what `kd.analysis.protection_status` says of them, as rows of a table."""
    rows: Any = devices.itertuples()
    return pd.DataFrame([_device_row(row, zone) for row in rows])


def _device_row(row: Any, zone: ZoneInfo) -> Mapping[str, str]:
    age = row.rpo_age_h
    return {
        "protection": text(word(str(row.protection))) if pd.notna(row.protection) else "not judged",
        "cause": text(word(str(row.cause))) if pd.notna(row.cause) else "",
        "device": text(row.device_label),
        "system": text(row.os_family),
        "age of newest completed": _MISSING if pd.isna(age) else span(float(age) * 3600),
        f"newest completed ({zone.key})": moment(row.last_completed_time, zone),
        "stuck in a row": _MISSING if pd.isna(row.stuck_in_a_row) else f"{row.stuck_in_a_row:,.0f}",
        "device id": text(row.device_id),
        "user id": text(row.user_id),
    }
