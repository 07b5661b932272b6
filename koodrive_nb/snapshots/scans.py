"""Snapshots as frames of an engine, which reads the files itself, as far as it needs them."""

from __future__ import annotations

import atexit
import glob
import importlib
import re
import shutil
import tempfile
from functools import cache
from typing import TYPE_CHECKING, Any

import narwhals as nw
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from koodrive_nb import privacy
from koodrive_nb.errors import ConfigurationError, InvalidParameterError
from koodrive_nb.snapshots import layouts, reading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from koodrive_nb.snapshots.locations import Location
    from koodrive_nb.snapshots.manifests import Snapshot

    Opener = Callable[[Location, list[str]], Any]

ENGINES = ("duckdb", "polars", "spark")
_NARWHALS = {pa.string(): nw.String(), pa.int64(): nw.Int64(), pa.float64(): nw.Float64()}
_SPARK = {pa.string(): "string", pa.int64(): "long", pa.float64(): "double"}


def frames(
    place: Location, snapshots: Sequence[Snapshot], engine: str, *datasets: str
) -> list[list[nw.LazyFrame[Any]]]:
    """Give datasets of each snapshot on one session of an engine, none of it read yet.

    Raises:
        InvalidParameterError: There is no such engine.
        ConfigurationError: The engine is not installed, or `KOODRIVE_PRIVACY` forbids names and the
            snapshots have them.
        SnapshotError: A file is missing, or has not the size that it was written with.
    """
    if engine not in ENGINES:
        raise InvalidParameterError(
            f"engine= takes one of {', '.join(ENGINES)}, not {engine!r}; read() gives pandas."
        )
    if privacy.mode() != "names" and any(each.manifest["privacy"] == "names" for each in snapshots):
        raise ConfigurationError(
            "KOODRIVE_PRIVACY forbids names, and these snapshots have them: use read(), which puts "
            "pseudonyms in their place, or set KOODRIVE_PRIVACY=names."
        )
    opened = _opener(engine)
    return [
        [
            _fitted(nw.from_native(opened(place, reading.files(place, each, dataset))), dataset)
            for each in snapshots
        ]
        for dataset in datasets
    ]


def _fitted(opened: nw.DataFrame[Any] | nw.LazyFrame[Any], dataset: str) -> nw.LazyFrame[Any]:
    """Give the columns of this version, whichever wrote them, as `layouts.fitted` does."""
    frame = opened.lazy()
    known, own = frame.collect_schema().names(), layouts.schema_of(dataset)
    others = [name for name in known if dataset == "users" and name not in own.names]
    if known == [*own.names, *others]:
        return frame
    # Engines differ in how they call a time with a zone.
    no_time = nw.when(nw.lit(value=False)).then(nw.col("fetched_at"))
    missing = {
        field.name: nw.lit(None, _NARWHALS[field.type]) if field.type in _NARWHALS else no_time
        for field in own
        if field.name not in known
    }
    return frame.with_columns(**missing).select(*own.names, *others)


def _opener(engine: str) -> Opener:
    try:
        module = importlib.import_module("pyspark.sql" if engine == "spark" else engine)
    except ImportError as error:
        raise ConfigurationError(
            f"engine={engine!r} needs {error.name}: pip install 'koodrive_nb[scale]'."
        ) from None
    if engine == "duckdb":
        connection = module.connect()
        # What does not fit memory goes to disk, by default to where all may read it.
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET temp_directory = $1", [_private_folder()])
        return lambda place, names: _duckdb(connection, place, names)
    if engine == "polars":
        return lambda place, names: _polars(module, place, names)
    session = module.SparkSession.getActiveSession() or _spark_session(module)
    return lambda place, names: _spark(session, place, names)


def _spark_session(module: Any) -> Any:
    """Start Spark on this machine, for this user alone: no page in the browser, no open files."""
    settings = {
        "spark.sql.session.timeZone": "UTC",
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": _private_folder(),
    }
    return module.SparkSession.builder.master("local[*]").config(map=settings).getOrCreate()


@cache
def _private_folder() -> str:
    """Make a folder that only the owner may look into, and that goes with this process."""
    folder = tempfile.mkdtemp(prefix="koodrive_nb-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _duckdb(connection: Any, place: Location, names: list[str]) -> Any:
    if place.folder is None:
        return connection.from_arrow(_dataset(place, names))
    paths = [glob.escape(place.path(name)) for name in names]
    return connection.read_parquet(paths, hive_partitioning=False)


def _polars(module: Any, place: Location, names: list[str]) -> Any:
    if place.folder is None:
        return module.scan_pyarrow_dataset(_dataset(place, names))
    paths = [place.path(name) for name in names]
    return module.scan_parquet(paths, hive_partitioning=False, glob=False)


def _spark(session: Any, place: Location, names: list[str]) -> Any:
    with place.reading(names[0]):
        stored = pq.read_schema(place.path(names[0]), filesystem=place.filesystem)
    # Spark would start a job for each snapshot to find out what the files of all have in common.
    schema = importlib.import_module("pyspark.sql.types").StructType()
    for field in stored:
        schema.add(field.name, _SPARK.get(field.type, "timestamp"))
    # Spark takes the names of folders for patterns.
    paths = (re.sub(r"([\[\]{}*?\\])", r"\\\1", _address(place, name)) for name in names)
    return session.read.schema(schema).parquet(*paths)


def _dataset(place: Location, names: list[str]) -> ds.Dataset:
    paths = [place.path(name) for name in names]
    return ds.dataset(paths, format="parquet", filesystem=place.filesystem, partitioning=None)


def _address(place: Location, name: str) -> str:
    return f"{place.shown}/{name}" if place.folder is None else place.path(name)
