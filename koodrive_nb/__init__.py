"""Notebook toolkit for the device backups of Huawei Cloud KooDrive.

import koodrive_nb as kd

client = kd.connect("sandbox")
records = client.records()
kd.charts.status_breakdown(records)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from koodrive_nb import analysis, charts, export, fleet, forms, report, sandbox, snapshots
    from koodrive_nb.auth import AppAuth, TokenAuth
    from koodrive_nb.client import Client
    from koodrive_nb.columns import schema
    from koodrive_nb.connection import connect
    from koodrive_nb.errors import (
        AuthenticationError,
        ConfigurationError,
        ConnectionFailedError,
        IncompleteError,
        InvalidParameterError,
        KooDriveError,
        NotFoundError,
        PolicyError,
        ProtocolError,
        ReportError,
        ServerError,
        ServiceError,
        SnapshotError,
        ThrottledError,
    )
    from koodrive_nb.streams import ledger

__all__ = [
    "AppAuth",
    "AuthenticationError",
    "Client",
    "ConfigurationError",
    "ConnectionFailedError",
    "IncompleteError",
    "InvalidParameterError",
    "KooDriveError",
    "NotFoundError",
    "PolicyError",
    "ProtocolError",
    "ReportError",
    "ServerError",
    "ServiceError",
    "SnapshotError",
    "ThrottledError",
    "TokenAuth",
    "analysis",
    "charts",
    "connect",
    "export",
    "fleet",
    "forms",
    "ledger",
    "report",
    "sandbox",
    "schema",
    "snapshots",
]

_HOMES = {
    "AppAuth": "auth",
    "TokenAuth": "auth",
    "Client": "client",
    "connect": "connection",
    "schema": "columns",
    "ledger": "streams",
}
_PACKAGES = {
    "analysis",
    "charts",
    "export",
    "fleet",
    "forms",
    "report",
    "sandbox",
    "snapshots",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    home = _HOMES.get(name, "errors")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
