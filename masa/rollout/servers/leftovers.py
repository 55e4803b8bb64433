"""Temporary folders that a killed process leaves are removed by the next one that makes such a folder.

Each folder holds a file that its process keeps locked. The kernel lets go of the lock when the process ends, however it
does, and knows of it in every container, and over NFS on every machine: process ids do neither.
"""

from __future__ import annotations

import fcntl
import shutil
import uuid
from pathlib import Path
from typing import IO

_LOCK = "in_use"
# Locks live as long as their files are open: as long as this process.
_held: list[IO[bytes]] = []


def claimed_folder(parent: Path, prefix: str, *, private: bool) -> Path:
    """A new folder ``parent/prefix-...`` of this process, once those of processes that are gone have been removed.

    A ``private`` one can be read by this user alone.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for folder in parent.glob(f"{prefix}-*"):
        if _is_left_over(folder):
            shutil.rmtree(folder, ignore_errors=True)
    # Under its own name it appears locked.
    name = uuid.uuid4().hex[:12]
    making, claimed = parent / f".{prefix}-{name}", parent / f"{prefix}-{name}"
    making.mkdir(mode=0o700 if private else 0o777)
    lock = (making / _LOCK).open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    _held.append(lock)
    making.rename(claimed)
    return claimed


def _is_left_over(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open("rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except OSError:
        return False  # in use, not one of ours, or nothing that this user may remove
