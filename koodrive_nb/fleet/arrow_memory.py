"""Arrow's memory while a sweep is under way, from an allocator that gives back what is free.

The one that Arrow comes with keeps four times what was ever in use at once, and more with time.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator


_lock = threading.Lock()
# Of each that is under way; the first is the usual one.
_before: list[pa.MemoryPool] = []


@contextmanager
def of_system() -> Iterator[None]:
    """Let Arrow take memory from the system's allocator, all over the process.

    Of several at once, in threads, the last to end gives the usual one back.
    """
    with _lock:
        _before.append(pa.default_memory_pool())
        pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        give_back()
        with _lock:
            pa.set_memory_pool(_before.pop())


def give_back() -> None:
    """Return what is free to the system, as far as its allocator can: that of Python, too."""
    pa.system_memory_pool().release_unused()
