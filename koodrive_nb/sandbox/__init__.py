"""An embedded KooDrive service on loopback, with a synthetic fleet: no account needed."""

from koodrive_nb.sandbox.faults import Fault
from koodrive_nb.sandbox.frames import Frames, frames, users
from koodrive_nb.sandbox.habits import Preset
from koodrive_nb.sandbox.server import Sandbox, shared
from koodrive_nb.sandbox.synthetic import CROWD_USER, DEFAULT_USER, as_of

__all__ = [
    "CROWD_USER",
    "DEFAULT_USER",
    "Fault",
    "Frames",
    "Preset",
    "Sandbox",
    "as_of",
    "frames",
    "shared",
    "users",
]
