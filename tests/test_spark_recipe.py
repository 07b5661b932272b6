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


KEY = "0f" * 32
(RECIPE,) = re.findall(r"```py\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def fetch():
    """Give what the recipe does with the batches of a partition."""
    names = {}
    exec(RECIPE.partition("spark.conf.set")[0], names)
    return names["fetch"]


@pytest.mark.spark
@pytest.mark.usefixtures("_java")
@pytest.mark.parametrize(
    ("n_users", "n_partitions", "privacy"),
    [
        (30, 4, "names"),
        pytest.param(6, 12, "names", id="some-partitions-empty-and-one-refused-as-a-whole"),
        (6, 12, "pseudonyms"),
    ],
)
def test_the_recipe_for_spark_brings_every_record_and_names_who_failed(
    tmp_path, n_users, n_partitions, privacy
):
    preset = kd.sandbox.Preset(n_users)
    drawn = kd.sandbox.frames(preset)
    users = [*drawn.users["user_id"], "nobody"]
    pd.DataFrame({"user_id": users}).to_csv(tmp_path / "users.csv", index=False)
    script = tmp_path / "recipe.py"
    own = RECIPE.replace("repartition(200)", f"repartition({n_partitions})")
    script.write_text(SESSION + own)
    with kd.sandbox.Sandbox(preset=preset) as sandbox:
        account = {
            "KOODRIVE_ENDPOINT": sandbox.endpoint,
            "KOODRIVE_APP_ID": sandbox.app_id,
            "KOODRIVE_APP_SECRET": sandbox.app_secret,
            "KOODRIVE_PRIVACY": privacy,
            "KOODRIVE_PRIVACY_KEY": KEY,
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
    nobody = kd.report.protect(pd.DataFrame({"user_id": ["nobody"]}), privacy, KEY)
    assert [*failed["user_id"]] == [*nobody["user_id"]]
    assert failed["record_id"].isna().all()
    rows = found[found["error"].isna()].drop(columns=["error", "fetched_at"])
    rows = rows.sort_values(["create_time", "record_id"], ignore_index=True)
    wanted = kd.report.protect(drawn.records, privacy, KEY)
    for name, expected in wanted.drop(columns="fetched_at").items():
        got = rows[name]
        if isinstance(expected.dtype, pd.DatetimeTZDtype) and got.dt.tz is None:
            got = got.dt.tz_localize("UTC")  # Spark writes instants without their zone.
        pd.testing.assert_series_equal(got.astype(expected.dtype), expected)


@pytest.mark.parametrize("privacy", ["names", "pseudonyms"])
@pytest.mark.parametrize(
    ("status", "said"), [(401, "HTTP 401"), (None, "no answer")], ids=["refused", "not-answered"]
)
def test_the_recipe_tells_of_a_batch_that_did_not_come_as_far_as_it_may(  # noqa: PLR0913, PLR0917 -- a table
    fetch, service, monkeypatch, privacy, status, said
):
    def answer(asked):
        if status is None:
            raise ConnectionResetError
        return service.Answer({"code": 401, "msg": asked.headers["X-User-Id"]}, status)

    service.answer = answer
    account = {"ENDPOINT": service.endpoint, "APP_ID": "a378331e", "APP_SECRET": "5e1c0ffee"}
    for name, value in (account | {"PRIVACY": privacy, "PRIVACY_KEY": KEY}).items():
        monkeypatch.setenv(f"KOODRIVE_{name}", value)
    users = pd.DataFrame({"user_id": ["1035961244483321856", "1010670930868271537"]})
    (failed,) = fetch([users])
    assert [*failed["user_id"]] == [*kd.report.protect(users)["user_id"]]
    assert failed["error"].str.contains(said).all()
    if privacy != "names":
        assert not failed["error"].str.contains("|".join(users["user_id"])).any()
