"""What is wrong with a stored notebook, seen without executing it."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

from koodrive_nb.notebook_checks.reading import (
    UNREADABLE,
    WIDGET_VIEW,
    is_live,
    is_run,
    named_cells,
    read,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nbformat import NotebookNode

MAX_CELL_BYTES = 300_000
MAX_NOTEBOOK_BYTES = 1_000_000

_MAY_FAIL = {"nbval-raises-exception", "raises-exception"}
_NOT_COMPARED = {"nbval-ignore-output", "nbval-skip"}
_NOT_COMPARED_LINES = {
    "# NBVAL_IGNORE_OUTPUT",
    "# NBVAL_SKIP",
    "# PYTEST_VALIDATE_IGNORE_OUTPUT",
}
_MARKER_LINES = _NOT_COMPARED_LINES | {"# NBVAL_CHECK_OUTPUT", "# NBVAL_RAISES_EXCEPTION"}
_MARKER = re.compile("NBVAL_|PYTEST_VALIDATE_", re.IGNORECASE)
_REASON = re.compile(r"^# Not compared: \w.{9,}", re.MULTILINE)
_SECRETS = {
    "an Authorization value": re.compile(
        r"\b(?:(?i:bearer)[ +][\w.~+/-]{16,}|AT[ +][0-9a-f]{16,})|HMAC-SHA256 AppId="
    ),
    "a long run of hex digits, as tokens have": re.compile(r"\b[0-9a-f]{40,}\b", re.IGNORECASE),
    "a JSON web token": re.compile(r"\beyJ[\w-]{10,}\.[\w-]{10,}"),
    "a secret that is set in the notebook": re.compile(
        r"(?:KOODRIVE_(?:TOKEN|APP_SECRET)|TokenAuth)\W{1,8}[\w.~+/-]{12,}"
        r"|(?:AppAuth\([^()]{0,200}?,\s{0,80}|\bapp_secret\s{0,9}=\s{0,9})[\"'][^\"'\s]{8,}"
    ),
}
_OWN_SECRETS = ("KOODRIVE_TOKEN", "KOODRIVE_APP_SECRET", "KOODRIVE_PRIVACY_KEY")
_SHORTEST_SECRET = 8
_PATHS = re.compile(
    r"(?<![\w./])/(?:home|Users|root|tmp|var|opt|mnt|srv|private|workspaces?|Volumes|builds)/\S+"
    r"|\b[A-Za-z]:\\\\?\w+|\bfile:///\S+"
)
_OVERPRINTED = re.compile(r"\x08|\r(?!\n)")
# As figures and the explorer name a live account, as clients and forms do, and in a table.
_LIVE = re.compile(
    r"\blive, (?:complete|INCOMPLETE|completeness unknown)\b"
    r"|source['\"]?[=:] ?['\"]live\b|Form\([^()]*\blive\b"
)
_LIVE_CELL = re.compile(r"(?:^|[>│|]|\s{2}) *live *(?:$|[<│|]|\s{2})", re.MULTILINE)


def problems(path: Path) -> list[str]:
    """List what is wrong with a stored notebook, without executing it; empty when it is fit.

    Looks at: cells executed once and in order, saved errors, cells that are not compared and say no
    reason, widgets, secrets, absolute paths, outputs of a live account, the size of cells (300 KB)
    and of the file (1 MB). A cell goes by the number that a reader sees beside it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        notebook = read(text)
    except UNREADABLE as error:
        return [f"is no notebook: {error}"]
    found = [
        f"{name}: {problem}"
        for name, number, cell in named_cells(notebook)
        for problem in _of_cell(cell, number, may_be_live=is_live(notebook))
    ]
    found += [f"the metadata: {leak}" for leak in leaks("\n".join(_texts(notebook.metadata)))]
    if "widgets" in notebook.metadata:
        found.append("the metadata hold widget state: refresh the notebook")
    if len(text.encode()) > MAX_NOTEBOOK_BYTES:
        found.append(f"the file is larger than {MAX_NOTEBOOK_BYTES:,} bytes: show less")
    return found


def leaks(text: str) -> list[str]:
    """Name what a text holds that nobody else may see: secrets, and paths of this machine.

    Secrets are known by their form, or because they are what an environment variable holds.
    """
    found = [f"holds {what}" for what, pattern in _SECRETS.items() if pattern.search(text)]
    for name in _OWN_SECRETS:
        value = os.environ.get(name, "")
        if len(value) >= _SHORTEST_SECRET and value in text:
            found.append(f"holds the value of {name}")
    path: Any = _PATHS.search(text)
    return [*found, f"holds a path of a machine: {path[0][:60]}"] if path else found


def _of_cell(cell: NotebookNode, number: int, *, may_be_live: bool) -> Iterator[str]:
    yield from leaks("\n".join(_texts(cell)))
    if cell.cell_type == "code" and len(json.dumps(cell, ensure_ascii=False)) > MAX_CELL_BYTES:
        yield f"is larger than {MAX_CELL_BYTES:,} bytes: show less"
    if not is_run(cell):
        if cell.get("outputs"):
            yield "holds outputs and no code that makes them: delete the cell"
        return
    if cell.execution_count is None:
        yield "was not executed, so nothing of it is compared: refresh the notebook"
    elif cell.execution_count != number:
        yield f"was executed as number {cell.execution_count}, not {number}: refresh the notebook"
    yield from _lax(cell)
    is_meant_to_fail = set(cell.metadata.get("tags", ())) & _MAY_FAIL or _has_line(
        cell, {"# NBVAL_RAISES_EXCEPTION"}
    )
    if not is_meant_to_fail and any(out.output_type == "error" for out in cell.outputs):
        yield "holds an error: mend it, or tag the cell raises-exception"
    if any(_OVERPRINTED.search(out.get("text", "")) for out in cell.outputs):
        yield "prints over what it has printed, which each viewer shows in its own way: print once"
    yield from (f"holds {rest}: refresh the notebook" for rest in _left_behind(cell))
    if not may_be_live and any(map(_names_live, _texts(cell.outputs))):
        yield (
            "holds outputs of a live account: refresh the notebook, or say in its metadata that "
            'they are meant, by "koodrive_nb": {"source": "live"}'
        )


def _names_live(text: str) -> bool:
    return bool(_LIVE.search(text) or ("source" in text and _LIVE_CELL.search(text)))


def _lax(cell: NotebookNode) -> Iterator[str]:
    unread = [
        line.strip()
        for line in cell.source.splitlines()
        if _MARKER.search(line) and line.strip() not in _MARKER_LINES
    ]
    if unread:
        yield f"asks not to be compared in a way that nothing reads: {unread[0][:60]}"
    tags = set(cell.metadata.get("tags", ()))
    is_lax = bool(tags & _NOT_COMPARED) or _has_line(cell, _NOT_COMPARED_LINES)
    if is_lax and not _REASON.search(cell.source):
        yield (
            "asks not to be compared and gives no reason: make its output stable, or add a line "
            "`# Not compared: <why>`"
        )


def _has_line(cell: NotebookNode, lines: set[str]) -> bool:
    return any(line.strip() in lines for line in cell.source.splitlines())


def _left_behind(cell: NotebookNode) -> Iterator[str]:
    if "execution" in cell.metadata:
        yield "times of execution"
    if any(WIDGET_VIEW in out.get("data", {}) for out in cell.outputs):
        yield "a view of a widget that is not stored"


def _texts(node: Any) -> Iterator[str]:
    """Give every text of a tree, keys too, as it is and not as JSON escapes it."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield key
            yield from _texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value)
