"""What a fleet in memory gives to its snapshot: frames, facts and the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb import privacy, streams
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.snapshots import layouts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def frames(fleet: Any) -> dict[str, pd.DataFrame]:
    """Give the frames of a fleet, without what `KOODRIVE_PRIVACY` forbids.

    Raises:
        InvalidParameterError: It is no fleet, or a frame lacks columns.
        ConfigurationError: A setting of privacy is unfit.
    """
    given = {name: getattr(fleet, name, None) for name in layouts.DATASETS}
    found = {name: frame for name, frame in given.items() if isinstance(frame, pd.DataFrame)}
    if len(found) < len(given):
        raise InvalidParameterError(
            f"write() takes a fleet, as kd.fleet.fetch() returns it, not {type(fleet).__name__}."
        )
    for name, frame in found.items():
        layouts.schema_for([*frame.columns], name)
    # Whoever made pseudonyms let errors tell no more.
    is_told = found["users"]["user_id"].astype(str).str.fullmatch(privacy.PSEUDONYM).all()
    return {
        name: privacy.protect_users(frame)
        if name == "users" and is_told
        else privacy.protect(frame)
        for name, frame in found.items()
    }


def facts(given: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Tell when and from where these frames came.

    Raises:
        InvalidParameterError: They do not say it, or are of two services.
    """
    times = pd.concat([frame["fetched_at"] for frame in given.values()]).dropna()
    sources = {*given["records"]["source"].dropna(), *given["devices"]["source"].dropna()}
    told = given["users"].attrs.get(streams.ATTRS, {}).get("source")
    sources |= {told} - {None}
    if times.empty or len(sources) != 1:
        raise InvalidParameterError(
            "Of this fleet nobody knows when, or from which one service, it was fetched: pass "
            "what kd.fleet.fetch() returned."
        )
    return {
        "began_at": times.min().isoformat(),
        "ended_at": times.max().isoformat(),
        "source": sources.pop(),
        "privacy": privacy.mode(),
    }


def ledger(fleet: Any) -> Sequence[dict[Any, Any]]:
    """Give the lines of its ledger, none where that is not known any more."""
    lines: list[dict[Any, Any]] = []
    for frame in (fleet.records, fleet.devices):
        try:
            lines += streams.ledger(frame).to_dict("records")
        except InvalidParameterError:
            # It was fetched in another process.
            continue
    return lines
