"""Checkpoints of one process, written and looked through without a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from masa.checkpointing.checkpoint import Retention, find_missing, read_records
from masa.checkpointing.size import Contents
from masa.checkpointing.writing import CheckpointWriting, Write
from masa.files.checked_files import CheckedFiles


def save_checkpoint(
    folder: Path,
    step: int,
    state: Mapping[str, Any],
    write: Write,
    *,
    retention: Retention,
    score: float | None = None,
    contents: Contents = "all",
) -> Path:
    """Write a checkpoint after ``step``."""
    writing = CheckpointWriting(folder, step, state, retention=retention, score=score, contents=contents)
    writing.begin()
    writing.write(write)
    return writing.finish()


def find_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint's files, in words; None where each has the size and checksums it was given."""
    missing = find_missing(path)
    if missing is not None:
        return missing
    checked = CheckedFiles(path, read_records(path))
    for name, record in checked.records.items():
        checked.compare(name, range(record.blocks))
    checked.close()
    return checked.damage
