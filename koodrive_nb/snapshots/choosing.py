"""Which snapshots a call means, and what is said of them together."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from koodrive_nb.errors import InvalidParameterError, SnapshotError
from koodrive_nb.snapshots import drafts, reading
from koodrive_nb.snapshots.locations import SNAPSHOT_NAME, Location
from koodrive_nb.snapshots.manifests import Snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def names(place: Location) -> list[str]:
    """Give the names of what may be snapshots, finished or not, the oldest first.

    Raises:
        SnapshotError: The folder cannot be listed.
    """
    return sorted(place.names(), key=_age)


def chosen(place: Location, snapshot: object, folder: Path | None) -> Sequence[Snapshot]:
    """Give the snapshots that are meant, the oldest first; `folder` is where drafts lie.

    Raises:
        InvalidParameterError: There is no such snapshot.
        SnapshotError: There is no snapshot yet, or a manifest is damaged.
    """
    name = snapshot.name if isinstance(snapshot, Snapshot) else snapshot
    if not isinstance(name, str):
        raise InvalidParameterError(
            "snapshot= takes 'newest', 'all', a name of list(), or what sweep() or write() "
            f"returned, not {type(name).__name__}."
        )
    if name not in {"newest", "all"}:
        found = reading.published(place, name) if SNAPSHOT_NAME.fullmatch(name) else None
        if found is None:
            raise InvalidParameterError(
                f"There is no snapshot {name!r} in {place.shown}: take a name of list(), 'newest' "
                "or 'all'."
            )
        return [found]
    each = (reading.published(place, one) for one in reversed(names(place)))
    # Those without a manifest are not finished.
    finished = (one for one in each if one is not None)
    kept = [*finished] if name == "all" else [*islice(finished, 1)]
    if not kept:
        begun = drafts.unfinished(folder)
        what = (
            f"{begun}, and the same command, or the same call of sweep(), goes on with it"
            if begun
            else "sweep users into it (`koodrive-nb sweep`, kd.fleet.sweep), or write what "
            "kd.fleet.fetch returned with Snapshots.write()"
        )
        raise SnapshotError(f"There is no snapshot in {place.shown} yet: {what}.")
    return kept[::-1]


def facts(snapshots: Sequence[Snapshot]) -> dict[str, Any]:
    """Tell what frames of these snapshots say of themselves."""
    manifests = [each.manifest for each in snapshots]
    told = {
        "source": " and ".join(sorted({each["source"] for each in manifests})),
        "complete": all(each["complete"] for each in manifests),
    }
    samples = {(each["sampled_of"], each["users"]) for each in manifests}
    # Of snapshots together it is no more than said where it is the same for all.
    population, users = samples.pop() if len(samples) == 1 else (None, None)
    return told if population is None else told | {"sampled_of": population, "sampled": users}


def _age(name: str) -> tuple[str, int]:
    first, _, number = name.partition("-")
    return first, int(number or 1)
