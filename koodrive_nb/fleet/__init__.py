"""Many users at once."""

from koodrive_nb.fleet.fetching import Fleet, fetch

__all__ = ["Fleet", "fetch"]
