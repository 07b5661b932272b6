"""A card for one backup record: all that is known of it, what is inferred with its rule."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pandas as pd

from koodrive_nb.analysis.rules import span, word
from koodrive_nb.columns import columns
from koodrive_nb.forms import trees
from koodrive_nb.forms.tables import length, moment, state, text

if TYPE_CHECKING:
    from collections.abc import Mapping

_UTC = ZoneInfo("UTC")
_MISSING = "–"
_RAW_CHARACTERS = 20_000
_ROW_AS_SENT = "row as sent"
_LEARNT = "query"
_DEVICE_SOURCES = {
    "record": "named by the record itself",
    "query": "learnt from the listing of this device",
    "missing": "the record names none",
}
_STATUS_WORDS = {
    "new": "new",
    "completed": "completed",
    "to_be_deleted": "to be deleted",
    "unknown": "not one that the API documents",
}


def card(record: Mapping[str, Any], zone: ZoneInfo) -> str:
    """Write a record that has been classified as markup, its times in `zone` and in UTC.

    `record` has the columns of `kd.schema("records")` and those of `kd.analysis.classify`.
    """
    name = html.escape(f"Backup record {record['record_id']}", quote=True)
    facts = "".join(
        f"<dt>{html.escape(term)}</dt><dd>{value}</dd>" for term, value in _facts(record, zone)
    )
    return (
        f'<section class="koodrive-card" aria-label="{name}">'
        f"<h4>{state(record['state'])} · {text(word(str(record['module'])))} · "
        f'<span class="koodrive-id">{text(record["record_id"], 128)}</span></h4>'
        f"<dl>{facts}</dl>"
        f"<h5>Properties</h5>{_properties(record['properties'])}"
        f"{_raw(record)}</section>"
    )


def _facts(record: Mapping[str, Any], zone: ZoneInfo) -> list[tuple[str, str]]:
    code = record["status_code"]
    said = _STATUS_WORDS.get(str(record["status"]), str(record["status"]))
    module = f" ({text(record['module_code'])})" if pd.notna(record["module_code"]) else ""
    whence = _DEVICE_SOURCES.get(str(record["device_source"]), "")
    named = pd.notna(record["device_id"])
    device = (
        f"{text(record['device_label'])} "
        f'<span class="koodrive-id">{text(record["device_id"], 128)}</span>'
        if named
        else _MISSING
    )
    about_device = [
        ("System", text(record["device_os"])),
        ("Machine code", text(record["machine_code"], 128)),
        ("Bound since", _instant(record["device_create_time"], zone)),
    ]
    source = "sandbox (synthetic)" if record["source"] == "sandbox" else str(record["source"])
    return [
        ("State", f"{state(record['state'])} {_quiet(f'– {rule(record)}')}"),
        ("API status", f"{text(said)} {_quiet('' if pd.isna(code) else f'({code})')}"),
        ("Module", f"{text(word(str(record['module'])))}{module}"),
        ("Created", _instant(record["create_time"], zone)),
        ("Ended", _instant(record["end_time"], zone)),
        ("Duration", _duration(record)),
        ("Device", f"{device} {_quiet(f'({whence})' if whence else '')}"),
        # Of a device that is not known at all, four dashes tell no more than one.
        *(about_device if {value for _, value in about_device} - {_MISSING} or named else []),
        ("User", text(record["user_id"], 128)),
        ("Version", text(record["version"])),
        ("Source", f"{text(source)}, fetched {_instant(record['fetched_at'], zone)}"),
    ]


def rule(record: Mapping[str, Any]) -> str:
    """Say in words why a classified record is in its state."""
    found, limit_s = str(record["state"]), float(record["stuck_after_s"])
    ended = pd.notna(record["end_time"])
    if found == "stuck":
        return {
            "superseded": "inferred: open, though its device and module have a later backup",
            "age": f"inferred: open for longer than {span(limit_s)}",
        }[str(record["stuck_reason"])]
    return {
        "completed": "as the API says",
        "in_progress": f"open, and counts as stuck after {span(limit_s)}",
        "to_be_deleted": "as the API says; it "
        + ("had ended before" if ended else "never ended, so it was abandoned"),
    }.get(found, "the API's status is not one that it documents")


def _duration(record: Mapping[str, Any]) -> str:
    if pd.notna(record["duration_s"]):
        return length(record["duration_s"])
    created, now = record["create_time"], record["as_of"]
    if pd.isna(created) or pd.isna(now) or pd.notna(record["end_time"]) or created > now:
        return _MISSING
    age = span((now - created).total_seconds())
    return f"{_MISSING} {_quiet(f'(no end; created {age} before it was fetched)')}"


def _instant(stamp: Any, zone: ZoneInfo) -> str:
    if pd.isna(stamp) or zone.key == "UTC":
        return moment(stamp, zone) + ("" if pd.isna(stamp) else " UTC")
    local = f"{moment(stamp, zone)} {html.escape(zone.key)}"
    return f"{local} {_quiet(f'= {stamp.tz_convert(_UTC):%Y-%m-%d %H:%M:%S} UTC')}"


def _properties(value: Any) -> str:
    if pd.isna(value):
        return _quiet("none")
    return trees.tree(value) if value else _quiet("empty text")


def _raw(record: Mapping[str, Any]) -> str:
    body, notes = as_sent(record)
    if len(body) > _RAW_CHARACTERS:
        notes.append(f"cut, since it has {len(body):,} characters")
        body = body[:_RAW_CHARACTERS] + "…"
    # What is invisible, or turns the direction of writing, is shown by its code.
    body = "".join(
        letter if letter.isprintable() or letter == "\n" else json.dumps(letter)[1:-1]
        for letter in body
    )
    told = f" ({'; '.join(notes)})" if notes else ""
    return (
        "<details><summary>Raw JSON</summary>"
        + _quiet(
            "Written back by the schema in the API's field names; fields without a value are "
            f"left out{told}."
        )
        + f'<pre tabindex="0">{html.escape(body)}</pre></details>'
    )


def as_sent(record: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Write a record back as JSON in the API's field names, and tell what that had to change."""
    notes: list[str] = []
    fields: dict[str, Any] = {}
    is_learnt = str(record["device_source"]) == _LEARNT
    if is_learnt:
        notes.append("the device is not in it, since the record did not name it")
    for column in columns("records"):
        if column.api_field is None or pd.isna(record[column.name]):
            continue
        outer, _, inner = column.api_field.rpartition(".")
        if outer and is_learnt:
            continue
        value = _plain(record[column.name], column.kind)
        (fields.setdefault(outer, {}) if outer else fields)[inner] = value
    if pd.notna(record["extra"]):
        _add_extra(fields, str(record["extra"]), notes)
    try:
        return json.dumps(fields, indent=2, ensure_ascii=False), notes
    except (RecursionError, ValueError):
        fields["extra"] = str(record["extra"])
        notes.append("what is nested too deeply is under extra, as text")
        known = {name: value for name, value in fields.items() if name in {*_known(), "extra"}}
        return json.dumps(known, indent=2, ensure_ascii=False), notes


def _known() -> set[str]:
    return {(column.api_field or "").partition(".")[0] for column in columns("records")}


def _add_extra(fields: dict[str, Any], extra: str, notes: list[str]) -> None:
    try:
        more: dict[str, Any] = json.loads(extra)
    except (RecursionError, ValueError):
        fields["extra"] = extra
        notes.append("what could not be read is under extra, as text")
        return
    if _ROW_AS_SENT in more:
        notes.append(f"a field came twice: see {_ROW_AS_SENT!r}")
    nested = {(column.api_field or "").rpartition(".")[0] for column in columns("records")} - {""}
    for name, value in more.items():
        outer, dot, inner = name.partition(".")
        if dot and outer in nested and isinstance(fields.get(outer, {}), dict):
            fields.setdefault(outer, {})[inner] = value
        else:
            fields[name] = value


def _plain(value: Any, kind: str) -> Any:
    if kind == "time":
        return f"{value.tz_convert(_UTC):%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03d}Z"
    return int(value) if kind == "Int64" else str(value)


def _quiet(words: str) -> str:
    return f'<span class="koodrive-quiet">{html.escape(words)}</span>' if words else ""
