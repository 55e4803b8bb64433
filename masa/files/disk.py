"""Writes that the disk refuses, whatever library reports them."""

from __future__ import annotations

import errno

_REFUSED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_disk_full(error: BaseException) -> bool:
    """Whether a write failed because the disk, the quota or the limit of a file's size has no room left.

    ``safetensors`` reports failed writes as an error of its own that is no ``OSError`` and holds the number in words.
    """
    if isinstance(error, OSError):
        return error.errno in _REFUSED
    from safetensors import SafetensorError

    return isinstance(error, SafetensorError) and any(f"(os error {number})" in str(error) for number in _REFUSED)
