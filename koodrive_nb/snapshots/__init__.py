"""Fleets on disk: each sweep is one immutable snapshot, and together they tell what changed."""

from koodrive_nb.snapshots.manifests import Snapshot
from koodrive_nb.snapshots.store import Snapshots

__all__ = ["Snapshot", "Snapshots"]
