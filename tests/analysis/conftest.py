"""Records made to measure, and every engine that the analysis runs on."""

import itertools
import os
import shutil

import duckdb
import pandas as pd
import polars as pl
import pytest
from pyspark.sql import SparkSession

from koodrive_nb import columns

NOW = pd.Timestamp("2025-12-17T08:30Z")


@pytest.fixture
def make():
    """Make records: one dict a record, with only what matters; the rest is filled in."""

    def build(*rows, now=NOW):
        full = []
        for number, row in enumerate(rows):
            known = {
                "user_id": "u",
                "record_id": str(number),
                "module": "album",
                "status_code": 1,
                "create_time": now - pd.Timedelta("1D"),
                "device_id": "1000000000000000001",
                "device_name": "phone",
                "fetched_at": now,
            } | row
            for name in ("create_time", "end_time", "fetched_at", "device_create_time"):
                value = known.get(name)
                known[name] = pd.NaT if value is None else pd.Timestamp(value)
            codes = {label: code for code, label in columns.MODULES.items()}
            known.setdefault("module_code", codes.get(known["module"], "999"))
            known.setdefault(
                "duration_s", (known["end_time"] - known["create_time"]).total_seconds()
            )
            full.append(
                {column.name: known.get(column.name) for column in columns.columns("records")}
            )
        names = [column.name for column in columns.columns("records")]
        frame = pd.DataFrame(full, columns=names)
        for column in columns.columns("records"):
            if column.kind == "time":
                frame[column.name] = pd.to_datetime(frame[column.name], utc=True)
            frame[column.name] = frame[column.name].astype(column.dtype)
        return frame

    return build


def _duckdb(frame, zone="UTC"):
    connection = duckdb.connect()
    connection.execute(f"SET TimeZone = '{zone}'")
    connection.register("records", pl.from_pandas(frame).to_arrow())
    return connection.table("records")


@pytest.fixture(scope="session")
def to_spark(tmp_path_factory):
    """Move pandas frames to a real Spark, with two workers in this machine's memory."""
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        reason = "Spark needs a Java runtime, and none is installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("spark")
    numbers = itertools.count()
    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.warehouse.dir", str(folder / "warehouse"))
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("OFF")

    def move(frame):
        path = folder / f"{next(numbers)}.parquet"
        frame.to_parquet(path, index=False)
        return session.read.parquet(str(path))

    yield move
    session.stop()


@pytest.fixture(
    params=[
        "polars",
        "polars lazy",
        "duckdb",
        "duckdb in Etc/UTC",
        pytest.param("spark", marks=pytest.mark.spark),
    ]
)
def engine(request):
    """Move a pandas frame to another engine."""
    if request.param == "spark":
        return request.getfixturevalue("to_spark")
    return {
        "polars": pl.from_pandas,
        "polars lazy": lambda frame: pl.from_pandas(frame).lazy(),
        "duckdb": _duckdb,
        "duckdb in Etc/UTC": lambda frame: _duckdb(frame, "Etc/UTC"),
    }[request.param]
