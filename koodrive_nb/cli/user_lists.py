"""Lists of users in files, whose ids a spreadsheet may have spoilt."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, Any

import click
import pandas as pd

from koodrive_nb import settings
from koodrive_nb.columns import STRING
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SPOILT = re.compile(r"\d+(?:[.,]\d*)?[eE][+-]?\d+|\d+\.\d*")
_LONG = re.compile(r"\d{16,}")
_ROUNDED = re.compile(r"\d{15}0{3,}")
"""A spreadsheet keeps fifteen digits. Two zeros behind them may well be of the id."""
_FEWEST_ROUNDED = 3
_ROUNDED_OF_LONG = 0.1
_BYTES_LOOKED_AT = 4_096
_LINES_NAMED = 5
_NAMES_SHOWN = 8
_NAME_CHARACTERS = 40
_AS_UTF_8 = "is no CSV in UTF-8: save it as CSV UTF-8 (in Excel, a type of file of Save As)"


def read(path: Path) -> pd.DataFrame:
    """Read users from a CSV or Parquet file, each id once, in its first row.

    `user_id` is text and fit to be sent; the other columns are kept, those of CSV as text. Ids that
    come more than once are told on stderr.

    Raises:
        InvalidParameterError: It is no such file, has no column `user_id`, or an id is unfit.
    """
    try:
        lines, table = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
    except UnicodeError:
        raise InvalidParameterError(f"{path} {_AS_UTF_8}.") from None
    except (OSError, ValueError, csv.Error) as error:
        raise InvalidParameterError(f"{path} cannot be read as a list of users: {error}") from None
    if list(table.columns).count("user_id") != 1:
        raise InvalidParameterError(f"{path} {_lacking([*table.columns])}")
    _refuse_spoilt(path, lines, table["user_id"])
    ids = [
        settings.checked_id(value, f"user id in line {line} of {path}")
        for line, value in zip(lines, table["user_id"], strict=True)
    ]
    if not ids:
        raise InvalidParameterError(f"{path} has no users in it.")
    named = table.assign(user_id=pd.Series(ids, dtype=STRING))
    is_again = named["user_id"].duplicated()
    if is_again.any():
        again = [line for line, is_one in zip(lines, is_again, strict=True) if is_one]
        what = f"{_in_lines(again)}: each counts once, with its first row"
        click.echo(f"{path} has ids that came before {what}.", err=True)
    return named.drop_duplicates("user_id", ignore_index=True)


def _refuse_spoilt(path: Path, lines: Sequence[int], values: pd.Series[Any]) -> None:
    """Refuse ids of which a spreadsheet has lost digits.

    Raises:
        InvalidParameterError: There are such, in these lines.
    """
    spoilt = [
        line
        for line, value in zip(lines, values, strict=True)
        if isinstance(value, float) or _SPOILT.fullmatch(str(value))
    ]
    sign = "as in 1.8E+18"
    if not spoilt:
        long = [one for one in zip(lines, values, strict=True) if _LONG.fullmatch(str(one[1]))]
        rounded = [line for line, value in long if _ROUNDED.fullmatch(str(value))]
        # Of whole ids, one in a thousand looks like that.
        if len(rounded) >= _FEWEST_ROUNDED and len(rounded) > _ROUNDED_OF_LONG * len(long):
            spoilt, sign = rounded, "whose digits after the fifteenth are all 0"
    if spoilt:
        raise InvalidParameterError(
            f"A spreadsheet spoilt the ids of {path} {_in_lines(spoilt)}, {sign}: digits are lost, "
            "so export the list anew with that column as text."
        )


def _in_lines(lines: Sequence[int]) -> str:
    more = f" and {len(lines) - _LINES_NAMED:,} more" if len(lines) > _LINES_NAMED else ""
    return f"in line {', '.join(map(str, lines[:_LINES_NAMED]))}{more}"


def _lacking(names: Sequence[object]) -> str:
    """Say that there is no column of ids, or more than one, and what there is."""
    if names.count("user_id") > 1:
        return "has several columns user_id: rename all but one."
    shown = ", ".join(one_line(name, _NAME_CHARACTERS) for name in names[:_NAMES_SHOWN])
    found = f" (found: {shown})" if shown else ""
    return (
        f"has no column user_id{found}: name it so in the first line, with commas between columns."
    )


def _csv(path: Path) -> tuple[list[int], pd.DataFrame]:
    with path.open("rb") as file:
        if b"\0" in file.read(_BYTES_LOOKED_AT):
            raise UnicodeError
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
