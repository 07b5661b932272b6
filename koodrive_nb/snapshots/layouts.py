"""How the datasets lie in Parquet files: plain tables of text, numbers and times in UTC.

Categories are text there, so that every engine sees the same; pandas gets them back as `kd.schema`
describes them. Pages carry checksums, which readers of this package verify.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from koodrive_nb import decode
from koodrive_nb.columns import ORDERS, STRING, Column, columns
from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DATASETS = ("records", "devices", "users")
OUTCOMES = ("complete", "partial", "failed")
USERS = (
    Column("user_id", "string", "The X-User-Id it was asked for"),
    Column("outcome", "category", "How the user went", values=OUTCOMES),
    Column("n_devices", "Int64", "Bound devices; missing where their listing failed"),
    Column("n_records", "Int64", "Records; missing where their listing failed"),
    Column("fetched_at", "time", "When the first of it came", unit="UTC"),
    Column("error", "string", "What failed, if anything did"),
)
"""The columns of users; those of the list of users follow, as text."""
USER_TYPES = {column.name: column.dtype for column in USERS}

# So that a reader who looks for one user reads little, and rows are never held twice.
_ROWS_AT_A_TIME = 20_000
# Larger ones would cost the reader of one user more, and a tenth more room.
_PAGE_BYTES = 65_536
_ARROW = decode.ARROW | {"category": pa.string(), "float64": pa.float64()}


def columns_of(dataset: str) -> tuple[Column, ...]:
    """Give the columns of a dataset of snapshots.

    Raises:
        InvalidParameterError: Snapshots have no such dataset.
    """
    if dataset not in DATASETS:
        raise InvalidParameterError(
            f"Snapshots have no dataset {dataset!r}: choose one of {', '.join(DATASETS)}."
        )
    return USERS if dataset == "users" else columns(dataset)


def schema_of(dataset: str, others: Sequence[str] = ()) -> pa.Schema:
    """Give the columns of a dataset as they are stored, and of users those of their list."""
    own = [(column.name, _ARROW[column.kind]) for column in columns_of(dataset)]
    return pa.schema([*own, *((name, pa.string()) for name in others)])


def others_of(names: Iterable[str]) -> list[str]:
    """Give those of the columns of users that are from their list.

    Raises:
        InvalidParameterError: Two differ by no more than capitals, or one is `snapshot`, `*` or
            blank.
    """
    others = [name for name in names if name not in USER_TYPES]
    # Engines of SQL take names that differ in capitals for the same, and a star for all columns.
    taken = [str(name).casefold() for name in [*USER_TYPES, "snapshot", "*", *others]]
    twice = [name for name in others if taken.count(str(name).casefold()) > 1]
    if twice or not all(isinstance(name, str) and name.strip() for name in others):
        named = repr(twice[0]) if twice else "one without a name"
        raise InvalidParameterError(
            f"The list of users has a column, {named}, whose name is taken or empty: rename it."
        )
    return others


def schema_for(names: Sequence[str], dataset: str) -> pa.Schema:
    """Give the columns that rows with these are stored with.

    Raises:
        InvalidParameterError: Columns of the dataset are missing, or one is there twice.
    """
    schema = schema_of(dataset, others_of(names) if dataset == "users" else [])
    missing = [name for name in schema.names if name not in names]
    if missing or len({*names}) < len(names):
        raise InvalidParameterError(
            f"The {dataset} of a snapshot need the columns of the client, each once: "
            f"{'missing: ' + ', '.join(missing) if missing else 'some come twice'}."
        )
    return schema


def fitted(stored: pa.Table, dataset: str, names: Sequence[str] | None = None) -> pa.Table | None:
    """Give rows of any version with the columns of this one, or those named; None if they are else.

    Columns that their version did not know are missing all over, and those that this one does not
    know are dropped, but for the users', which are of their list.
    """
    schema = schema_of(dataset)
    own = [field for field in schema if names is None or field.name in names]
    keys = {"user_id", *ORDERS.get(dataset, ())}.intersection(field.name for field in own)
    kinds = {field.name: field.type for field in stored.schema}
    others = [name for name in kinds if dataset == "users" and name not in schema.names]
    is_fit = (
        keys <= kinds.keys()
        and all(kinds.get(field.name, field.type) == field.type for field in own)
        and all(kinds[name] == pa.string() for name in others)
    )
    if not is_fit:
        return None
    columns = {
        field.name: stored[field.name] if field.name in kinds else pa.nulls(len(stored), field.type)
        for field in own
    }
    return pa.table(columns | {name: stored[name] for name in others})


def write(rows: pd.DataFrame | pa.Table, dataset: str, file: BinaryIO) -> None:
    """Write rows to a Parquet file: users by their id, all else in its order within each user.

    They are as the client has them, or as they are stored.

    Raises:
        InvalidParameterError: Columns of the dataset are missing, or values do not fit them.
        OSError: The file cannot be written.
    """
    is_stored = isinstance(rows, pa.Table)
    schema = schema_for([*(rows.column_names if is_stored else rows.columns)], dataset)
    if not is_stored:
        rows = rows[schema.names]
        rows.attrs = {}
    keys = ["user_id", *ORDERS.get(dataset, ())]
    by = _table(rows, dataset, pa.schema([schema.field(name) for name in keys]))
    order = pc.sort_indices(by, [(name, "ascending") for name in keys])
    with pq.ParquetWriter(
        file,
        schema,
        compression="zstd",
        write_page_checksum=True,
        store_schema=False,
        data_page_size=_PAGE_BYTES,
        dictionary_pagesize_limit=_PAGE_BYTES,
    ) as writer:
        for start in range(0, len(rows), _ROWS_AT_A_TIME):
            places = order[start : start + _ROWS_AT_A_TIME]
            some = rows.take(places) if is_stored else rows.iloc[places.to_numpy()]
            writer.write_table(_table(some, dataset, schema))


def _table(rows: pd.DataFrame | pa.Table, dataset: str, schema: pa.Schema) -> pa.Table:
    if isinstance(rows, pa.Table):
        return rows.select(schema.names).cast(schema)
    try:
        arrays = [
            _text(rows[field.name]).cast(field.type)
            if field.type == pa.string()
            else pa.Array.from_pandas(rows[field.name]).cast(field.type)
            for field in schema
        ]
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise InvalidParameterError(
            f"Values of the {dataset} do not fit their columns ({type(error).__name__}): pass "
            "frames as the client returned them."
        ) from None
    return pa.table(arrays, schema=schema)


def _text(values: pd.Series[Any]) -> pa.ChunkedArray:
    if not isinstance(values.dtype, pd.StringDtype | pd.CategoricalDtype):
        # Half a surrogate pair, which no file can hold, is spelled out.
        each = [
            None if pd.isna(value) else str(value).encode("utf-8", "backslashreplace").decode()
            for value in values.astype(object)
        ]
        return pa.chunked_array([pa.array(each, pa.large_string())])
    return pa.chunked_array([pa.Array.from_pandas(values.astype(STRING).array)])


def to_frame(table: pa.Table, dataset: str) -> pd.DataFrame:
    """Give stored rows as pandas has them from the client, with exactly the same types.

    Further columns are text. The table's columns are let go one by one.
    """
    kinds = {column.name: column for column in columns_of(dataset)}
    series: dict[str, pd.Series[Any]] = {}
    for name in table.column_names:
        series[name] = _series(table[name], kinds.get(name))
        table = table.drop_columns([name])
    return pd.DataFrame(series, copy=False)


def _series(values: pa.ChunkedArray, column: Column | None) -> pd.Series[Any]:
    if column is None:
        return pd.Series(values.to_pandas(types_mapper=decode.PANDAS.get))
    if column.kind == "category":
        names = pa.array(column.values, pa.string())
        codes = pc.fill_null(pc.index_in(values, names), -1).cast(pa.int8())
        return pd.Series(pd.Categorical.from_codes(codes.to_numpy(), dtype=column.dtype))
    return pd.Series(values.to_pandas(types_mapper=decode.PANDAS.get)).astype(column.dtype)
