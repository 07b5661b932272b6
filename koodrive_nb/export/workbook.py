"""An Excel workbook of a frame: text that stays text, real dates, and how it was made."""

from __future__ import annotations

import tempfile
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from koodrive_nb.errors import ConfigurationError, InvalidParameterError
from koodrive_nb.export import values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from zoneinfo import ZoneInfo

_MOST_ROWS = 1_048_576
_MOST_COLUMNS = 16_384
_MOST_CHARACTERS = 32_767
_WHOLE_DIGITS = 10**15
_FIRST_DATE = pd.Timestamp("1900-03-02")
"""Excel takes 1900 for a leap year: only from here on does everyone read its dates the same. One
day in, as at the other end, so that no zone carries an instant out."""
_LAST_DATE = pd.Timestamp("9999-12-31")
_DAY_MS = 86_400_000
_UNIX_EPOCH = 25_569
"""The day 1970-01-01, as Excel counts days."""
_DATE_FORMAT = "yyyy-mm-dd hh:mm:ss"
_CREATED = datetime(2000, 1, 1, tzinfo=UTC)
"""Of the workbook, so that the same frame gives the same file."""
_ROWS_AT_A_TIME = 20_000
_NARROWEST, _WIDEST = 10, 60
_MEASURED = 200


@dataclass(slots=True)
class _Column:
    """A column of the sheet; `zone` is set where the cells are dates."""

    name: str
    source: pa.Array
    zone: ZoneInfo | None = None
    is_date: bool = False


@dataclass(slots=True)
class _Sheet:
    """A worksheet that is filled from top to bottom, and how many cells were cut to fit."""

    sheet: Any
    cut: int = 0
    widths: dict[int, int] = field(default_factory=dict)

    def text(self, row: int, column: int, value: str, style: Any = None) -> None:
        fitted = _fitted(value)
        self.cut += fitted is not value
        if fitted.startswith("<r>") and fitted.endswith("</r>"):
            # xlsxwriter would put it into the file as it is, formulas and all; not so in parts.
            self.sheet.write_rich_string(row, column, fitted[0], fitted[1], fitted[2:])
        else:
            self.sheet.write_string(row, column, fitted, style)

    def header(self, names: Sequence[str], style: Any, last_row: int) -> None:
        for place, name in enumerate(names):
            self.text(0, place, name, style)
            self.widths[place] = len(name) + 3
        self.sheet.freeze_panes(1, 0)
        if names:
            self.sheet.autofilter(0, 0, last_row, len(names) - 1)

    def set_widths(self) -> None:
        for place, width in self.widths.items():
            self.sheet.set_column(place, place, min(max(width, _NARROWEST), _WIDEST))


def check(table: pd.DataFrame) -> None:
    """Check that there is a library for workbooks, and that the rows fit a worksheet.

    Raises:
        ConfigurationError: There is no library.
        InvalidParameterError: There are too many rows.
    """
    _library()
    _check_size(len(table), len(table.columns))


def _check_size(n_rows: int, n_columns: int) -> None:
    if n_rows >= _MOST_ROWS or n_columns > _MOST_COLUMNS:
        raise InvalidParameterError(
            f"{n_rows} rows of {n_columns} columns do not fit: a worksheet holds "
            f"{_MOST_ROWS - 1} rows and {_MOST_COLUMNS} columns; write to a .parquet file, or "
            "select fewer."
        )


def write_workbook(
    table: pd.DataFrame,
    file: BinaryIO,
    zone: ZoneInfo,
    tell: Callable[[int], list[tuple[str, str]]],
) -> None:
    """Write the rows and, on a second sheet, what `tell` says of them and of so many cut cells.

    Raises:
        InvalidParameterError: There are too many columns, or the workbook would be over 4 GB.
    """
    library = _library()
    # Rows wait there, and what an interrupted call leaves goes with it.
    with tempfile.TemporaryDirectory() as folder:
        book = library.Workbook(file, {"constant_memory": True, "tmpdir": folder})
        try:
            _fill(book, table, zone, tell)
            book.close()
        except library.exceptions.XlsxFileError as error:
            cause = error.__context__
            # What holds the half-made archive would close it after its file.
            traceback.clear_frames(cause.__traceback__)
            if isinstance(cause, OSError):
                raise cause from None
            raise InvalidParameterError(
                "The workbook would be over 4 GB: write to a .parquet file, or select fewer."
            ) from None
        finally:
            for sheet in book.worksheets():
                # What is full cannot be flushed either.
                with suppress(OSError):
                    sheet.row_data_fh.close()


def _fill(
    book: Any, table: pd.DataFrame, zone: ZoneInfo, tell: Callable[[int], list[tuple[str, str]]]
) -> None:
    book.set_properties({"created": _CREATED})
    bold = book.add_format({"bold": True})
    date = book.add_format({"num_format": _DATE_FORMAT})
    columns = [column for name in table.columns for column in _columns(name, table[name], zone)]
    _check_size(len(table), len(columns))
    data = _Sheet(book.add_worksheet("data"))
    data.header([column.name for column in columns], bold, len(table))
    for start in range(0, len(table), _ROWS_AT_A_TIME):
        _write_rows(data, columns, start, date)
    data.set_widths()
    told = tell(data.cut)
    about = _Sheet(book.add_worksheet("how this was made"))
    about.header(["fact", "value"], bold, len(told))
    for row, pair in enumerate(told, 1):
        for place, value in enumerate(map(values.text, pair)):
            about.text(row, place, value)
            about.widths[place] = max(about.widths[place], len(value) + 1)
    about.set_widths()


def _library() -> Any:
    try:
        import xlsxwriter  # noqa: PLC0415 -- an optional extra
        import xlsxwriter.exceptions  # noqa: PLC0415 -- as above
    except ImportError:
        raise ConfigurationError(
            "Excel workbooks need xlsxwriter: pip install 'koodrive_nb[report]'"
        ) from None
    return xlsxwriter


def _is_utc(zone: ZoneInfo) -> bool:
    return zone.key in {"UTC", "Etc/UTC"}


def _columns(name: str, series: pd.Series[Any], zone: ZoneInfo) -> list[_Column]:
    source = values.arrow(series)
    if not pa.types.is_timestamp(source.type):
        return [_Column(name, source)]
    if source.type.tz is None:
        return [_Column(name, source, is_date=True)]
    utc = _Column(f"{name} (UTC)", source, is_date=True)
    local = _Column(f"{name} ({zone.key})", source, zone, is_date=True)
    return [utc] if _is_utc(zone) else [local, utc]


def _write_rows(data: _Sheet, columns: Sequence[_Column], start: int, date: Any) -> None:
    lists = [_cells(column, start) for column in columns]
    styles = [date if column.is_date else None for column in columns]
    if start == 0:
        for place, cells in enumerate(lists):
            _measure(data, place, cells, is_date=columns[place].is_date)
    number, truth = data.sheet.write_number, data.sheet.write_boolean
    for row, values_of_row in enumerate(zip(*lists, strict=True), start + 1):
        for place, value in enumerate(values_of_row):
            if value is None:
                continue
            kind = type(value)
            if kind is str:
                data.text(row, place, value)
            elif kind is bool:
                truth(row, place, value)
            else:
                number(row, place, value, styles[place])


def _measure(data: _Sheet, place: int, cells: Sequence[Any], *, is_date: bool) -> None:
    longest = max((len(str(cell)) for cell in cells[:_MEASURED] if cell is not None), default=0)
    shown = len(_DATE_FORMAT) if is_date else longest
    data.widths[place] = max(data.widths[place], shown + 1)


def _cells(column: _Column, start: int) -> list[Any]:
    part = column.source.slice(start, _ROWS_AT_A_TIME)
    if column.is_date:
        return _dates(part, column.zone)
    cells = values.python(part)
    if pa.types.is_integer(part.type) and _is_long(part):
        # Excel keeps 15 digits.
        return [str(cell) if cell and abs(cell) >= _WHOLE_DIGITS else cell for cell in cells]
    return cells


def _is_long(part: pa.Array) -> bool:
    ends = pc.min_max(part).as_py()
    return any(end is not None and abs(end) >= _WHOLE_DIGITS for end in ends.values())


def _dates(part: pa.Array, zone: ZoneInfo | None) -> list[Any]:
    """Give instants as Excel's days; those it lacks as ISO text."""
    instants = part.cast(pa.timestamp(part.type.unit)).to_numpy(zero_copy_only=False)
    # Nanoseconds would not reach the years that this compares with.
    instants = instants.astype("M8[ms]")
    fits = (instants >= _FIRST_DATE.to_datetime64()) & (instants < _LAST_DATE.to_datetime64())
    times = pd.DatetimeIndex(np.where(fits, instants, np.datetime64("NaT", "ms")))
    if zone is not None:
        times = times.tz_localize("UTC").tz_convert(zone).tz_localize(None)
    days = times.to_numpy().astype("int64") / _DAY_MS + _UNIX_EPOCH
    if fits.all():
        return list(days.tolist())
    written = values.python(part)
    return [day if is_fit else text for day, is_fit, text in zip(days, fits, written, strict=True)]


def _fitted(value: str) -> str:
    """Cut what Excel would refuse, which counts in halves of surrogate pairs, and say so."""
    if len(value) * 2 <= _MOST_CHARACTERS:
        return value
    units = value.encode("utf-16-le")
    if len(units) // 2 <= _MOST_CHARACTERS:
        return value
    marker = f"… [cut: {len(value)} characters]"
    kept = units[: (_MOST_CHARACTERS - len(marker)) * 2].decode("utf-16-le", "ignore")
    return kept + marker
