"""How long tables of ten million records take on DuckDB, beside SQL written by hand.

Prints a Markdown table. Each side runs in a process of its own over the same Parquet files, and
both must give the same numbers; so must Spark, whose time stands beside, as does that of pandas
for the first million.

    python tests/benchmarks/scaling.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import kib, machine

import koodrive_nb as kd

AIM, AIM_MB = 1.5, 2000
ZONE = "Asia/Shanghai"
# What the SQL beside each table answers too: all but shares, their intervals and notes.
TABLES = {
    "status_breakdown": "module n completed in_progress stuck to_be_deleted was_completed "
    "was_abandoned unknown settled",
    "protection_status": "user_id device_id device_label os_family state cause rpo_age_h "
    "last_completed_time last_attempt_time stuck_in_a_row newest_module worst_module "
    "worst_module_age_h expected_modules n n_completed n_deleting bound_time in_scope as_of",
    "activity": "bin_start created ended presumed_stuck open completed in_progress stuck "
    "was_completed was_abandoned unknown",
}
SQL = Path(__file__).with_name("sql")


def store(folder, seeds, preset):
    """Write fleets side by side as Parquet files, as a snapshot has them."""
    for seed in range(seeds):
        fleet = kd.sandbox.frames(preset, seed)
        for name, order in (("records", "create_time"), ("devices", "device_create_time")):
            table = getattr(fleet, name)
            kinds = {key: "str" for key, kind in table.dtypes.items() if kind == "category"}
            table = table.astype(kinds).assign(user_id=table["user_id"].astype(str) + f"-{seed}")
            table = pa.Table.from_pandas(
                table.sort_values(["user_id", order]), preserve_index=False
            ).replace_schema_metadata(None)
            plain = [
                field.with_type(pa.string()) if pa.types.is_large_string(field.type) else field
                for field in table.schema
            ]
            (folder / name).mkdir(exist_ok=True)
            path = folder / name / f"part-{seed:06}.parquet"
            pq.write_table(table.cast(pa.schema(plain)), path, compression="zstd")


def side(kind, name, folder, result):
    """Make one table one way, and tell how long it took and the peak of the process in MB."""
    files = {what: f"{folder}/{what}/*.parquet" for what in ("records", "devices")}
    if kind == "spark":
        from pyspark.sql import SparkSession  # noqa: PLC0415 -- the others run without

        spark = (
            SparkSession.builder.master("local[2]")
            .config("spark.sql.session.timeZone", "UTC")
            .config("spark.driver.memory", "4g")
            .config("spark.ui.enabled", "false")
            .config("spark.driver.host", "127.0.0.1")
            .getOrCreate()
        )
        records, devices = (spark.read.parquet(f"{folder}/{what}") for what in files)
    elif kind == "pandas":
        first = "part-000000.parquet"
        records, devices = (pd.read_parquet(f"{folder}/{what}/{first}") for what in files)
    else:
        con = duckdb.connect()
        con.execute("SET TimeZone = 'UTC'; SET memory_limit = '1.5GB'; SET threads = 2")
        records, devices = (con.read_parquet(glob) for glob in files.values())
        records.create_view("records")
        devices.create_view("devices")
    # What is imported once is no part of a table.
    make = getattr(kd.analysis, name)
    started = time.perf_counter()
    if kind == "sql":
        parts = ("states", name)
        table = con.sql("\n".join((SQL / f"{part}.sql").read_text() for part in parts)).df()
    else:
        given = {"devices": devices} if name == "protection_status" else {}
        zone = {"tz": ZONE} if name == "activity" else {}
        table = make(records, **given, **zone)
    taken = time.perf_counter() - started
    table.to_pickle(result)
    # Not ru_maxrss, which begins with what the process that started this one had.
    print(json.dumps([taken, kib("VmHWM") * 1.024 / 1000]))


def alike(table, name):
    """Bring what both sides answer into one order and one set of types."""
    names = TABLES[name].split()
    table = table[names].copy()
    if name == "status_breakdown":
        table = table[table["n"] > 0]
    for column, kind in table.dtypes.items():
        if isinstance(kind, pd.DatetimeTZDtype):
            table[column] = table[column].dt.tz_convert("UTC").dt.as_unit("ms")
        else:
            is_number = pd.api.types.is_numeric_dtype(kind)
            texts = table[column].astype("object").where(table[column].notna(), "").astype("str")
            table[column] = table[column].astype("float64") if is_number else texts
    return table.sort_values(names[:2]).reset_index(drop=True)


def measure(kind, name, folder):
    """Run a side in a process of its own and give its seconds, its peak and its table."""
    result = folder / "table.pickle"
    command = [sys.executable, __file__, "--side", kind, name, str(folder), str(result)]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return *json.loads(told.splitlines()[-1]), pd.read_pickle(result)


def compare(runs, name, folder, *, with_spark):
    """Give the medians of our seconds and MB and of those of the SQL, then Spark and pandas."""
    seen = {"duckdb": [], "sql": []}
    for _ in range(runs):
        for kind, measured in seen.items():
            measured.append(measure(kind, name, folder))
    ours = seen["duckdb"][0][2]
    pd.testing.assert_frame_equal(alike(ours, name), alike(seen["sql"][0][2], name))
    for measured in seen.values():
        for at in range(2):
            yield statistics.median(each[at] for each in measured)
    if with_spark:
        taken, _, table = measure("spark", name, folder)
        pd.testing.assert_frame_equal(table, ours)
        yield taken
    else:
        yield None
    yield statistics.median(measure("pandas", name, folder)[0] for _ in range(runs))


def main(arguments=None):
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(description="Measure tables of many records on DuckDB.")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it runs")
    parser.add_argument("--side", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.side:
        side(*given.side)
        return
    runs, seeds, preset = (1, 2, "small") if given.quick else (5, 10, "large")
    print("| table | DuckDB | SQL | ratio | DuckDB | SQL | Spark | pandas, a tenth | aim | |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store(folder, seeds, preset)
        count = duckdb.read_parquet(f"{folder}/records/*.parquet").count("*").fetchall()[0][0]
        for table in TABLES:
            found = compare(runs, table, folder, with_spark=not given.quick)
            here, here_mb, there, there_mb, spark, pandas = found
            ratio = here / there
            verdict = "reached" if ratio <= AIM and here_mb < AIM_MB else "not reached"
            spark = "not run" if spark is None else f"{spark:.3g} s"
            print(
                f"| `{table}` | {here:.3g} s | {there:.3g} s | {ratio:.2f} | {here_mb:,.0f} MB "
                f"| {there_mb:,.0f} MB | {spark} | {pandas:.3g} s "
                f"| ≤ {AIM:g} x, < {AIM_MB:,} MB | {verdict} |",
                flush=True,
            )
    kind = "one run each" if given.quick else f"median of {runs} alternating runs, Spark once"
    versions = machine("duckdb", "narwhals", "pandas", "pyspark")
    print(f"\n{count:,} records; {versions}; {kind}.")


if __name__ == "__main__":
    main()
