"""Fleets made to measure, and folders to put them in."""

import pandas as pd
import pytest

import koodrive_nb as kd
from koodrive_nb import columns
from koodrive_nb.snapshots import layouts

NOW = pd.Timestamp("2025-12-17T08:30Z")


def typed(rows, described):
    kinds = {column.name: column.dtype for column in described}
    frame = pd.DataFrame(rows, columns=list(kinds))
    for column in described:
        if column.kind == "time":
            frame[column.name] = pd.to_datetime(frame[column.name], utc=True)
    return frame.astype(kinds)


@pytest.fixture(scope="session")
def build():
    """Make a fleet: of each user the records, by id with their status, or an outcome instead."""

    def fleet(users, now=NOW, regions=None):
        records, devices, rows = [], [], []
        for user_id, has in users.items():
            outcome = has if isinstance(has, str) else "complete"
            mine = {} if isinstance(has, str) else has
            if ":partial" in mine:
                outcome = "partial"
            mine = {key: value for key, value in mine.items() if key != ":partial"}
            for number, status in mine.items():
                created = NOW - pd.Timedelta(days=30) + pd.Timedelta(hours=int(number))
                records.append(
                    {
                        "user_id": user_id,
                        "record_id": number,
                        "module": "album",
                        "module_code": "101",
                        "status": [*columns.STATUSES.values(), "unknown"][status],
                        "status_code": status,
                        "create_time": created,
                        "end_time": created + pd.Timedelta("1h") if status else pd.NaT,
                        "duration_s": 3600.0 if status else None,
                        "device_id": f"9{user_id}",
                        "device_name": "phone 手机",
                        "device_source": "record",
                        "source": "sandbox",
                        "fetched_at": now,
                    }
                )
            if outcome != "failed":
                bound = NOW - pd.Timedelta("90D")
                device = {"user_id": user_id, "device_id": f"9{user_id}", "device_os": "android"}
                device |= {"device_name": "phone 手机", "device_create_time": bound}
                devices.append(device | {"source": "sandbox", "fetched_at": now})
            is_failed = outcome == "failed"
            rows.append(
                {
                    "user_id": user_id,
                    "outcome": outcome,
                    "n_devices": None if is_failed else 1,
                    "n_records": None if is_failed else len(mine),
                    "fetched_at": None if is_failed else now,
                    "error": None if outcome == "complete" else "HTTP 503",
                }
            )
        frame = typed(rows, layouts.USERS)
        if regions is not None:
            frame["region"] = regions
        return kd.fleet.Fleet(
            typed(records, columns.columns("records")),
            typed(devices, columns.columns("devices")),
            frame,
        )

    return fleet


@pytest.fixture
def snapshots(tmp_path):
    return kd.snapshots.Snapshots(tmp_path / "fleet")
