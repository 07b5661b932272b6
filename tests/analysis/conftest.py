"""Records made to measure, and every engine that the analysis runs on."""

import itertools
import random

import duckdb
import pandas as pd
import polars as pl
import pytest

from koodrive_nb import columns

NOW = pd.Timestamp("2025-12-17T08:30Z")


def _duckdb(frame, zone="UTC"):
    connection = duckdb.connect()
    connection.execute(f"SET TimeZone = '{zone}'")
    connection.register("records", pl.from_pandas(frame).to_arrow())
    return connection.table("records")


@pytest.fixture(scope="session")
def to_spark(spark, tmp_path_factory):
    """Move pandas frames to Spark."""
    folder = tmp_path_factory.mktemp("frames")
    numbers = itertools.count()

    def move(frame):
        path = folder / f"{next(numbers)}.parquet"
        frame.to_parquet(path, index=False)
        return spark.read.parquet(str(path))

    return move


_ENGINES = {
    "polars": pl.from_pandas,
    "polars lazy": lambda frame: pl.from_pandas(frame).lazy(),
    "duckdb": _duckdb,
    "duckdb in Etc/UTC": lambda frame: _duckdb(frame, "Etc/UTC"),
}


@pytest.fixture(params=["polars", "duckdb"])
def engine(request):
    """Move a pandas frame to another engine of this process, each once."""
    return _ENGINES[request.param]


@pytest.fixture(params=[*_ENGINES, pytest.param("spark", marks=pytest.mark.spark)])
def any_engine(request):
    """Move a pandas frame to any engine in any way, Spark included, which takes seconds a time."""
    spark = request.param == "spark"
    return request.getfixturevalue("to_spark") if spark else _ENGINES[request.param]


@pytest.fixture
def bind():
    """Make a list of bound devices: ids with the instants they were bound at."""

    def build(bound, user_id="u", now=NOW, **others):
        frame = pd.DataFrame(
            {
                "user_id": user_id,
                "device_id": list(bound),
                "device_name": "phone",
                "device_os": "android",
                "machine_code": None,
                "device_create_time": [pd.Timestamp(text) for text in bound.values()],
                "extra": None,
                "source": "sandbox",
                "fetched_at": now,
            }
        )
        kinds = {column.name: column.dtype for column in columns.columns("devices")}
        return frame.astype(kinds).assign(**others)

    return build


@pytest.fixture(scope="session")
def dirty():
    """Give records and devices of some users with every kind of dirt, drawn by a seed."""

    def build(seed=0, n=400, days=60):
        draw = random.Random(seed)
        devices = {}
        for user in "abc":
            for number in range(4):
                identity = f"{user}{draw.randrange(10**17, 10**18)}"
                age = draw.choice([0.5, 3, 10, 40, days + 20])
                devices[user, identity] = NOW - pd.Timedelta(days=age)
                if number == 3:
                    devices[user, identity] = NOW - pd.Timedelta(days=80)
        keys = sorted(devices)
        silent = set(keys[::5])
        rows = []
        for number in range(n):
            user, identity = draw.choice([key for key in keys if key not in silent])
            created = NOW - pd.Timedelta(milliseconds=draw.randrange(days * 86_400_000))
            length = pd.Timedelta(milliseconds=int(1000 * draw.lognormvariate(4, 2)))
            status = draw.choice([1] * 16 + [0, 0, 2, 2, 3, None])
            row = {
                "user_id": user,
                "record_id": f"{number:06}",
                "device_id": identity,
                "device_name": draw.choice(["phone", "手机", "a\tb", " "]),
                "device_os": draw.choice(["android", "iOS 18_2", "", None]),
                "device_create_time": devices[user, identity],
                "module_code": draw.choice(["100", "101", "102", "102", "555"]),
                "status_code": status,
                "create_time": created,
                "end_time": created + length if status in {1, 2} else None,
                "fetched_at": NOW - pd.Timedelta(hours=ord(user) - ord("a")),
            }
            row |= draw.choice([{}] * 30 + _DIRT)
            row["module"] = columns.MODULES.get(row["module_code"], "unknown")
            if row.get("device_id") is None:
                row |= dict.fromkeys(["device_name", "device_os", "device_create_time"])
            rows.append(row)
        full = {column.name: column.dtype for column in columns.columns("records")}
        frame = pd.DataFrame(rows).reindex(columns=list(full))
        for name, kind in full.items():
            if kind == columns.TIME:
                frame[name] = pd.to_datetime(frame[name], utc=True)
        frame = frame.astype(full)
        frame["duration_s"] = (frame["end_time"] - frame["create_time"]).dt.total_seconds()
        listed = {key: at for key, at in devices.items() if key != keys[1]}
        bound = pd.DataFrame(
            [(user, identity, "phone", "android", at) for (user, identity), at in listed.items()],
            columns=["user_id", "device_id", "device_name", "device_os", "device_create_time"],
        )
        bound["fetched_at"] = NOW
        kinds = {column.name: column.dtype for column in columns.columns("devices")}
        return frame, bound.reindex(columns=list(kinds)).astype(kinds)

    return build


_DIRT = [
    {"device_id": None},
    {"create_time": None},
    {"create_time": NOW + pd.Timedelta("2h")},
    {"end_time": None, "status_code": 1},
    {"end_time": NOW - pd.Timedelta("90D")},
    {"end_time": NOW, "status_code": 0},
    {"device_create_time": None},
    {"module_code": None},
]
