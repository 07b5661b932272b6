"""What the README says to do on a Spark cluster works on a small one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import koodrive_nb as kd

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SESSION = """
from pyspark.sql import SparkSession

spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.session.timeZone", "UTC")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.driver.host", "127.0.0.1")
    .getOrCreate()
)
"""


@pytest.mark.spark
@pytest.mark.usefixtures("_java")
@pytest.mark.parametrize(
    ("n_users", "n_partitions"),
    [(30, 4), pytest.param(6, 12, id="some-partitions-empty-and-one-refused-as-a-whole")],
)
def test_the_recipe_for_spark_brings_every_record_and_names_who_failed(
    tmp_path, n_users, n_partitions
):
    (recipe,) = re.findall(r"```py\n(.*?)```", README, re.DOTALL)
    preset = kd.sandbox.Preset(n_users)
    drawn = kd.sandbox.frames(preset)
    users = [*drawn.users["user_id"], "nobody"]
    pd.DataFrame({"user_id": users}).to_csv(tmp_path / "users.csv", index=False)
    script = tmp_path / "recipe.py"
    own = recipe.replace("repartition(200)", f"repartition({n_partitions})")
    script.write_text(SESSION + own)
    with kd.sandbox.Sandbox(preset=preset) as sandbox:
        account = {
            "KOODRIVE_ENDPOINT": sandbox.endpoint,
            "KOODRIVE_APP_ID": sandbox.app_id,
            "KOODRIVE_APP_SECRET": sandbox.app_secret,
        }
        subprocess.run(
            [sys.executable, script],
            cwd=tmp_path,
            env={**os.environ, **account, "PYSPARK_PYTHON": sys.executable},
            check=True,
            capture_output=True,
            timeout=300,
        )
    found = pd.read_parquet(tmp_path / "records")
    failed = found[found["error"].notna()]
    assert [*failed["user_id"]] == ["nobody"]
    assert failed["record_id"].isna().all()
    rows = found[found["error"].isna()].drop(columns=["error", "fetched_at"])
    rows = rows.sort_values(["create_time", "record_id"], ignore_index=True)
    for name, expected in drawn.records.drop(columns="fetched_at").items():
        got = rows[name]
        if isinstance(expected.dtype, pd.DatetimeTZDtype) and got.dt.tz is None:
            got = got.dt.tz_localize("UTC")  # Spark writes instants without their zone.
        pd.testing.assert_series_equal(got.astype(expected.dtype), expected)
