"""What the form of records says: how far it is, how it ended, what is missing, and the code."""

from __future__ import annotations

import html
import itertools
import json
import re
from typing import TYPE_CHECKING, TypeVar

from koodrive_nb.charts import theme
from koodrive_nb.forms.retrieval import ById, OfUser
from koodrive_nb.forms.tables import text
from koodrive_nb.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd

    from koodrive_nb.client import Client
    from koodrive_nb.errors import KooDriveError
    from koodrive_nb.forms.retrieval import Retrieval

_Item = TypeVar("_Item")

_MOST_LISTED = 50
_MOST_IN_CODE = 5
_REASON_CHARACTERS = 300
_ID_CHARACTERS = 128
_LEFT_ASIDE = re.compile(r"^stopped, |^not asked, |was not asked any more\.$")
_TRY_AGAIN = "Try again asks for the rest alone."
_FOR_ALL = {
    "AuthenticationError": (
        "the service does not accept the credentials",
        f"Connect again and set form.client = new_client; then {_TRY_AGAIN}",
    ),
    "ConfigurationError": (
        "the connection is not set up as it should be",
        f"Connect again and set form.client = new_client; then {_TRY_AGAIN}",
    ),
    "ConnectionFailedError": (
        "the service did not answer",
        f"Check the connection; then {_TRY_AGAIN}",
    ),
    # Whatever else it was, others were left aside for its sake.
    "": (
        "the service failed again and again",
        f"Wait a little; then {_TRY_AGAIN}",
    ),
}


def user_of(client: Client) -> str:
    """Give the user that a client asks for."""
    return client._facts()["user_id"]  # noqa: SLF001 -- what its repr shows


def source_of(client: Client) -> str:
    """Give what a client is connected to: live or sandbox."""
    return client._facts()["source"]  # noqa: SLF001 -- as above


def under_way(retrieval: Retrieval) -> str:
    """Say how far it is."""
    if retrieval.total == 1:
        return "Looking it up…" if isinstance(retrieval, ById) else "Loading the records…"
    done = "looked up" if isinstance(retrieval, ById) else "loaded"
    return f"{retrieval.n_done:,} of {retrieval.total:,} {retrieval.unit} {done}…"


def outcome(
    retrieval: Retrieval, n_records: int, *, is_old: bool, is_interrupted: bool
) -> tuple[str, str]:
    """Say how it ended, in plain words, with the kind of the notice."""
    errors = list(retrieval.failures["error"])
    missing = len(retrieval.not_found)
    came = theme.counted(n_records, "record") if n_records else "No records"
    if not errors:
        more = f"; {missing:,} not found" if missing else ""
        return f"{came}{more}.", "warning" if missing else "done"
    kept = "What is shown is from before." if is_old else "What came is kept." * bool(n_records)
    far = f"{retrieval.n_done:,} of {retrieval.total:,} {retrieval.unit} done, {came.lower()} came"
    if is_interrupted:
        return " ".join(filter(None, [f"Interrupted: {far}.", kept, _TRY_AGAIN])), "warning"
    # What was only left aside for the sake of others tells no reason.
    told = [error for error in errors if not _LEFT_ASIDE.search(error)]
    for name, (why, what_to_do) in _FOR_ALL.items():
        found = next((error for error in told if name and error.startswith(name)), "")
        if not found and (name or len(told) == len(errors)):
            continue
        words = (found or next(iter(told), "")).partition(": ")[2]
        said = [f"{far}; then {why}.", kept, what_to_do, words and f"It was: {words}"]
        return " ".join(filter(None, said)), "error"
    said = [f"{far}; {len(errors):,} failed.", kept, _TRY_AGAIN]
    return " ".join(filter(None, said)), "warning"


def reason(error: KooDriveError) -> str:
    """Write an error of this package for a person."""
    return one_line(error, _REASON_CHARACTERS)


def code(retrieval: Retrieval, records: pd.DataFrame, client: Client) -> str:
    """Give the line that fetches the same records without the form."""
    if records.empty:
        return ""
    if not isinstance(retrieval, OfUser):
        ids = list(records["record_id"])
        if len(ids) <= _MOST_IN_CODE:
            return f"client.records_by_id({json.dumps(ids)})"
        were = " that were found" if len(ids) < retrieval.total else ""
        return f"client.records_by_id(ids)  # the {len(ids):,} ids above{were}"
    of_user = retrieval.user_id != user_of(client)
    whose = f"client.for_user({json.dumps(retrieval.user_id)})" if of_user else "client"
    devices = retrieval.device_ids
    if not devices:
        return f"{whose}.records()"
    if len(devices) == 1:
        return f"{whose}.records(device_id={json.dumps(devices[0])})"
    few = len(devices) <= _MOST_IN_CODE
    named = json.dumps(list(devices)) if few else "device_ids"
    more = "" if few else f"  # the {len(devices):,} devices above"
    each = f"[{whose}.records(device_id=each) for each in {named}]"
    return f"pd.concat({each}, ignore_index=True){more}"


def lists(refused: Mapping[str, str], retrieval: Retrieval | None) -> str:
    """List what is no id, what is not there, and what failed, the first of each."""
    parts = []
    if refused:
        rows = [f"{text(each, 40)} {_quiet(why)}" for each, why in _first(refused.items())]
        parts.append(_list(f"No id, so not asked for: {len(refused):,}", len(refused), rows))
    if retrieval is not None and retrieval.not_found:
        n = len(retrieval.not_found)
        named = ", ".join(text(each, _ID_CHARACTERS) for each in _first(retrieval.not_found))
        parts.append(_list(f"Not found: {n:,}", n, [named]))
    if retrieval is not None and len(retrieval.failures):
        failures = retrieval.failures
        rows = [
            f"{text(what, _ID_CHARACTERS)} {_quiet(why)}"
            for what, why in _first(zip(failures["what"], failures["error"], strict=True))
        ]
        parts.append(_list(f"Did not come: {len(failures):,}", len(failures), rows))
    return "".join(parts)


def _list(title: str, n: int, rows: Iterable[str]) -> str:
    first = f" (the first {_MOST_LISTED} are listed)" if n > _MOST_LISTED else ""
    items = "".join(f"<li>{row}</li>" for row in rows)
    return (
        f'<details class="koodrive-list" open><summary>{title}{first}</summary>'
        f"<ul>{items}</ul></details>"
    )


def _first(items: Iterable[_Item]) -> list[_Item]:
    return list(itertools.islice(items, _MOST_LISTED))


def _quiet(words: str) -> str:
    return f'<span class="koodrive-quiet">{html.escape(one_line(words, _REASON_CHARACTERS))}</span>'
