"""A service that answers for any user, and a folder to sweep into."""

from collections import Counter
from types import SimpleNamespace

import pytest

import koodrive_nb as kd

BASE = "/koodrive/ose/v1/backup"


def device(user_id):
    return {"deviceId": f"9{user_id}", "deviceName": f"Phone of {user_id}"}


def record(user_id, code):
    row = {"recordId": f"{code}{user_id[1:]}", "moduleCode": code, "status": 1}
    return row | {"createTime": "2025-12-01T00:00:00Z", "deviceInfo": device(user_id)}


@pytest.fixture
def fleet(service):
    """Answer for any user with a device and a record of each module, unless `first` answers."""
    found = SimpleNamespace(first=lambda user_id: None, asked=Counter(), record=record)

    def answer(asked):
        user_id = asked.headers["X-User-Id"]
        found.asked[user_id] += 1
        early = found.first(user_id)
        if early is not None:
            return early
        if asked.path == f"{BASE}/device":
            return service.Answer({"code": 0, "data": [device(user_id)]})
        return service.Answer({"code": 0, "data": [record(user_id, asked.query["moduleCode"])]})

    service.answer = answer
    return found


@pytest.fixture
def snapshots(tmp_path):
    return kd.snapshots.Snapshots(tmp_path / "sweeps")


@pytest.fixture
def at_the_command_line(service, tmp_path, monkeypatch):
    """Be in a folder of one's own, with an account in the environment."""
    monkeypatch.chdir(tmp_path)
    # Commands set it, lest it be left to other tests.
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "system")
    account = {"ENDPOINT": service.endpoint, "APP_ID": "a3", "APP_SECRET": "5e1c0"}
    for name, value in account.items():
        monkeypatch.setenv(f"KOODRIVE_{name}", value)
