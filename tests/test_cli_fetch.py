"""`koodrive-nb fetch`: what is in the file, and how it goes on after whatever stopped it."""

import json
import re
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import click
import pandas as pd
import pytest
from click.testing import CliRunner

import koodrive_nb as kd
from koodrive_nb import cli, columns
from koodrive_nb.cli import downloads, fetch, parts, user_lists

BASE = "/koodrive/ose/v1/backup"
USERS = [str(number) for number in range(100, 125)]  # More than are asked at a time.


def run(*arguments):
    return CliRunner().invoke(cli.main, ["fetch", *arguments])


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def live(service, monkeypatch):
    """Let the environment lead to the double, where each user has a record and a device."""
    for name, value in {
        "ENDPOINT": service.endpoint,
        "USER_ID": "100",
        "APP_ID": "a378331e",
        "APP_SECRET": "5e1c0ffee",
    }.items():
        monkeypatch.setenv(f"KOODRIVE_{name}", value)
    service.broken = lambda asked: False
    service.refusal = 401

    def answer(asked):
        user_id, module = asked.headers["X-User-Id"], asked.query.get("moduleCode")
        if service.broken(asked):
            return service.Answer({"code": 401, "msg": "\x1b[31mno\nsuch user"}, service.refusal)
        if asked.path == f"{BASE}/device":
            return service.Answer({"code": 0, "data": [{"deviceId": f"d{user_id}"}]})
        row = {"recordId": f"{user_id}{module}", "moduleCode": module, "status": 1}
        row |= {"createTime": "2025-12-01T00:00:00Z", "deviceInfo": {"deviceId": f"d{user_id}"}}
        return service.Answer({"code": 0, "data": [row]})

    service.answer = answer
    return service


def write_users(ids=USERS):
    pd.DataFrame({"user_id": ids, "region": "north"}).to_csv("users.csv", index=False)
    return ["--users", "users.csv"]


def names_in(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def asked_of(service):
    return Counter(asked.headers["X-User-Id"] for asked in service.asked)


def test_a_file_has_what_the_client_gives(client, records, devices):
    for dataset, expected in (("records", records), ("devices", devices)):
        result = run(dataset, "--sandbox", "-o", f"{dataset}.parquet")
        assert result.exit_code == 0, result.output
        told = f"Complete: {dataset}.parquet has {len(expected):,} {dataset} of 1 user.\n"
        assert result.stderr == told
        assert result.stdout == ""
        frame = pd.read_parquet(f"{dataset}.parquet").astype(expected.dtypes.to_dict())
        pd.testing.assert_frame_equal(frame, expected)
    assert names_in(".") == ["devices.parquet", "records.parquet"]


def test_what_is_asked_for_can_be_narrowed_down(client, records):
    device_id = records["device_id"].dropna().iloc[0]
    of_module = ["--module", "album", "--device", device_id]
    assert run("records", "--sandbox", *of_module, "-o", "r.csv").exit_code == 0
    expected = client.records(module="album", device_id=device_id)
    assert list(pd.read_csv("r.csv", dtype=str)["record_id"]) == list(expected["record_id"])
    record_id = "1842862763295184641"
    assert run("files", "--sandbox", "--record", record_id, "-o", "f.jsonl").exit_code == 0
    lines = [json.loads(line) for line in Path("f.jsonl").read_text().splitlines()]
    assert [line["file_id"] for line in lines] == list(client.files(record_id)["file_id"])


def test_columns_of_the_list_of_users_are_added(live):
    users = write_users(["100", "101", "100"])
    assert run("devices", *users, "-o", "d.csv").exit_code == 0
    frame = pd.read_csv("d.csv", dtype=str)
    assert frame[["user_id", "region"]].to_numpy().tolist() == [["100", "north"], ["101", "north"]]


def test_the_fleet_is_as_if_fetched_at_once(live):
    users = write_users()
    with kd.connect() as client:
        whole = kd.fleet.fetch(client, USERS).records.drop(columns="fetched_at")
    live.asked.clear()
    assert run("records", *users, "-o", "r.parquet").exit_code == 0
    assert asked_of(live) == dict.fromkeys(USERS, 3)
    frame = pd.read_parquet("r.parquet").drop(columns=["fetched_at", "region"])
    pd.testing.assert_frame_equal(frame.astype(whole.dtypes.to_dict()), whole)


def test_a_user_who_fails_leaves_no_file_and_is_asked_alone_the_next_time(live):
    users = write_users()
    live.broken = lambda asked: asked.headers["X-User-Id"] == "117"
    result = run("records", *users, "-o", "r.csv")
    assert result.exit_code == 3
    assert "Failed: user 117, module folder: AuthenticationError" in result.stderr
    assert "\x1b" not in result.output
    assert "no such user" in result.output
    assert "Incomplete, so r.csv is not written: what came is in r.csv.part." in result.stderr
    assert names_in("r.csv.part")
    assert not Path("r.csv").exists()

    result = run("records", *users, "-o", "r.csv", "--partial")
    assert result.exit_code == 3
    assert "Incomplete: r.csv has 72 records, without what failed." in result.stderr
    assert set(pd.read_csv("r.csv", dtype=str)["user_id"]) == {*USERS} - {"117"}

    live.asked.clear()
    live.broken = lambda asked: False
    assert run("records", *users, "-o", "r.csv").exit_code == 0
    assert set(asked_of(live)) == {"117"}
    assert list(pd.read_csv("r.csv", dtype=str)["user_id"].unique()) == USERS
    assert not Path("r.csv.part").exists()


def test_of_one_user_finished_modules_are_not_asked_again(live):
    live.refusal = 503
    live.broken = lambda asked: asked.query.get("moduleCode") == "101"
    assert run("records", "-o", "r.csv").exit_code == 3
    live.asked.clear()
    live.broken = lambda asked: False
    assert run("records", "-o", "r.csv").exit_code == 0
    assert [asked.query["moduleCode"] for asked in live.asked] == ["101"]
    assert len(pd.read_csv("r.csv")) == 3


def test_refused_credentials_end_it_with_their_own_error(live):
    live.broken = lambda asked: True
    result = run("records", "-o", "r.csv")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "was refused (HTTP 401" in result.stderr
    assert len(live.asked) <= 3


def test_a_question_that_nothing_came_of_is_in_nobodys_way(live):
    live.broken = lambda asked: asked.headers["X-User-Id"] == "typo"
    assert run("devices", "--user", "typo", "-o", "d.csv").exit_code == 1
    live.refusal = 503
    users = write_users(["typo"])
    result = run("records", *users, "-o", "d.csv", "--partial")
    assert (result.exit_code, names_in(".")) == (3, ["users.csv"])
    assert "Incomplete, so d.csv is not written: nothing came whole." in result.stderr
    result = run("devices", "--user", "101", "-o", "d.csv")
    assert result.exit_code == 0, result.output
    assert "Complete: d.csv has 1 device of 1 user." in result.stderr
    assert names_in(".") == ["d.csv", "users.csv"]


@pytest.mark.parametrize("by", ["--user", "--users"])
def test_users_that_are_named_take_the_place_of_the_variable(live, monkeypatch, by):
    monkeypatch.delenv("KOODRIVE_USER_ID")
    named = ["--user", "101"] if by == "--user" else write_users(["101"])
    assert run("devices", *named, "-o", "d.csv").exit_code == 0
    assert asked_of(live) == {"101": 1}


def test_another_question_does_not_mix(live):
    live.broken = lambda asked: asked.query.get("moduleCode") == "101"
    assert run("records", "-o", "r.csv").exit_code == 3
    live.asked.clear()
    for other in (["devices"], ["records", "--module", "101"], ["records", "--user", "101"]):
        result = run(*other, "-o", "r.csv")
        assert result.exit_code == 1
        assert "another question (dataset records, users 1, module all" in result.stderr
    assert live.asked == []
    assert run("devices", "-o", "r.csv", "--restart").exit_code == 0
    assert list(pd.read_csv("r.csv")["device_id"]) == ["d100"]


@pytest.mark.parametrize("restart", [[], ["--restart"]])
def test_a_folder_of_somebody_else_is_left_alone(live, restart):
    Path("r.csv.part").mkdir()
    Path("r.csv.part", "mine").touch()
    result = run("records", "-o", "r.csv", *restart)
    assert result.exit_code == 1
    assert "is not of an earlier fetch" in result.stderr
    assert names_in("r.csv.part") == ["mine"]


def test_two_fetches_at_once_double_nothing(live):
    live.broken = lambda asked: asked.query.get("moduleCode") == "101"
    assert run("records", "-o", "r.csv").exit_code == 3
    part = next(Path("r.csv.part").glob("*.parquet"))
    part.with_name("another.parquet").write_bytes(part.read_bytes())
    result = run("records", "-o", "r.csv")
    assert result.exit_code == 1
    assert "Two fetches at once" in result.stderr


def test_parts_are_for_their_owner_alone_and_name_nobody_where_frames_do_not(live, monkeypatch):
    monkeypatch.setenv("KOODRIVE_PRIVACY", "pseudonyms")
    monkeypatch.setenv("KOODRIVE_PRIVACY_KEY", "0f" * 32)
    live.broken = lambda asked: asked.query.get("moduleCode") == "101"
    assert run("records", "-o", "r.csv").exit_code == 3
    assert stat.S_IMODE(Path("r.csv.part").stat().st_mode) == 0o700
    frame = pd.concat(map(pd.read_parquet, Path("r.csv.part").glob("*.parquet")))
    assert frame["user_id"].str.startswith("user-").all()
    told = json.loads(Path("r.csv.part", "manifest.json").read_text())
    # Any four digits may turn up in a digest.
    assert len(told.pop("digest")) == 64
    for secret in ("d100", "5e1c0ffee", "0f0f"):
        assert secret not in str(told)
    monkeypatch.delenv("KOODRIVE_PRIVACY")
    assert "another question" in run("records", "-o", "r.csv").stderr


@pytest.mark.parametrize("by", ["SIGINT", "SIGKILL"])
def test_what_was_stopped_goes_on_where_it_was(live, by):
    users = write_users()
    reached = []
    live.broken = lambda asked: (
        reached.append(1) or time.sleep(10) if asked.headers["X-User-Id"] == "122" else False
    )
    command = [sys.executable, "-c", "from koodrive_nb.cli import main; main()", "fetch"]
    with subprocess.Popen(
        [*command, "records", *users, "-o", "r.csv"], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            deadline = time.monotonic() + 30
            while not reached and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(getattr(signal, by))
            _, told = process.communicate(timeout=10)
        finally:
            process.kill()
    if by == "SIGINT":
        assert process.returncode == 130
        assert "Interrupted: 20 of 25 parts are in r.csv.part" in told
        assert "Traceback" not in told
    assert not Path("r.csv").exists()
    live.asked.clear()
    live.broken = lambda asked: False
    assert run("records", *users, "-o", "r.csv").exit_code == 0
    assert asked_of(live) == dict.fromkeys(USERS[20:], 3)
    frame = pd.read_csv("r.csv", dtype=str)
    assert Counter(frame["user_id"]) == dict.fromkeys(USERS, 3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("user_id\n100\n1.8E+18\n101\n1,9e18\n", r"in line 3, as in 1\.8E\+18"),
        ("user_id,x\n1.8E+18,\n2.0,\n", r"in line 2, 3"),
        ("id\n1\n", r"no column user_id \(found: id\)"),
        ("User_ID;plan\n1;a\n", r"no column user_id \(found: User_ID;plan\).* with commas"),
        ("user_id,user_id\n1,2\n", "several columns user_id"),
        (
            (
                "user_id\n1505084218764540000\n1505084218764550000\n1505084218764551234\n"
                "1505084218764560000\n17\n"
            ),
            "in line 2, 3, 5, whose digits after the fifteenth are all 0",
        ),
        ("user_id\n", "no users"),
        ("user_id\n1\n\n 2\n", "user id in line 4 .*copy the id"),
        ("user_id,plan\n1,a\n2\n", "line 3 has 1 values for 2"),
        ("", "no column user_id: name it"),
    ],
)
def test_spoilt_and_unfit_ids_are_refused_with_their_lines(live, text, says):
    Path("users.csv").write_text(text.replace("1,9e18", '"1,9e18"') if "1,9" in text else text)
    if "1,9" in text:
        says = r"in line 3, 5, as in 1\.8E\+18"
    with pytest.raises(kd.InvalidParameterError, match=says):
        user_lists.read(Path("users.csv"))
    assert run("devices", "--users", "users.csv", "-o", "d.csv").exit_code == 1
    assert live.asked == []


def test_lists_of_users_keep_19_digits_and_other_columns(tmp_path):
    ids = ["1505084218764547200", "0017"]
    Path("users.csv").write_text("\ufeffuser_id,plan\n1505084218764547200,007\n0017,\n")
    users = user_lists.read(Path("users.csv"))
    assert list(users["user_id"]) == ids
    assert list(users["plan"]) == ["007", ""]
    pd.DataFrame({"user_id": [1505084218764547200], "plan": [7]}).to_parquet("users.parquet")
    users = user_lists.read(Path("users.parquet"))
    assert users.to_numpy().tolist() == [[ids[0], 7]]
    pd.DataFrame({"user_id": [1.5e18]}).to_parquet("users.parquet")
    with pytest.raises(kd.InvalidParameterError, match="spoilt the ids"):
        user_lists.read(Path("users.parquet"))
    # So it is with two of three by chance, or with one in twenty.
    few = ["1505084218764540000", "1505084218764550000", "1505084218764551234"]
    many = [
        f"{number}{'000' if number % 20 == 0 else '123'}" for number in range(10**15, 10**15 + 99)
    ]
    for ids in (few, many):
        pd.DataFrame({"user_id": ids}).to_csv("users.csv", index=False)
        assert list(user_lists.read(Path("users.csv"))["user_id"]) == ids
    Path("users.parquet").write_bytes(b"no")
    with pytest.raises(kd.InvalidParameterError, match="cannot be read"):
        user_lists.read(Path("users.parquet"))


@pytest.mark.parametrize("code", ["utf-16", "utf-16-le", "latin-1", "xlsx"])
def test_a_list_that_is_no_text_in_utf_8_says_how_to_save_it(tmp_path, code):
    path = tmp_path / "users.csv"
    table = pd.DataFrame({"user_id": ["1", "2"], "region": ["Köln", "Zürich"]})
    if code == "xlsx":
        table.to_excel(tmp_path / "users.xlsx", index=False, engine="xlsxwriter")
        path = tmp_path / "users.xlsx"
    else:
        path.write_bytes(table.to_csv(index=False).encode(code))
    with pytest.raises(kd.InvalidParameterError, match="save it as CSV UTF-8") as caught:
        user_lists.read(path)
    assert "codec" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "records",
        "nonsense -o x.csv",
        "records -o x.csv --module nonsense",
        "devices -o x.csv --module album",
        "files -o x.csv",
        "records -o x.csv --record 1",
        "files -o x.csv --record 1 --user 1 --user 2",
        "records -o x.csv --token abc",
    ],
)
def test_wrong_usage_is_exit_code_64(line):
    assert run(*line.split()).exit_code == 64


@pytest.mark.parametrize("name", ["x", "x.docx", "nowhere/x.csv"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_asked(live, name):
    assert run("records", "-o", name).exit_code == 1
    assert live.asked == []


def test_modules_are_those_of_the_column_tables():
    assert {code: label for label, code in fetch._MODULES.items()} == dict(columns.MODULES)
    assert downloads._UNITS_AT_A_TIME * downloads._MOST_IN_A_ROW > 50


def test_a_file_that_was_resumed_equals_one_that_was_not(monkeypatch):
    hurt = [
        kd.sandbox.Fault("status", path="moduleCode=101", times=5),
        kd.sandbox.Fault("latency", path="moduleCode=100", seconds=0.01),
        kd.sandbox.Fault("truncate", path="record", share=0.1, times=1),
    ]
    with kd.sandbox.Sandbox(faults=hurt) as sandbox:
        for name, value in {
            "ENDPOINT": sandbox.endpoint,
            "USER_ID": kd.sandbox.DEFAULT_USER,
            "APP_ID": sandbox.app_id,
            "APP_SECRET": sandbox.app_secret,
        }.items():
            monkeypatch.setenv(f"KOODRIVE_{name}", value)
        codes = [3]
        while codes[-1] == 3 and len(codes) < 20:
            codes.append(run("records", "-o", "r.jsonl").exit_code)
        assert run("records", "-o", "whole.jsonl").exit_code == 0
    assert codes[1] == 3
    assert codes[-1] == 0
    resumed, whole = (
        pd.read_json(name, lines=True, dtype=False).drop(columns="fetched_at")
        for name in ("r.jsonl", "whole.jsonl")
    )
    pd.testing.assert_frame_equal(resumed, whole)
    assert len(whole) == len(whole["record_id"].unique()) > 100


def test_no_part_is_written_through_a_link(live, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Path("r.csv.part").symlink_to(elsewhere)
    for more in ([], ["--restart"]):
        found = run("devices", "-o", "r.csv", *more)
        assert (found.exit_code, names_in(elsewhere)) == (1, [])
        assert "is not of an earlier fetch" in found.stderr
    assert not Path("r.csv").exists()


def test_an_empty_folder_that_is_open_to_others_does_not_stay_so(tmp_path):
    folder = tmp_path / "r.csv.part"
    folder.mkdir(mode=0o777)
    parts.Parts(folder, {"dataset": "devices"}, [])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("is_deleted", [True, False])
def test_parts_that_another_fetch_has_changed_make_no_file(tmp_path, is_deleted):
    """Of two at once, each has begun before the other had brought anything."""
    rows = kd.sandbox.frames().devices.head(2)
    mine, other = (parts.Parts(tmp_path / "d.part", {"dataset": "devices"}, []) for _ in range(2))
    mine.add(rows, [0])
    if is_deleted:
        next(mine.folder.glob("*.parquet")).unlink()
    other.add(rows, [1] if is_deleted else [0, 1])
    with pytest.raises(click.ClickException, match="Two fetches at once"):
        mine.frame("devices")


def test_a_part_that_is_none_is_told_by_its_name(live):
    live.broken = lambda asked: asked.query.get("moduleCode") == "101"
    run("records", "-o", "r.csv")
    Path("r.csv.part", "00000009-0.parquet").write_bytes(b"PAR1")
    found = run("records", "-o", "r.csv")
    assert found.exit_code == 1
    assert re.search(r"00000009-0\.parquet is spoilt, .*--restart", found.stderr)
