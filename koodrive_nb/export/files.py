"""What is written where, and that a file is there whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from koodrive_nb import replacing, settings
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.export import values, workbook
from koodrive_nb.export.facts import told
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd

_BOM = b"\xef\xbb\xbf"
_ROWS_AT_A_TIME = 20_000


def write(
    frame: pd.DataFrame,
    path: str | os.PathLike[str],
    *,
    tz: str | None = None,
    made: str | None = None,
) -> Path:
    """Write records, devices or a table of the analysis to a file and give its path.

    The ending of `path` chooses the format. An existing file is replaced, once the new one is
    whole. In all formats an index that has names becomes columns (one that merely
    counts rows is left out), nested values become JSON text, and half a surrogate pair, which
    no format can hold, is spelled out.

    - `.csv`: UTF-8 that Excel recognises (with a byte order mark); times in ISO 8601, in UTC. Text
      that a spreadsheet would run as a formula gets an apostrophe in front, which stays in the
      cell. Ids are digits, and a spreadsheet that opens the file spoils them: use `.xlsx` there.
    - `.xlsx`: ids and other text as text, each time in UTC and in `tz` (else `KOODRIVE_TZ`, else
      UTC alone) as a date of Excel, and a sheet "how this was made", with `made` as the line of
      code that gives the frame. Dates that Excel lacks (before March 1900, after 9999), infinity
      and integers over 15 digits are text. Needs the extra `report`.
    - `.parquet`: pandas reads the same types back, text and the text of categories stored as its
      version prefers; the facts in `attrs["koodrive"]` and `made` come along.
    - `.jsonl`: one JSON object for each row, ids as text, times in ISO 8601, in UTC, missing values
      as null, infinity as text.

    Durations as pandas has them become seconds, except in Parquet. Times without a zone are written
    as they are.

    Raises:
        InvalidParameterError: It is no pandas frame, two columns have the same name, the ending is
            another, the file cannot be written there, or the frame is too large for a worksheet.
        ConfigurationError: `.xlsx` without the extra `report`.
    """
    target = target_of(path)
    zone = settings.display_zone(tz)
    if made is not None and (not isinstance(made, str) or len(made.splitlines()) != 1):
        raise InvalidParameterError(
            "made= takes the one line of code that gives the frame, as text, or nothing."
        )
    table = values.flat(frame)
    about = _plain_facts(frame)
    writers: Mapping[str, Callable[[BinaryIO], None]] = {
        ".csv": lambda file: _write_csv(table, file),
        ".jsonl": lambda file: _write_json_lines(table, file),
        ".parquet": lambda file: _write_parquet(table, file, about, made),
        ".xlsx": lambda file: workbook.write_workbook(
            table, file, zone, lambda cut: told(frame, about, zone.key, made, cut)
        ),
    }
    if target.suffix.lower() == ".xlsx":
        workbook.check(table)
    _put(target, writers[target.suffix.lower()])
    return Path(path)


def target_of(path: object) -> Path:
    """Give where a file is to be written, if its name says a format and it can be put there.

    Raises:
        InvalidParameterError: It does not, or cannot.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise InvalidParameterError(
            f"write() takes the path of a file, such as 'records.xlsx', not {path!r}."
        )
    named = Path(path)
    if named.suffix.lower() not in {".csv", ".jsonl", ".parquet", ".xlsx"}:
        raise InvalidParameterError(
            f"{named.name!r} does not say the format: let the name end in .csv, .xlsx, .parquet or "
            ".jsonl."
        )
    try:
        if named.is_dir():
            raise InvalidParameterError(f"{named} is a folder: name a file in it.")
        if not named.parent.is_dir():
            raise InvalidParameterError(
                f"There is no folder {named.parent}: create it, or name another."
            )
        # A link stays a link.
        return named.resolve()
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidParameterError):
            raise
        raise InvalidParameterError(f"{path!r} is no path to write to: {error}.") from None


def _put(target: Path, write_to: Callable[[BinaryIO], None]) -> None:
    try:
        replacing.replace({target: write_to})
    except OSError as error:
        raise InvalidParameterError(
            f"{target} cannot be written ({error.strerror or error}), and what was there is as it "
            "was: choose another folder, or close the program that has it open."
        ) from error


def _plain_facts(frame: pd.DataFrame) -> dict[str, Any]:
    """Take from attrs what this package put there; what others did may be a secret."""
    facts = frame.attrs.get(ATTRS)
    if not isinstance(facts, dict):
        return {}
    return {str(key): value for key, value in facts.items() if _is_plain(value)}


def _is_plain(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _write_csv(table: pd.DataFrame, file: BinaryIO) -> None:
    columns = [_csv_column(values.arrow(table[name])) for name in table.columns]
    header = values.guarded(values.names(table.columns)).to_pylist()
    if len(columns) == 1:
        # A line without anything on it would be no row.
        columns = [columns[0].cast(pa.large_string()).fill_null("")]
    file.write(_BOM)
    if columns:
        pa.csv.write_csv(pa.table(columns, names=header), file)


def _csv_column(column: pa.Array) -> pa.Array:
    if pa.types.is_timestamp(column.type):
        return values.iso(column)
    return values.guarded(column) if column.type == pa.large_string() else column


def _write_json_lines(table: pd.DataFrame, file: BinaryIO) -> None:
    encoder = msgspec.json.Encoder()
    columns = [values.arrow(table[name]) for name in table.columns]
    for start in range(0, len(table), _ROWS_AT_A_TIME):
        lists = [values.python(column.slice(start, _ROWS_AT_A_TIME)) for column in columns]
        rows = [dict(zip(table.columns, row, strict=True)) for row in zip(*lists, strict=True)]
        file.write(encoder.encode_lines(rows))


def _write_parquet(
    table: pd.DataFrame, file: BinaryIO, about: Mapping[str, Any], made: str | None
) -> None:
    odd = {
        name: values.as_string(values.arrow(table[name]))
        for name in table.columns
        if not values.is_kept_by_parquet(table[name])
    }
    kept = pa.Table.from_pandas(table.assign(**odd), preserve_index=False)
    facts = {b"PANDAS_ATTRS": json.dumps({ATTRS: about}).encode()} if about else {}
    own = {b"koodrive_nb.made": values.text(made).encode()} if made else {}
    described = {b"pandas": kept.schema.metadata[b"pandas"]} | facts | own
    pa.parquet.write_table(kept.replace_schema_metadata(described), file)
