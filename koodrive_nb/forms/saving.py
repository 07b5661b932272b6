"""Saving what a form shows to a file, whose suffix says the format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import ipywidgets as widgets

from koodrive_nb import export
from koodrive_nb.charts import theme
from koodrive_nb.forms.form import Notice, described, row
from koodrive_nb.forms.hands import handled, in_order

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

_FORMATS = {"CSV": ".csv", "Excel": ".xlsx", "Parquet": ".parquet", "JSON lines": ".jsonl"}


class SaveRow(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A file name, its format, and a button; `what` gives the frame and the line that makes it."""

    def __init__(
        self, stem: str, tz: str, what: Callable[[], tuple[pd.DataFrame, str | None]]
    ) -> None:
        self._what, self._tz = what, tz
        self.name = described(
            widgets.Text(value=f"{stem}.csv", description="Save as"),
            "File to write, in the folder of this notebook unless it names another",
        )
        self.format = described(
            widgets.Dropdown(options=list(_FORMATS.items()), value=".csv", description="Format"),
            "Format of the file",
        )
        self.button = described(
            widgets.Button(description="Save", icon="download"), "Write the file"
        )
        self.notice = Notice()
        self.format.observe(self._take_format, "value")
        self.name.observe(self._take_suffix, "value")
        save = handled(self._save, self.notice, self.button)
        self.button.on_click(in_order(save, self.name, self.format))
        super().__init__([row(self.name, self.format, self.button), self.notice])

    def _take_format(self, change: dict[str, str]) -> None:
        path = Path(self.name.value or "records")
        if path.suffix.lower() != change["new"]:
            known = path.suffix.lower() in _FORMATS.values()
            self.name.value = str(path.with_suffix("") if known else path) + change["new"]

    def _take_suffix(self, change: dict[str, str]) -> None:
        suffix = Path(change["new"]).suffix.lower()
        if suffix in _FORMATS.values():
            self.format.value = suffix

    def _save(self, _: widgets.Button) -> None:
        frame, made = self._what()
        self.notice.say("Writing the file…")
        path = export.write(frame, self.name.value.strip(), tz=self._tz, made=made)
        self.notice.say(f"Saved {theme.counted(len(frame), 'row')} to {path}.", "done")
