"""Memory of this process that the allocator keeps although nothing uses it."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


def give_back_free_memory() -> bool:
    """Have glibc's allocator give memory that nothing uses back to the system; whether there was any to give.

    A step on a CPU takes and frees blocks of ever other sizes (logits, caches, packed weights), so that holes remain:
    left alone they grow by hundreds of megabytes a step. Where the C library is another one nothing happens.
    """
    library = _glibc()
    return library is not None and bool(library.malloc_trim(0))


@cache
def _glibc() -> Any:
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows has no library without a name
        return None
    return library if hasattr(library, "malloc_trim") else None
