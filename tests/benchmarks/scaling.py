"""How long tables of ten million records take on DuckDB, beside SQL written by hand.

Prints a Markdown table. Each side runs in a process of its own over the same Parquet files, and
both must give the same numbers; so must Spark, whose time stands beside, as does that of pandas
for the first million.

    python tests/benchmarks/scaling.py
"""

from __future__ import annotations

import argparse
import json
import resource
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
from measuring import machine

import koodrive_nb as kd

AIM, AIM_MB = 1.5, 2000
ZONE = "Asia/Shanghai"
# What the SQL beside each table answers too; ours gives more.
TABLES = {
    "status_breakdown": "module n completed in_progress stuck to_be_deleted was_completed "
    "was_abandoned unknown settled",
    "protection_status": "user_id device_id state rpo_age_h last_completed_time last_attempt_time "
    "stuck_in_a_row n n_completed n_deleting",
    "activity": "bin_start created ended presumed_stuck open completed in_progress stuck "
    "was_completed was_abandoned unknown",
}
STATES = """
WITH limits AS (
    SELECT module, if(count(*) >= 30,
        least(greatest(3 * quantile_cont(duration_s, 0.99), 3600), 604800), 86400) AS limit_s
    FROM records WHERE status_code = 1 AND duration_s >= 0 AND end_time <= fetched_at
    GROUP BY module
), newest AS (
    SELECT user_id, device_id, module_code,
        max(create_time) FILTER (WHERE create_time <= fetched_at) AS newest
    FROM records WHERE device_id IS NOT NULL GROUP BY ALL
), states AS (
    SELECT r.*, coalesce(limit_s, 86400) AS stuck_after_s, CASE
        WHEN status_code = 0 AND (newest > create_time OR create_time
            + to_milliseconds((coalesce(limit_s, 86400) * 1000)::BIGINT) < fetched_at) THEN 'stuck'
        WHEN status_code = 0 THEN 'in_progress' WHEN status_code = 1 THEN 'completed'
        WHEN status_code = 2 THEN 'to_be_deleted' ELSE 'unknown' END AS state
    FROM records r LEFT JOIN limits USING (module)
    LEFT JOIN newest n ON r.user_id = n.user_id AND r.device_id = n.device_id
        AND r.module_code IS NOT DISTINCT FROM n.module_code
)"""
SQL = {
    "status_breakdown": """
SELECT module, count(*) AS n, count(*) FILTER (state = 'completed') AS completed,
    count(*) FILTER (state = 'in_progress') AS in_progress,
    count(*) FILTER (state = 'stuck') AS stuck,
    count(*) FILTER (state = 'to_be_deleted') AS to_be_deleted,
    count(end_time) FILTER (state = 'to_be_deleted') AS was_completed,
    to_be_deleted - was_completed AS was_abandoned,
    count(*) FILTER (state = 'unknown') AS unknown,
    completed + to_be_deleted + stuck AS settled
FROM states GROUP BY module""",
    "protection_status": """
, known AS (
    SELECT user_id, device_id, module_code, state, end_time, fetched_at, device_create_time, CASE
        WHEN create_time <= fetched_at THEN create_time
        WHEN create_time <= fetched_at + INTERVAL 5 MINUTE THEN fetched_at END AS began
    FROM states WHERE device_id IS NOT NULL AND began IS NOT NULL
), modules AS (
    SELECT user_id, device_id, module_code, count(*) AS n,
        count(*) FILTER (state = 'completed') AS n_completed,
        count(*) FILTER (state = 'to_be_deleted' AND end_time IS NOT NULL) AS n_deleting,
        max(began) AS attempt, max(began) FILTER (state = 'completed') AS completed,
        max(began) FILTER (state IN ('stuck', 'in_progress', 'unknown')
            OR state = 'to_be_deleted' AND end_time IS NULL) AS unfinished,
        max(fetched_at) AS as_of, min(device_create_time) AS bound
    FROM known GROUP BY ALL
), strikes AS (
    SELECT user_id, device_id, max(stuck) AS stuck_in_a_row FROM (
        SELECT k.user_id, k.device_id, k.module_code, count(*) AS stuck
        FROM known k JOIN modules m ON k.user_id = m.user_id AND k.device_id = m.device_id
            AND k.module_code IS NOT DISTINCT FROM m.module_code
        WHERE state = 'stuck' AND (completed IS NULL OR began > completed) GROUP BY ALL
    ) GROUP BY ALL
), held AS (
    SELECT user_id, device_id, sum(n) AS n, sum(n_completed) AS n_completed,
        sum(n_deleting) AS n_deleting, max(attempt) AS attempt, max(completed) AS completed,
        max(as_of) AS as_of, min(bound) AS bound
    FROM modules GROUP BY ALL
), together AS (
    SELECT *, coalesce(h.as_of, d.fetched_at) AS now,
        coalesce(d.device_create_time, h.bound) AS bound_at,
        epoch_ms(now) - epoch_ms(completed) AS age_ms
    FROM held h FULL JOIN (SELECT *, true AS is_bound FROM devices) d USING (user_id, device_id)
    LEFT JOIN strikes USING (user_id, device_id)
)
SELECT user_id, device_id, CASE
    WHEN is_bound IS NULL THEN 'unbound'
    WHEN completed IS NULL AND n_deleting > 0 THEN 'deleting'
    WHEN completed IS NULL AND now < bound_at + INTERVAL 7 DAY THEN 'initial_pending'
    WHEN completed IS NULL THEN 'never'
    WHEN age_ms <= 604800000 THEN if(stuck_in_a_row > 0, 'warning', 'protected')
    WHEN age_ms <= 1.5 * 604800000 THEN 'late' ELSE 'outdated' END AS state,
    age_ms / 3600000 AS rpo_age_h, completed AS last_completed_time,
    attempt AS last_attempt_time, coalesce(stuck_in_a_row, 0) AS stuck_in_a_row,
    coalesce(n, 0) AS n, coalesce(n_completed, 0) AS n_completed,
    coalesce(n_deleting, 0) AS n_deleting
FROM together""",
    "activity": f"""
, span AS (
    SELECT max(fetched_at) AS now,
        date_trunc('week', now AT TIME ZONE '{ZONE}') - INTERVAL 8 WEEK AS start FROM records
), known AS (
    SELECT state, create_time, end_time, CASE
        WHEN end_time <= fetched_at THEN greatest(end_time, create_time)
        WHEN state = 'completed' THEN if(end_time IS NULL, create_time, fetched_at)
        WHEN state = 'to_be_deleted' AND end_time IS NOT NULL THEN fetched_at
        WHEN state <> 'in_progress' THEN least(fetched_at, create_time
            + to_milliseconds((stuck_after_s * 1000)::BIGINT)) END AS over,
        over IS NOT NULL AND state <> 'completed' AND end_time IS NULL AS is_lost
    FROM states WHERE create_time <= fetched_at
), counts AS (
    SELECT state, is_lost, end_time IS NOT NULL AS has_end, count(*) AS n,
        greatest((create_time AT TIME ZONE '{ZONE}')::DATE, start::DATE - 1) AS created_on,
        if(over IS NULL, NULL,
            greatest((over AT TIME ZONE '{ZONE}')::DATE, start::DATE - 1)) AS over_on
    FROM known, span
    GROUP BY ALL
), days AS (
    SELECT unnest(generate_series(start::DATE - 1, (now AT TIME ZONE '{ZONE}')::DATE,
        INTERVAL 1 DAY))::DATE AS day FROM span
), created AS (
    SELECT created_on AS day, sum(n) AS created, sum(n) FILTER (state = 'completed') AS completed,
        sum(n) FILTER (state = 'in_progress') AS in_progress,
        sum(n) FILTER (state = 'stuck') AS stuck,
        sum(n) FILTER (state = 'to_be_deleted' AND has_end) AS was_completed,
        sum(n) FILTER (state = 'to_be_deleted' AND NOT has_end) AS was_abandoned,
        sum(n) FILTER (state = 'unknown') AS unknown
    FROM counts GROUP BY day
), over AS (
    SELECT over_on AS day, sum(n) FILTER (NOT is_lost) AS ended,
        sum(n) FILTER (is_lost) AS presumed_stuck
    FROM counts WHERE over_on IS NOT NULL GROUP BY day
), daily AS (
    SELECT day, COLUMNS(* EXCLUDE (day)),
        sum(coalesce(created, 0) - coalesce(ended, 0) - coalesce(presumed_stuck, 0))
            OVER (ORDER BY day) AS open
    FROM days LEFT JOIN created USING (day) LEFT JOIN over USING (day)
)
SELECT (day::TIMESTAMP AT TIME ZONE '{ZONE}') AS bin_start, coalesce(COLUMNS(* EXCLUDE (day)), 0)
FROM daily WHERE day >= (SELECT start::DATE FROM span)""",
}


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
    started = time.perf_counter()
    if kind == "sql":
        table = con.sql(STATES + SQL[name]).df()
    else:
        given = {"devices": devices} if name == "protection_status" else {}
        zone = {"tz": ZONE} if name == "activity" else {}
        table = getattr(kd.analysis, name)(records, **given, **zone)
    taken = time.perf_counter() - started
    table.to_pickle(result)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(json.dumps([taken, peak]))


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
            table[column] = table[column].astype("float64" if is_number else "str")
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
    runs, seeds, preset = (1, 2, "small") if given.quick else (3, 10, "large")
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
