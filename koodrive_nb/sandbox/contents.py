"""What lies behind records and devices: files, scopes, settings, computed from their rows.

Source: "Listing Backup Files", "Listing Backup Scopes", "Listing Configurations".
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta

from koodrive_nb.sandbox.ids import LOW_BITS, compact, mint, text

_KINDS = {
    "100": ("document-{}.pdf", "/storage/emulated/0/Documents", "/Backup/Documents"),
    "101": ("IMG_{:04d}.jpg", "/storage/emulated/0/DCIM", "/Backup/Album"),
    "102": ("contacts-{}.vcf", "", "/Backup/Contacts"),
}
_FEW = 3


def files(record: bytes) -> list[bytes]:
    """Give the files of a record; one that is still open has the first half of them so far."""
    row = json.loads(record)
    created = datetime.fromisoformat(row["createTime"]).astimezone(UTC)
    count = _told(row.get("properties", "{}"))
    if "endTime" not in row:
        count //= 2
    low = int(row["recordId"]) % 2**LOW_BITS
    made = []
    for number in range(count):
        seed = hashlib.sha256(f"{row['recordId']} {number}".encode())
        at = created + timedelta(milliseconds=900 * number)
        made.append(
            compact(
                {
                    "fileId": mint(at, (low + 7919 * number) % 2**LOW_BITS),
                    "fileName": _KINDS[row["moduleCode"]][0].format(number + 1),
                    "sha256": seed.hexdigest(),
                    "size": 20_000 + int.from_bytes(seed.digest()[:3]),
                    "description": "",
                    "createTime": text(at),
                }
            )
        )
    return made


def _told(properties: str) -> int:
    """Read how many files the client says there are."""
    try:
        count = json.loads(properties)["fileCount"]
    except (ValueError, KeyError, TypeError):
        return _FEW
    return count if isinstance(count, int) else _FEW


def scopes(device: bytes, module: str) -> list[bytes]:
    """Give what a device backs up of a module."""
    row = json.loads(device)
    at = datetime.fromisoformat(row["createTime"]) + timedelta(minutes=2)
    _, local, target = _KINDS[module]
    return [
        compact(
            {
                "localPath": local,
                "targetFolderPath": f"{target}/{row['deviceName']}",
                "scopeId": mint(at, int(module)),
                "moduleCode": module,
                "createTime": text(at),
            }
        )
    ]


def configs(device: bytes, module: str) -> list[bytes]:
    """Give the settings of a module on a device."""
    identity = json.loads(device)["deviceId"]
    values = {"auto_backup": "on", "wifi_only": "off" if module == "102" else "on"}
    meanings = {"auto_backup": "Back up by itself", "wifi_only": "Wait for a wireless network"}
    return [
        compact(
            {
                "deviceId": identity,
                "moduleCode": module,
                "configName": name,
                "configValue": value,
                "description": meanings[name],
            }
        )
        for name, value in values.items()
    ]
