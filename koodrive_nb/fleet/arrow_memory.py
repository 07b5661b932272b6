"""Arrow's memory while a sweep is under way, from an allocator that gives back what is free.

The one that Arrow comes with keeps four times what was ever in use at once, and more with time.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def of_system() -> Iterator[None]:
    """Let Arrow take memory from the system's allocator, all over the process."""
    usual = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        give_back()
        pa.set_memory_pool(usual)


def give_back() -> None:
    """Return what is free to the system, as far as its allocator can: that of Python, too."""
    pa.system_memory_pool().release_unused()
