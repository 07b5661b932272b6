"""Rows of JSON to a frame, by the column table of their dataset.

Rows are read in bulk by pyarrow with an explicit schema. What it refuses is narrowed down by
halving and read one by one: there, a value that does not fit becomes missing and its text is kept
in `extra`, and only what is no object or has no usable id is set aside.
"""

from __future__ import annotations

import itertools
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from koodrive_nb import misfits
from koodrive_nb.columns import KEYS, MODULES, ORDERS, STATUSES, STRING, UNKNOWN, columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from koodrive_nb.columns import Column
    from koodrive_nb.streams import Stream

_HALVE_ABOVE = 16
_GATHERED_ROWS = 10_000
_TIME = pa.timestamp("ms", "UTC")
ARROW = {"string": pa.string(), "Int64": pa.int64(), "time": _TIME}
"""What the kinds of columns that come from the API are in Arrow."""
# Times are read as text first: read as times, one without a zone would pass for UTC unnoticed.
_WIRE = {"string": pa.string(), "Int64": pa.int64(), "time": pa.string()}
PANDAS = {pa.string(): STRING, pa.int64(): pd.Int64Dtype()}
"""What text and whole numbers are in pandas."""
_CODED: Mapping[str, tuple[str, list[Any]]] = {
    "module": ("module_code", list(MODULES)),
    "status": ("status_code", list(STATUSES)),
}


def read_rows(rows: Sequence[bytes], stream: Stream) -> pa.Table:
    """Read rows of JSON text into a table of the columns that come from the API, and `extra`.

    Counts what was bent, and what was set aside, on the stream.
    """
    fields = [column for column in columns(stream.dataset) if column.api_field]
    table = pa.concat_tables(_halves(rows, fields, stream))
    return table.append_column("fetched_at", _repeat(stream.fetched_at, _TIME, len(table)))


def _read_together(
    parts: Sequence[tuple[int, Stream, Sequence[bytes]]], dataset: str
) -> Iterator[pa.Table]:
    """Read the rows of several streams, which have numbers, at once; alone where they do not fit.

    A table for each of a hundred users takes longer to make than what is in it.
    """
    fields = [column for column in columns(dataset) if column.api_field]
    rows = [row for _, _, mine in parts for row in mine]
    table = _read_fast(rows, fields, KEYS[dataset][-1]) if rows else None
    if table is not None:
        of_part = pa.array(np.repeat(np.arange(len(parts)), [len(mine) for _, _, mine in parts]))
        times = pa.array([stream.fetched_at for _, stream, _ in parts], _TIME)
        numbers = pa.array([number for number, _, _ in parts], pa.int32())
        table = table.append_column("fetched_at", times.take(of_part))
        yield table.append_column("_stream", numbers.take(of_part))
    elif len(parts) == 1:
        number, stream, mine = parts[0]
        table = read_rows(mine, stream)
        yield table.append_column("_stream", _repeat(number, pa.int32(), len(table)))
    elif rows:
        middle = len(parts) // 2
        yield from _read_together(parts[:middle], dataset)
        yield from _read_together(parts[middle:], dataset)


def _halves(rows: Sequence[bytes], fields: Sequence[Column], stream: Stream) -> list[pa.Table]:
    table = _read_fast(rows, fields, KEYS[stream.dataset][-1])
    if table is not None:
        return [table]
    if len(rows) <= _HALVE_ABOVE:
        return [_read_slowly(rows, fields, stream)]
    middle = len(rows) // 2
    return [*_halves(rows[:middle], fields, stream), *_halves(rows[middle:], fields, stream)]


def _read_fast(rows: Sequence[bytes], fields: Sequence[Column], key: str) -> pa.Table | None:
    # pyarrow's reader crashes the process on a row that is no object.
    if set(map(itemgetter(slice(1)), rows)) != {b"{"}:
        return None
    # One block: there, line breaks inside a row are blanks like any other.
    body = b"\n".join(rows)
    try:
        raw = pyarrow.json.read_json(
            pa.BufferReader(body),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(body) + 1),
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=_wire_schema(fields), unexpected_field_behavior="error"
            ),
        )
        table = pa.table(
            {column.name: pc.cast(_pick(raw, column), ARROW[column.kind]) for column in fields}
        )
    except pa.ArrowInvalid:
        return None
    for column in fields:
        if column.kind == "time" and not _has_only_usable_times(table[column.name]):
            return None
    if len(table) != len(rows) or pc.any(pc.is_null(table[key])).as_py():
        return None
    if pc.any(pc.equal(table[key], "")).as_py():
        return None
    return table.append_column("extra", pa.nulls(len(table), pa.string()))


def _has_only_usable_times(times: pa.ChunkedArray) -> bool:
    edges = pc.min_max(times.cast(pa.int64())).as_py()
    return edges["min"] is None or (
        edges["min"] >= misfits.FIRST_MS and edges["max"] <= misfits.LAST_MS
    )


def _wire_schema(fields: Sequence[Column]) -> pa.Schema:
    flat: dict[str, Any] = {}
    for column in fields:
        outer, _, inner = str(column.api_field).rpartition(".")
        (flat.setdefault(outer, {}) if outer else flat)[inner] = _WIRE[column.kind]
    return pa.schema(
        [
            (name, pa.struct(list(kind.items())) if isinstance(kind, dict) else kind)
            for name, kind in flat.items()
        ]
    )


def _pick(raw: pa.Table, column: Column) -> pa.ChunkedArray:
    outer, *inner = str(column.api_field).split(".")
    return pc.struct_field(raw[outer], inner) if inner else raw[outer]


def _read_slowly(rows: Sequence[bytes], fields: Sequence[Column], stream: Stream) -> pa.Table:
    key = KEYS[stream.dataset][-1]
    good = []
    for text in rows:
        row = misfits.read_row(text, fields, stream)
        if row is None or not row[key]:
            stream.set_aside.append(text.decode())
        else:
            good.append(row)
    layout = [(column.name, ARROW[column.kind]) for column in fields]
    return pa.Table.from_pylist(good, pa.schema([*layout, ("extra", pa.string())]))


def to_frame(
    parts: Sequence[tuple[Stream, list[pa.Table]]],
    dataset: str,
    waiting: Sequence[Sequence[bytes]] = (),
) -> pd.DataFrame:
    """Join what several streams brought into one frame of the dataset, one row per user and key.

    A row that came twice is kept in its highest status, then its newest version; its stream counts
    the other. Order: creation time, then the key. The lists of tables are emptied on the way, so
    that a long listing is held in memory once. `waiting` are rows of JSON text of each stream that
    are not in its tables.
    """
    streams = [stream for stream, _ in parts]
    unread = [(n, streams[n], rows) for n, rows in enumerate(waiting) if rows]
    read = _read_together(unread, dataset) if unread else ()
    table = pa.concat_tables(_gathered(itertools.chain(_pieces(parts, dataset), read)))
    order = pc.sort_indices(table, [(name, "ascending") for name in ORDERS[dataset]])
    repeats = _repeats(table, KEYS[dataset], streams)
    if len(repeats):
        order = order.filter(pc.invert(pc.is_in(order, pa.array(repeats, order.type))))
    in_order = {}
    for name in table.column_names:
        in_order[name] = table[name].take(order)
        table = table.drop_columns([name])
    table = pa.table(in_order)
    numbers = table["_stream"].to_numpy()
    series = {column.name: _series(column, table, numbers, streams) for column in columns(dataset)}
    return pd.DataFrame(series, copy=False)


def _pieces(parts: Sequence[tuple[Stream, list[pa.Table]]], dataset: str) -> Iterator[pa.Table]:
    for number, (stream, tables) in enumerate(parts):
        if not tables and number:
            continue
        piece = pa.concat_tables(tables or [_nothing(dataset)])
        tables.clear()
        piece = _with_given(piece, stream.given)
        yield piece.append_column("_stream", _repeat(number, pa.int32(), len(piece)))


def _gathered(pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Make few pieces of many small ones, whose overhead is many times what is in them."""
    small: list[pa.Table] = []
    rows = 0
    for piece in pieces:
        if small and rows + len(piece) > _GATHERED_ROWS:
            yield _joined(small)
            small, rows = [], 0
        small.append(piece)
        rows += len(piece)
    if small:
        yield _joined(small)


def _joined(pieces: Sequence[pa.Table]) -> pa.Table:
    # A long listing is one, and would be held in memory twice.
    return pieces[0] if len(pieces) == 1 else pa.concat_tables(pieces).combine_chunks()


def _with_given(table: pa.Table, given: Mapping[str, str]) -> pa.Table:
    """Fill in what rows do not say because it was in the question."""
    for name, value in given.items():
        if name in table.column_names:
            place = table.column_names.index(name)
            table = table.set_column(place, name, pc.fill_null(table[name], value))
        else:
            table = table.append_column(name, _repeat(value, pa.string(), len(table)))
    return table


def _nothing(dataset: str) -> pa.Table:
    layout = [(field.name, ARROW[field.kind]) for field in columns(dataset) if field.api_field]
    return pa.schema([*layout, ("extra", pa.string()), ("fetched_at", _TIME)]).empty_table()


def _repeat(value: Any, kind: pa.DataType, size: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, kind), size)


def _repeats(
    table: pa.Table, keys: tuple[str, ...], streams: Sequence[Stream]
) -> np.ndarray[Any, Any]:
    """Give the places of the rows that came twice and are not kept, and count them."""
    for stream in streams:
        stream.duplicates = 0
    if len(keys) == 1 and not _may_repeat(table[keys[0]]):
        return np.empty(0)
    rank = [name for name in ("status_code", "version") if name in table.column_names]
    order = table.select([*keys, *rank]).to_pandas(types_mapper=PANDAS.get)
    numbers = table["_stream"].to_numpy()
    # What belongs to two users is not one thing that came twice.
    order["_user"] = pd.factorize(np.array([stream.user_id for stream in streams]))[0][numbers]
    best = order.sort_values(rank, kind="stable", na_position="first") if rank else order
    kept = best.drop_duplicates(["_user", *keys], keep="last").index.to_numpy()
    dropped = np.delete(np.arange(len(table)), kept)
    counts = np.bincount(numbers[dropped], minlength=len(streams))
    for stream, count in zip(streams, counts, strict=True):
        stream.duplicates = int(count)
    return dropped


def _may_repeat(ids: pa.ChunkedArray) -> bool:
    try:
        # Nearly all ids are numbers, and numbers are compared three times as fast.
        return len(pd.unique(ids.cast(pa.int64()).to_numpy())) < len(ids)
    except pa.ArrowInvalid:
        return bool(pc.count_distinct(ids).as_py() < len(ids))


def _series(
    column: Column, table: pa.Table, numbers: np.ndarray[Any, Any], streams: Sequence[Stream]
) -> pd.Series[Any]:
    if column.kind == "category":
        codes = _codes(column, table, numbers, streams)
        return pd.Series(pd.Categorical.from_codes(codes, dtype=column.dtype))
    if column.name == "duration_s":
        ended, created = (table[name].cast(pa.int64()) for name in ("end_time", "create_time"))
        values = pc.divide(pc.subtract(ended, created).cast(pa.float64()), 1000.0)
    elif column.name in table.column_names:
        values = table[column.name]
    else:
        each = pa.array([getattr(stream, column.name) for stream in streams], ARROW[column.kind])
        values = pa.chunked_array([each.take(pa.array(numbers))])
    series: pd.Series[Any] = values.to_pandas(types_mapper=PANDAS.get)
    return series.astype(column.dtype)


def _codes(
    column: Column, table: pa.Table, numbers: np.ndarray[Any, Any], streams: Sequence[Stream]
) -> np.ndarray[Any, Any]:
    """Give the position of each row's value among the identifiers of its category."""
    names = list(column.values)
    if column.name == "source":
        found = pa.array([names.index(stream.source) for stream in streams]).take(pa.array(numbers))
    elif column.name == "device_source":
        known = pc.is_valid(table["device_id"])
        found = pc.if_else(known, names.index("record"), names.index("missing"))
    else:
        field, codes = _CODED[column.name]
        position = pc.index_in(table[field], pa.array(codes, table[field].type))
        found = pc.fill_null(position, names.index(UNKNOWN))
    result: np.ndarray[Any, Any] = found.to_numpy(zero_copy_only=False).astype("int8")
    return result
