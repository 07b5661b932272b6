"""The columns of every dataset, each with its field in the API, its type, unit and meaning.

One table per dataset drives decoding, empty frames, the README and the sandbox. Nothing in it is
derived by rule: a field of the API maps to the column that its row names.

Source: "Viewing Backup Records" (BackupRecord, DeviceEntity), "Listing Bound Devices", "Listing
Backup Files" (BackupFile), "Listing Backup Scopes" (ScopeInfo), "Listing Configurations"
(ConfigInfo).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULES: Mapping[str, str] = {"100": "folder", "101": "album", "102": "address_book"}
STATUSES: Mapping[int, str] = {0: "new", 1: "completed", 2: "to_be_deleted"}
SOURCES = ("live", "sandbox")
DEVICE_SOURCES = ("record", "query", "missing")
UNKNOWN = "unknown"
MAX_PAGE_SIZE = 100
"""The largest page the listings give."""

STRING = pd.StringDtype("pyarrow")
TIME = pd.DatetimeTZDtype("ms", "UTC")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, pandas type, and what it means.

    `api_field` is the field it comes from, with a dot where the API nests, or None for what is
    added here. `digits` marks text that may arrive as a number and is kept as its digits.
    """

    name: str
    kind: str
    meaning: str
    api_field: str | None = None
    unit: str = ""
    values: tuple[str, ...] = ()
    digits: bool = False

    @property
    def dtype(self) -> Any:
        """The pandas type, the same on every version of pandas and for any number of rows."""
        if self.kind == "string":
            return STRING
        if self.kind == "time":
            return TIME
        if self.kind == "category":
            return categories(self.values)
        return self.kind


def categories(values: tuple[str, ...]) -> pd.CategoricalDtype[Any]:
    """Give the categorical type of these identifiers, kept in this order."""
    return pd.CategoricalDtype(pd.Index(list(values), dtype=STRING))


def _device_columns(prefix: str) -> tuple[Column, ...]:
    return (
        Column("device_id", "string", "Device id", f"{prefix}deviceId", digits=True),
        Column("device_name", "string", "Name the user gave the device", f"{prefix}deviceName"),
        Column("device_os", "string", "Device system, free text", f"{prefix}deviceOS"),
        Column("machine_code", "string", "Machine code", f"{prefix}machineCode", digits=True),
        Column(
            "device_create_time", "time", "When the device was bound", f"{prefix}createTime", "UTC"
        ),
    )


_USER_ID = Column("user_id", "string", "The X-User-Id it was asked for")
_MODULE = Column("module", "category", "What is backed up", values=(*MODULES.values(), UNKNOWN))
_MODULE_CODE = Column("module_code", "string", "100, 101 or 102", "moduleCode", digits=True)
_PROVENANCE = (
    Column("extra", "string", "Fields unknown here and values that did not fit, as JSON text"),
    Column("source", "category", "Which service answered", values=SOURCES),
    Column("fetched_at", "time", 'When it was fetched: the row\'s own "now"', unit="UTC"),
)

DATASETS: Mapping[str, tuple[Column, ...]] = {
    "records": (
        _USER_ID,
        Column("record_id", "string", "Backup record id", "recordId", digits=True),
        _MODULE,
        Column("status", "category", "What the API says", values=(*STATUSES.values(), UNKNOWN)),
        Column("create_time", "time", "When the backup was created", "createTime", "UTC"),
        Column("end_time", "time", "When it ended; missing while it is open", "endTime", "UTC"),
        Column("duration_s", "float64", "end_time minus create_time", unit="seconds"),
        *_device_columns("deviceInfo."),
        Column(
            "device_source",
            "category",
            "Where the device came from: the record itself, a query by device, or nowhere",
            values=DEVICE_SOURCES,
        ),
        _MODULE_CODE,
        Column("status_code", "Int64", "0, 1 or 2", "status"),
        Column("version", "Int64", "Carried through; the API does not explain it", "version"),
        Column("properties", "string", "What the client wrote, JSON text as sent", "properties"),
        *_PROVENANCE,
    ),
    "devices": (_USER_ID, *_device_columns(""), *_PROVENANCE),
    "files": (
        _USER_ID,
        Column("record_id", "string", "The backup record it was asked for"),
        Column("file_id", "string", "File id", "fileId", digits=True),
        Column("file_name", "string", "File name", "fileName"),
        Column("size_bytes", "Int64", "File size", "size", "bytes"),
        Column("create_time", "time", "When the file was created", "createTime", "UTC"),
        Column("sha256", "string", "Fingerprint of the file", "sha256"),
        Column("description", "string", "What the client wrote", "description"),
        *_PROVENANCE,
    ),
    "scopes": (
        _USER_ID,
        Column("device_id", "string", "The device it was asked for"),
        _MODULE,
        Column("scope_id", "string", "Scope id", "scopeId", digits=True),
        Column("local_path", "string", "What is backed up, on the device", "localPath"),
        Column("target_folder_path", "string", "Where it goes, in KooDrive", "targetFolderPath"),
        Column("create_time", "time", "When the scope was added", "createTime", "UTC"),
        _MODULE_CODE,
        *_PROVENANCE,
    ),
    "configs": (
        _USER_ID,
        Column("device_id", "string", "Device id", "deviceId", digits=True),
        _MODULE,
        Column("config_name", "string", "Name of the setting", "configName"),
        Column("config_value", "string", "Its value", "configValue"),
        Column("description", "string", "What it is for", "description"),
        _MODULE_CODE,
        *_PROVENANCE,
    ),
}

KEYS: Mapping[str, tuple[str, ...]] = {
    "records": ("record_id",),
    "devices": ("device_id",),
    "files": ("file_id",),
    "scopes": ("scope_id",),
    "configs": ("module_code", "config_name"),
}
"""The columns that tell one row of a dataset from another; without the last, a row is unusable."""

ORDERS: Mapping[str, tuple[str, ...]] = {
    "records": ("create_time", "record_id"),
    "devices": ("device_create_time", "device_id"),
    "files": ("create_time", "file_id"),
    "scopes": ("module_code", "create_time", "scope_id"),
    "configs": ("module_code", "config_name"),
}
"""The columns that the rows of a dataset are sorted by."""


def columns(dataset: str) -> tuple[Column, ...]:
    """Give the columns of a dataset in their order.

    Raises:
        InvalidParameterError: There is no such dataset.
    """
    try:
        return DATASETS[dataset]
    except (KeyError, TypeError):
        raise InvalidParameterError(
            f"There is no dataset {dataset!r}: choose one of {', '.join(DATASETS)}."
        ) from None


def schema(dataset: str = "records") -> pd.DataFrame:
    """Describe the columns of a dataset.

    One row per column: `column`, `dtype`, `unit`, `api_field` (empty where the column is added
    here), `values` (of categories) and `meaning`.

    Raises:
        InvalidParameterError: There is no such dataset.
    """
    return pd.DataFrame(
        [
            (
                column.name,
                str(column.dtype),
                column.unit,
                column.api_field or "",
                ", ".join(column.values),
                column.meaning,
            )
            for column in columns(dataset)
        ],
        columns=["column", "dtype", "unit", "api_field", "values", "meaning"],
        dtype=STRING,
    )
