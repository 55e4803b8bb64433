"""Checkpoints that survive a kill at any instant: which there are, which stay, which a run can go on from."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from masa.files.checked_files import FileRecord, whole_checksum_of

_NAME = re.compile(r"step_(\d+)")
STATE = "state.json"
FILES = "files"
SCORE = "score"
CONTENTS = "contents"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written, or none that can be read; the message says what and where.

    All processes of a run raise it alike; ``first`` is true on the one that says it.
    """

    def __init__(self, message: str, *, first: bool = True) -> None:
        super().__init__(message)
        self.first = first


@dataclass(frozen=True)
class Candidates:
    """Checkpoints that a run may go on from, newest first, and those that hold the model alone."""

    resumable: list[tuple[int, Path]]
    models: list[tuple[int, Path]]


@dataclass(frozen=True)
class Retention:
    """Which checkpoints stay: the newest ``keep``, and the one with the best score among all that have one.

    The newest that a run can go on from stays as well, where later ones hold the model alone.
    """

    keep: int
    best_is: Literal["highest", "lowest"] = "highest"


@dataclass(frozen=True)
class Found:
    """The checkpoint to go on from, None where there is none, and what was found broken on the way, in words.

    ``models`` are later checkpoints that hold the model alone.
    """

    newest: tuple[int, Path] | None
    warnings: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint after ``step`` lies."""
    return folder / f"step_{step:06d}"


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Complete checkpoints as (step, path), oldest first."""
    found = []
    for path in folder.glob("step_*"):
        match = _NAME.fullmatch(path.name)
        if match and (path / STATE).is_file():
            found.append((int(match[1]), path))
    return sorted(found)


def best_checkpoint(folder: Path, best_is: Literal["highest", "lowest"] = "highest") -> tuple[int, Path] | None:
    """The checkpoint with the best score, the earliest of equals; None where none has one."""
    sign = 1 if best_is == "highest" else -1
    scored = []
    for step, path in list_checkpoints(folder):
        score = _readable_state(path).get(SCORE)
        if score is not None:
            scored.append((-sign * score, step, path))
    return min(scored)[1:] if scored else None


def resumable_checkpoints(folder: Path) -> Candidates:
    """What there is to go on from; what a kill in the middle of writing left behind is removed.

    Raises:
        CheckpointError: there are checkpoints, and all of them hold the model alone.
    """
    _remove_leftovers(folder)
    require_resumable(folder)
    found = Candidates([], [])
    for one in reversed(list_checkpoints(folder)):
        (found.models if holds_model_alone(one[1]) else found.resumable).append(one)
    return found


def newest_whole_checkpoint(folder: Path, candidates: Candidates, check: Callable[[Path], str | None]) -> Found:
    """The newest of ``candidates`` in which ``check`` finds no damage, which it tells in words.

    Raises:
        CheckpointError: all of them are broken.
    """
    warnings: list[str] = []
    for step, path in candidates.resumable:
        damage = check(path)
        if damage is None:
            return Found((step, path), warnings, [one.name for later, one in candidates.models if later > step])
        warnings.append(f"the checkpoint {path.name} is broken ({damage})")
    if warnings:
        raise CheckpointError(f"{folder} holds no whole checkpoint: {'; '.join(warnings)}")
    return Found(None)


def holds_model_alone(path: Path) -> bool:
    """Whether a checkpoint was written without what training needs to go on (``checkpoint.contents: model``)."""
    return _readable_state(path).get(CONTENTS) == "model"


def require_resumable(folder: Path) -> None:
    """Refuse checkpoints of which none holds more than the model; their files are not read, and none is no mistake.

    Raises:
        CheckpointError: all of them hold the model alone.
    """
    paths = [path for _, path in reversed(list_checkpoints(folder))]
    if paths and all(holds_model_alone(path) for path in paths):
        names = ", ".join(path.name for path in paths)
        raise CheckpointError(
            f"{folder} holds no checkpoint to resume from: {names} hold the model alone "
            "(checkpoint.contents: model), which --resume passes over. Start a new run from one of them: "
            f"model.path={paths[0]}, with another run.dir"
        )


def put_later_aside(folder: Path, newest_step: int) -> None:
    """Rename checkpoints after ``newest_step``, so that they neither count as kept nor are used.

    Those that hold the model alone become ``model_only_...``, others are broken and become ``broken_...``.
    """
    for step, path in list_checkpoints(folder):
        if step > newest_step:
            target = folder / f"{'model_only' if holds_model_alone(path) else 'broken'}_{path.name}"
            shutil.rmtree(target, ignore_errors=True)
            path.rename(target)


def find_missing(path: Path) -> str | None:
    """What is missing of a checkpoint, in words; the files are not read, but for those of earlier versions."""
    try:
        records = read_records(path)
    except (OSError, ValueError, KeyError, TypeError):
        return f"{STATE} cannot be read"
    for name, record in records.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != record.size:
            return f"{name} has {file.stat().st_size} bytes, {record.size} were written"
    for name, record in records.items():
        # Checksums of whole files, which cannot be compared while parts are read.
        if isinstance(record.checksums, int) and whole_checksum_of(path / name) != record.checksums:
            return f"{name} has changed since it was written"
    return None


def read_records(path: Path) -> dict[str, FileRecord]:
    """Size and checksums of a checkpoint's files, by their names in its folder."""
    return {name: FileRecord(size, checksums) for name, (size, checksums) in read_state(path)[FILES].items()}


def read_state(path: Path) -> dict[str, Any]:
    """The JSON state of one checkpoint."""
    state: dict[str, Any] = json.loads((path / STATE).read_text(encoding="utf-8"))
    return state


def drop_old(folder: Path, retention: Retention) -> None:
    """Remove the checkpoints that ``retention`` does not keep."""
    checkpoints = list_checkpoints(folder)
    best = best_checkpoint(folder, retention.best_is)
    resumable = next((one for one in reversed(checkpoints) if not holds_model_alone(one[1])), None)
    for one in checkpoints[: -retention.keep]:
        if one not in (best, resumable):
            shutil.rmtree(one[1])


def _remove_leftovers(folder: Path) -> None:
    """Drop what a kill in the middle of writing left behind."""
    for path in folder.glob(".writing_*"):
        shutil.rmtree(path, ignore_errors=True)


def _readable_state(path: Path) -> dict[str, Any]:
    try:
        return read_state(path)
    except (OSError, ValueError):
        return {}
