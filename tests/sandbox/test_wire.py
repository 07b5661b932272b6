import json
import re
from collections import Counter

import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb.sandbox import contents, habits, synthetic
from koodrive_nb.sandbox.names import HOSTILE, UNICODE

MODULES = ("100", "101", "102")


@pytest.fixture(scope="module")
def made():
    return kd.sandbox.frames()


@pytest.fixture(scope="module")
def fleet():
    return synthetic.users()


@pytest.fixture(scope="module")
def rows(made, fleet):
    """Give every row that the service lists of every user, read from its JSON."""
    return [
        json.loads(row)
        for user_id in made.users["user_id"]
        for module in MODULES
        for row in fleet[user_id].page(module, None, 0, 10_000)[0]
    ]


def with_every_kind_of_dirt(made):
    """Choose users: two of each kind of dirt and of name, and the first twenty."""
    records = made.records.join(made.truth["dirt"])
    properties = records["properties"].dropna()
    kinds = [records["dirt"] == kind for kind in records["dirt"].unique()]
    kinds += [records["device_source"] == source for source in ("query", "missing")]
    kinds += [records.index.isin(properties.index[~properties.str.endswith("}")])]
    kinds += [records["device_name"].isin(texts) for texts in (HOSTILE, UNICODE)]
    kinds += [made.truth["incident"] == incident for incident in "ABCD"]
    chosen = {user for rows in kinds for user in records.loc[rows, "user_id"].unique()[:2]}
    return sorted(chosen | set(made.users["user_id"][:20]))


def fetched(user_id, **options):
    with kd.connect(**({"service": "sandbox"} | options), user_id=user_id) as client:
        return client.records(), client.devices()


def assert_fetched_is_drawn(made, user_id, **options):
    for got, drawn in zip(fetched(user_id, **options), (made.records, made.devices), strict=True):
        mine = drawn[drawn["user_id"] == user_id].reset_index(drop=True)
        pd.testing.assert_frame_equal(got, mine)


def test_what_is_fetched_is_what_was_drawn_with_every_kind_of_dirt(made):
    users = with_every_kind_of_dirt(made)
    assert len(users) >= 40
    for user_id in users:
        assert_fetched_is_drawn(made, user_id)


def test_a_fleet_without_device_info_is_fetched_as_it_was_drawn():
    preset = kd.sandbox.Preset(20, device_info="absent")
    made = kd.sandbox.frames(preset, seed=3)
    with kd.sandbox.Sandbox(preset=preset, seed=3) as sandbox:
        for user_id in made.users["user_id"]:
            assert_fetched_is_drawn(
                made,
                user_id,
                service="live",
                endpoint=sandbox.endpoint,
                auth=kd.AppAuth(sandbox.app_id, sandbox.app_secret),
                clock=kd.sandbox.as_of,
            )
    assert "query" in set(made.records["device_source"])


def test_all_records_are_listed_and_each_can_be_asked_for(made, fleet, rows):
    assert {row["recordId"] for row in rows} == set(made.records["record_id"])
    for user_id in made.users["user_id"][:5]:
        listed = {}
        for module in MODULES:
            for row in fleet[user_id].page(module, None, 0, 10_000)[0]:
                listed[json.loads(row)["recordId"]] = row
        for record_id, row in listed.items():
            assert fleet[user_id].record(record_id) == row
    first, second = made.users["user_id"][:2]
    assert fleet[first].devices()
    theirs = json.loads(fleet[second].devices()[0])["deviceId"]
    assert fleet[first].device(theirs) is None
    assert fleet[first].page("102", theirs, 0, 10) == ([], 0)
    for unknown in ("0", "x", "9" * 30, "1842862763295184641"):
        assert fleet[first].record(unknown) is fleet[first].device(unknown) is None


def test_a_record_that_comes_twice_comes_older_first(made, rows):
    counts = Counter(row["recordId"] for row in rows)
    twice = {record_id for record_id, count in counts.items() if count > 1}
    assert twice == set(made.truth.loc[made.truth["dirt"] == "duplicate", "record_id"])
    for record_id in twice:
        older, newer = (row for row in rows if row["recordId"] == record_id)
        assert (older["status"], newer["status"]) == (0, 1)
        assert "endTime" not in older
        assert "endTime" in newer


def test_times_are_written_in_three_ways(rows):
    forms = {
        "utc": r"[0-9T:-]{19}\.[0-9]{3}Z",
        "utc_seconds": r"[0-9T:-]{19}Z",
        "china": r"[0-9T:-]{19}\.[0-9]{3}\+08:00",
    }
    counts = Counter()
    for row in rows:
        for time in (row["createTime"], row.get("endTime", row["createTime"])):
            [form] = [name for name, form in forms.items() if re.fullmatch(form, time)]
            counts[form] += 1
    assert counts["utc_seconds"] / counts.total() == pytest.approx(habits.UTC_SECONDS, rel=0.3)
    assert counts["china"] / counts.total() == pytest.approx(habits.CHINA_TIME, rel=0.3)


def test_odd_rows_are_odd_on_the_wire(made, rows):
    truth = made.truth.set_index("record_id")["dirt"]
    by_dirt = {}
    for row in rows:
        by_dirt.setdefault(truth[row["recordId"]], []).append(row)
    assert all(row["status"] == 3 for row in by_dirt["status_3"])
    assert all(row["status"] is None for row in by_dirt["status_null"])
    assert all("endTime" not in row and row["status"] == 1 for row in by_dirt["no_end"])
    assert not any("deviceInfo" in row for row in by_dirt["nameless"])
    lost = set(made.records.loc[made.records["device_source"] == "missing", "record_id"])
    assert lost
    assert all(("deviceInfo" not in row) == (row["recordId"] in lost) for row in by_dirt[""])
    told = [row["properties"] for row in rows if "properties" in row]
    assert 0.15 < 1 - len(told) / len(rows) < 0.25
    cut = [text for text in told if not text.endswith("}")]
    assert len(cut) >= 5
    for text in cut:
        with pytest.raises(ValueError, match="Unterminated string"):
            json.loads(text)


def test_a_listing_by_device_finds_what_does_not_name_it_unless_it_was_unbound(made, fleet, rows):
    nameless = made.records[made.records["device_source"] == "query"]
    for record in nameless.itertuples():
        page, _ = fleet[record.user_id].page(record.module_code, record.device_id, 0, 10_000)
        [row] = [row for row in map(json.loads, page) if row["recordId"] == record.record_id]
        assert "deviceInfo" not in row
    unbound = made.device_truth[made.device_truth["unbound"]]
    for device in unbound.itertuples():
        user = fleet[device.user_id]
        assert user.device(device.device_id) is None
        assert device.device_id not in str(user.devices())
        named = [row for m in MODULES for row in user.page(m, device.device_id, 0, 10_000)[0]]
        assert all("deviceInfo" in json.loads(row) for row in named)


def test_files_and_scopes_and_settings_lie_behind_the_fleet_too(made):
    user_id = made.records["user_id"].iloc[-1]
    mine = made.records[made.records["user_id"] == user_id]
    silent = mine.loc[mine["properties"].isna(), "record_id"].iloc[-1]
    telling = mine.loc[mine["properties"].str.contains("fileCount").fillna(value=False)].iloc[-1]
    with kd.connect("sandbox", user_id=user_id) as client:
        assert len(client.files(silent)) > 0
        count = json.loads(telling["properties"])["fileCount"]
        assert len(client.files(telling["record_id"])) == count
        device_id = mine["device_id"].iloc[-1]
        assert (client.scopes(device_id)["device_id"] == device_id).all()
        assert (client.configs(device_id)["device_id"] == device_id).all()


@pytest.mark.parametrize("properties", [None, "", "[]", "3", '{"fileCount":"many"}', '{"fileCou'])
def test_files_are_listed_whatever_the_properties_say(properties):
    row = {"recordId": "1", "moduleCode": "101", "createTime": "2025-12-17T15:59:20.752+08:00"}
    row |= {"endTime": row["createTime"]}
    row |= {} if properties is None else {"properties": properties}
    listed = [json.loads(file) for file in contents.files(json.dumps(row).encode())]
    assert len(listed) == 3
    assert listed[0]["createTime"] == "2025-12-17T07:59:20.752Z"


def test_the_fleet_is_drawn_when_one_of_its_users_is_asked_for(monkeypatch):
    drawn = []
    draw = synthetic.draw
    monkeypatch.setattr(synthetic, "draw", lambda *given: drawn.append(given) or draw(*given))
    preset = kd.sandbox.Preset(3)
    with kd.sandbox.Sandbox(preset=preset, seed=5) as sandbox:
        auth = kd.AppAuth(sandbox.app_id, sandbox.app_secret)
        user_id = kd.sandbox.DEFAULT_USER
        with kd.connect(endpoint=sandbox.endpoint, auth=auth, user_id=user_id) as client:
            assert len(client.devices()) == 11
            with pytest.raises(kd.AuthenticationError):
                client.for_user("nobody").devices()
            assert not drawn
            for user_id in kd.sandbox.users(preset, 5)["user_id"]:
                client.for_user(user_id).devices()
            assert [given[:2] for given in drawn] == [(preset, 5)]
            with pytest.raises(kd.AuthenticationError):
                client.for_user(kd.sandbox.users(preset, 6)["user_id"].iloc[0]).devices()


def test_the_users_of_a_sandbox_are_the_known_ones_and_the_fleet(fleet, made):
    assert list(fleet) == [
        kd.sandbox.DEFAULT_USER,
        kd.sandbox.CROWD_USER,
        *made.users["user_id"],
    ]
    assert len(fleet) == 202
    assert "nobody" not in fleet
