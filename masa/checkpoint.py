"""Checkpoints that survive a kill at any instant: written aside, renamed into place, checked before use."""

from __future__ import annotations

import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from masa.checkpoint_size import Contents
from masa.disk import is_disk_full

_NAME = re.compile(r"step_(\d+)")
_STATE = "state.json"
_FILES = "files"
_SCORE = "score"
_CONTENTS = "contents"
_READ_BYTES = 2**24
_CHECKING_THREADS = 8


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written, or none that can be read; the message says what and where."""


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
        if match and (path / _STATE).is_file():
            found.append((int(match[1]), path))
    return sorted(found)


def save_checkpoint(
    folder: Path,
    step: int,
    state: Mapping[str, Any],
    write: Callable[[Path], None],
    *,
    retention: Retention,
    score: float | None = None,
    contents: Contents = "all",
) -> Path:
    """Write a checkpoint after ``step`` and drop those that ``retention`` does not keep.

    ``write`` puts the model and the optimiser into the folder it is given; ``state`` (JSON) is written last, with size
    and checksum of every other file. The folder takes its name only when everything in it has reached the disk, so a
    name that matches means a whole checkpoint. ``score`` tells which checkpoint is the best. ``contents`` is what
    ``write`` writes: a run cannot go on from ``model``.

    Raises:
        CheckpointError: it cannot be written (a full disk); earlier checkpoints are untouched.
    """
    target = checkpoint_path(folder, step)
    aside = folder / f".writing_{target.name}"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        write(aside)
        whole = {**state, "step": step, _SCORE: score, _CONTENTS: contents, _FILES: _checksums(aside)}
        (aside / _STATE).write_text(json.dumps(whole, indent=2), encoding="utf-8")
        _flush_tree(aside)
        if target.exists():
            shutil.rmtree(target)
        aside.rename(target)
        _flush(folder)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        if not (isinstance(error, OSError) or is_disk_full(error)):
            raise
        earlier = [path.name for _, path in list_checkpoints(folder)]
        raise CheckpointError(
            f"the checkpoint after step {step} cannot be written to {folder}: {error}; earlier checkpoints are "
            f"untouched ({', '.join(earlier) or 'there is none'}). Make room and go on with --resume"
        ) from error
    _drop_old(folder, retention)
    return target


def best_checkpoint(folder: Path, best_is: Literal["highest", "lowest"] = "highest") -> tuple[int, Path] | None:
    """The checkpoint with the best score, the earliest of equals; None where none has one."""
    sign = 1 if best_is == "highest" else -1
    scored = []
    for step, path in list_checkpoints(folder):
        score = _readable_state(path).get(_SCORE)
        if score is not None:
            scored.append((-sign * score, step, path))
    return min(scored)[1:] if scored else None


def newest_whole_checkpoint(folder: Path) -> Found:
    """The newest checkpoint that a run can go on from and whose files are all as they were written.

    Raises:
        CheckpointError: there are checkpoints, and all of them are broken, or hold the model alone.
    """
    _remove_leftovers(folder)
    require_resumable(folder)
    warnings: list[str] = []
    models: list[str] = []
    for step, path in reversed(list_checkpoints(folder)):
        if holds_model_alone(path):
            models.append(path.name)
            continue
        damage = find_damage(path)
        if damage is None:
            return Found((step, path), warnings, models)
        warnings.append(f"the checkpoint {path.name} is broken ({damage})")
    if warnings:
        raise CheckpointError(f"{folder} holds no whole checkpoint: {'; '.join(warnings)}")
    return Found(None)


def holds_model_alone(path: Path) -> bool:
    """Whether a checkpoint was written without what training needs to go on (``checkpoint.contents: model``)."""
    return _readable_state(path).get(_CONTENTS) == "model"


def require_resumable(folder: Path) -> None:
    """Refuse checkpoints of which none holds more than the model; their files are not read, and none is no mistake.

    Raises:
        CheckpointError: all of them hold the model alone.
    """
    paths = [path for _, path in reversed(list_checkpoints(folder))]
    if paths and all(holds_model_alone(path) for path in paths):
        names = ", ".join(path.name for path in paths)
        raise CheckpointError(
            f"{folder} holds no checkpoint to go on from: {names} hold the model alone "
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


def find_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint's files, in words; None where each has the size and checksum it was given."""
    try:
        expected = read_state(path)[_FILES]
    except (OSError, ValueError, KeyError):
        return f"{_STATE} cannot be read"
    for name, (size, _) in expected.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes, {size} were written"
    found = _checksums(path)
    changed = [name for name, (_, checksum) in expected.items() if found[name][1] != checksum]
    return f"{changed[0]} has changed since it was written" if changed else None


def read_state(path: Path) -> dict[str, Any]:
    """The JSON state of one checkpoint."""
    state: dict[str, Any] = json.loads((path / _STATE).read_text(encoding="utf-8"))
    return state


def _drop_old(folder: Path, retention: Retention) -> None:
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


def _checksums(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and CRC-32 of each file but the state, by path within ``folder``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / _STATE)
    with ThreadPoolExecutor(_CHECKING_THREADS) as threads:
        checksums = list(threads.map(_checksum, files))
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_size, checksum)
        for path, checksum in zip(files, checksums, strict=True)
    }


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            checksum = zlib.crc32(block, checksum)
    return checksum


def _flush_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        _flush(path)
    _flush(folder)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
