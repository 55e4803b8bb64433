"""Temporary folders that a killed process leaves are removed by the next one that makes such a folder."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
from pathlib import Path

import psutil

_OWNER = "owner.json"


def claimed_folder(parent: Path, prefix: str) -> Path:
    """A new folder ``parent/prefix-...`` of this process, once those of processes that are gone have been removed.

    Folders of other machines are left alone: whether their processes live cannot be told from here.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for folder in parent.glob(f"{prefix}-*"):
        if _is_left_over(folder):
            shutil.rmtree(folder, ignore_errors=True)
    claimed = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=parent))
    me = psutil.Process()
    owner = {"host": socket.gethostname(), "pid": me.pid, "started": me.create_time()}
    (claimed / _OWNER).write_text(json.dumps(owner))
    return claimed


def _is_left_over(folder: Path) -> bool:
    try:
        owner = json.loads((folder / _OWNER).read_text())
        if owner["host"] != socket.gethostname():
            return False
        return abs(psutil.Process(owner["pid"]).create_time() - owner["started"]) > 1.0
    except psutil.NoSuchProcess:
        return True
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return False  # not one of ours, or just being made
