"""Lists of users in files, whose ids a spreadsheet may have spoilt."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb import settings
from koodrive_nb.columns import STRING
from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from pathlib import Path

_SPOILT = re.compile(r"\d+(?:[.,]\d*)?[eE][+-]?\d+|\d+\.\d*")
_LINES_NAMED = 5


def read(path: Path) -> pd.DataFrame:
    """Read users from a CSV or Parquet file, each id once, in its first row.

    `user_id` is text and fit to be sent; the other columns are kept, those of CSV as text.

    Raises:
        InvalidParameterError: It is no such file, has no column `user_id`, or an id is unfit.
    """
    try:
        lines, table = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
    except (OSError, ValueError, csv.Error) as error:
        raise InvalidParameterError(f"{path} cannot be read as a list of users: {error}") from None
    if list(table.columns).count("user_id") != 1:
        raise InvalidParameterError(
            f"{path} has no column user_id: name it so in the first line, with commas between "
            "columns."
        )
    spoilt = [
        str(line)
        for line, value in zip(lines, table["user_id"], strict=True)
        if isinstance(value, float) or _SPOILT.fullmatch(str(value))
    ]
    if spoilt:
        more = f" and {len(spoilt) - _LINES_NAMED:,} more" if len(spoilt) > _LINES_NAMED else ""
        raise InvalidParameterError(
            f"A spreadsheet spoilt the ids of {path} in line {', '.join(spoilt[:_LINES_NAMED])}"
            f"{more}, as in 1.8E+18: digits are lost, so export the list anew with that column as "
            "text."
        )
    ids = [
        settings.checked_id(value, f"user id in line {line} of {path}")
        for line, value in zip(lines, table["user_id"], strict=True)
    ]
    if not ids:
        raise InvalidParameterError(f"{path} has no users in it.")
    named = table.assign(user_id=pd.Series(ids, dtype=STRING))
    return named.drop_duplicates("user_id", ignore_index=True)


def _csv(path: Path) -> tuple[list[int], pd.DataFrame]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        rows = [(reader.line_num, row) for row in reader if row]
    for line, row in rows:
        if len(row) != len(header):
            raise ValueError(f"line {line} has {len(row)} values for {len(header)} columns.")
    table = pd.DataFrame([row for _, row in rows], columns=header, dtype=STRING)
    return [line for line, _ in rows], table


def _parquet(path: Path) -> tuple[list[int], pd.DataFrame]:
    table: Any = pd.read_parquet(path).reset_index(drop=True)
    if "user_id" in table.columns and pd.api.types.is_integer_dtype(table["user_id"]):
        table = table.astype({"user_id": STRING})
    return list(range(1, len(table) + 1)), table
