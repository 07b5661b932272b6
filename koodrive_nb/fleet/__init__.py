"""Many users at once: in memory, or swept into snapshots on disk."""

from koodrive_nb.fleet.fetching import Fleet, fetch
from koodrive_nb.fleet.sweeping import sweep

__all__ = ["Fleet", "fetch", "sweep"]
