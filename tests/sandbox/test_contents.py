import json
import re
from datetime import UTC, datetime, timedelta

import pytest
import requests

import koodrive_nb as kd
from koodrive_nb.sandbox import contents

BASE = "/koodrive/ose/v1/backup"
PRINTED = "1842862763295184641"
USERS = [kd.sandbox.DEFAULT_USER, kd.sandbox.CROWD_USER]
MODULES = ["100", "101", "102"]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
WORD = re.compile(r"[a-zA-Z0-9_]{1,32}")
FOLDER = re.compile(r"(?:$|/[^\\]*$)")


@pytest.fixture(scope="module")
def sandbox():
    with kd.sandbox.Sandbox() as running:
        yield running


@pytest.fixture
def ask(sandbox):
    auth = kd.AppAuth(sandbox.app_id, sandbox.app_secret)

    def send(path, query=None, user=kd.sandbox.DEFAULT_USER):
        at = datetime.now(UTC) - timedelta(seconds=2)
        return requests.get(
            f"{sandbox.endpoint}{BASE}/{path}",
            params=query,
            headers={"X-User-Id": user, "X-Date": f"{at:%Y%m%dT%H%M%SZ}"},
            auth=auth,
            timeout=10,
        )

    return send


@pytest.fixture
def some(ask):
    """Give some records and devices of a user, as the service lists them."""

    def listed(user=kd.sandbox.DEFAULT_USER):
        records = []
        for module in MODULES:
            query = {"moduleCode": module, "pageSize": 15}
            records += ask("record", query, user).json()["data"]
        return records, ask("device", user=user).json()["data"][:15]

    return listed


@pytest.fixture
def files_of(ask):
    def listed(record_id, size=100, user=kd.sandbox.DEFAULT_USER):
        pages, cursor = [], None
        while cursor != "":
            query = {"pageSize": size} | ({"cursor": cursor} if cursor else {})
            answer = ask(f"record/{record_id}/files", query, user)
            assert answer.status_code == 200
            assert set(answer.json()) == {"data", "nextCursor", "code", "msg"}
            pages.append(answer.json()["data"])
            cursor = answer.json()["nextCursor"]
        return pages

    return listed


def flat(pages):
    return [row for page in pages for row in page]


@pytest.mark.parametrize("user", USERS)
def test_files_have_the_documented_fields_and_types(some, files_of, user):
    records, _ = some(user)
    seen = set()
    for record in records:
        rows = flat(files_of(record["recordId"], user=user))
        assert len({row["fileId"] for row in rows}) == len(rows)
        for row in rows:
            assert {name: type(value) for name, value in row.items()} == {
                "fileId": str,
                "fileName": str,
                "sha256": str,
                "size": int,
                "description": str,
                "createTime": str,
            }
            assert re.fullmatch(r"\d{15,19}", row["fileId"])
            assert re.fullmatch(r"[0-9a-f]{64}", row["sha256"])
            assert not set('<>|:"*?/').intersection(row["fileName"])
            assert 1 <= len(row["fileName"]) <= 250
            assert row["size"] > 0
            assert TIME.fullmatch(row["createTime"])
            assert row["createTime"] >= record["createTime"]
            seen.add(row["fileId"])
    assert len(seen) > 100


def test_a_record_has_the_files_that_its_properties_count(some, files_of):
    records, _ = some()
    ended = [record for record in records if "endTime" in record]
    assert ended
    for record in ended:
        count = json.loads(record["properties"])["fileCount"]
        assert len(flat(files_of(record["recordId"]))) == count


def test_a_record_that_is_open_has_part_of_its_files(ask, files_of):
    query = {"moduleCode": "100", "pageSize": 100}
    (running,) = [row for row in ask("record", query).json()["data"] if "endTime" not in row]
    count = json.loads(running["properties"])["fileCount"]
    assert len(flat(files_of(running["recordId"]))) == count // 2 > 0
    assert len(flat(files_of(PRINTED))) == 1


@pytest.mark.parametrize("size", [1, 3, 7, 50])
def test_pages_of_any_size_give_every_file_once(ask, files_of, size):
    row = ask("record", {"moduleCode": "101", "pageSize": 1}).json()["data"][0]
    whole = flat(files_of(row["recordId"]))
    pages = files_of(row["recordId"], size)
    assert flat(pages) == whole
    assert len({file["fileId"] for file in whole}) == len(whole) > 2
    assert [len(page) for page in pages[:-1]] == [size] * (len(pages) - 1)
    assert 1 <= len(pages[-1]) <= size


def test_files_are_the_same_each_time_and_in_every_service(ask, files_of, sandbox):
    row = ask("record", {"moduleCode": "101", "pageSize": 1}).json()["data"][0]
    first = files_of(row["recordId"])
    assert files_of(row["recordId"]) == first
    with (
        kd.sandbox.Sandbox(seed=9) as other,
        kd.connect(
            endpoint=other.endpoint,
            user_id=kd.sandbox.DEFAULT_USER,
            auth=kd.TokenAuth(other.token),
        ) as client,
    ):
        found = client.files(row["recordId"])
    assert set(found["file_id"]) == {file["fileId"] for file in flat(first)}


def test_files_of_different_records_differ(some, files_of):
    records, _ = some()
    found = [file["sha256"] for row in records[:10] for file in flat(files_of(row["recordId"]))]
    assert len(set(found)) == len(found)


def test_a_cursor_of_files_belongs_to_their_record_and_user(ask):
    rows = ask("record", {"moduleCode": "101", "pageSize": 2}).json()["data"]
    mine, other = (f"record/{row['recordId']}/files" for row in rows)
    cursor = ask(mine, {"pageSize": 1}).json()["nextCursor"]
    assert cursor
    query = {"pageSize": 1, "cursor": cursor}
    assert ask(mine, query).status_code == 200
    for path, asked in ((other, query), ("record", query | {"moduleCode": "101"})):
        answer = ask(path, asked)
        assert (answer.status_code, answer.json()["code"]) == (400, 13000102)


@pytest.mark.parametrize("size", [None, "", 0, -1, 101, 1000, "ten", "1.5", "１"])
def test_files_need_a_page_size_from_1_to_100(ask, size):
    answer = ask(f"record/{PRINTED}/files", {"pageSize": size})
    assert (answer.status_code, answer.json()["code"]) == (400, 13000102)
    assert "pageSize" in answer.json()["msg"]


@pytest.mark.parametrize("cursor", ["made up", "MTIz", "x" * 1500, "=", "é"])
def test_files_take_no_cursor_but_their_own(ask, cursor):
    answer = ask(f"record/{PRINTED}/files", {"pageSize": 1, "cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (400, 13000102)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("user", USERS)
def test_scopes_have_the_documented_fields_under_a_name_of_their_own(ask, some, user, module):
    _, devices = some(user)
    seen = set()
    for device in devices:
        answer = ask(f"device/{device['deviceId']}/scope", {"moduleCode": module}, user)
        assert answer.status_code == 200
        body = answer.json()
        assert set(body) == {"scopeList", "code", "msg"}
        assert (body["code"], body["msg"]) == (0, "success")
        assert body["scopeList"]
        for row in body["scopeList"]:
            assert {name: type(value) for name, value in row.items()} == {
                "localPath": str,
                "targetFolderPath": str,
                "scopeId": str,
                "moduleCode": str,
                "createTime": str,
            }
            assert row["moduleCode"] == module
            assert FOLDER.match(row["localPath"])
            assert FOLDER.match(row["targetFolderPath"])
            assert row["localPath"] or row["targetFolderPath"]
            assert TIME.fullmatch(row["createTime"])
            assert row["createTime"] > device["createTime"]
            seen.add(row["scopeId"])
    assert len(seen) == len(devices)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("user", USERS)
def test_settings_have_the_documented_fields_and_types(ask, some, user, module):
    _, devices = some(user)
    for device in devices:
        answer = ask(f"device/{device['deviceId']}/configs", {"moduleCode": module}, user)
        assert answer.status_code == 200
        body = answer.json()
        assert set(body) == {"data", "code", "msg"}
        assert len({row["configName"] for row in body["data"]}) == len(body["data"]) > 0
        for row in body["data"]:
            assert set(row) == {
                "deviceId",
                "moduleCode",
                "configName",
                "configValue",
                "description",
            }
            assert (row["deviceId"], row["moduleCode"]) == (device["deviceId"], module)
            assert WORD.fullmatch(row["configName"])
            assert WORD.fullmatch(row["configValue"])
            assert isinstance(row["description"], str)


def test_settings_of_modules_differ(ask):
    found = {
        module: ask("device/1775406005920779393/configs", {"moduleCode": module}).json()["data"]
        for module in MODULES
    }
    values = {
        module: {row["configName"]: row["configValue"] for row in rows}
        for module, rows in found.items()
    }
    assert values["102"] != values["101"] == values["100"]


@pytest.mark.parametrize("call", ["scope", "configs"])
@pytest.mark.parametrize("module", [None, "", "103", "album", "1", "0101", "100,101", " 101"])
def test_the_module_is_mandatory_and_one_of_three(ask, call, module):
    answer = ask(f"device/1775406005920779393/{call}", {"moduleCode": module})
    assert (answer.status_code, answer.json()["code"]) == (400, 13000102)
    assert "moduleCode" in answer.json()["msg"]


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("call", ["scope", "configs"])
@pytest.mark.parametrize("device", ["1", "none", "1775406005920779394", "9" * 1000, PRINTED])
def test_an_unknown_device_has_neither_scopes_nor_settings(ask, user, call, device):
    answer = ask(f"device/{device}/{call}", {"moduleCode": "101"}, user)
    assert (answer.status_code, answer.json()["code"]) == (400, 13000309)


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("record", ["1", "none", "1842862763295184642", "9" * 1000])
def test_an_unknown_record_has_no_files(ask, user, record):
    answer = ask(f"record/{record}/files", {"pageSize": 1}, user)
    assert (answer.status_code, answer.json()["code"]) == (400, 13000309)


def test_nobody_sees_what_belongs_to_another_user(ask, some):
    for owner, other in (USERS, USERS[::-1]):
        records, devices = some(owner)
        for path, query in (
            (f"record/{records[0]['recordId']}/files", {"pageSize": 1}),
            (f"device/{devices[0]['deviceId']}/scope", {"moduleCode": "101"}),
            (f"device/{devices[0]['deviceId']}/configs", {"moduleCode": "101"}),
        ):
            assert ask(path, query, owner).status_code == 200
            answer = ask(path, query, other)
            assert (answer.status_code, answer.json()["code"]) == (400, 13000309)


def test_a_call_of_one_record_or_device_ends_where_it_is_documented(ask):
    for path in (f"record/{PRINTED}/file", f"device/{PRINTED}/config", f"device/{PRINTED}/scopes"):
        assert ask(path).status_code == 404


def test_the_files_of_a_record_without_a_count_are_few():
    record = {
        "recordId": PRINTED,
        "moduleCode": "102",
        "properties": "{}",
        "createTime": "2025-12-17T07:59:20.752Z",
    }
    ended = json.dumps(record | {"endTime": "2025-12-17T08:00:00.000Z"}).encode()
    assert [json.loads(row)["fileName"] for row in contents.files(ended)] == [
        "contacts-1.vcf",
        "contacts-2.vcf",
        "contacts-3.vcf",
    ]
    assert contents.files(json.dumps(record).encode()) == contents.files(ended)[:1]
