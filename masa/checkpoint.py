"""Checkpoints that survive a kill at any instant: written aside, then renamed into place."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_NAME = re.compile(r"step_(\d+)")
_STATE = "state.json"


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
    folder: Path, step: int, state: Mapping[str, Any], write: Callable[[Path], None], *, keep: int
) -> Path:
    """Write a checkpoint after ``step`` and drop all but the newest ``keep``.

    ``write`` puts the model and the optimiser into the folder it is given; ``state`` (JSON) is written last. The folder
    takes its name only when everything in it has reached the disk, so a name that matches means a whole checkpoint.
    """
    target = checkpoint_path(folder, step)
    aside = folder / f".writing_{target.name}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        write(aside)
        (aside / _STATE).write_text(json.dumps({**state, "step": step}, indent=2), encoding="utf-8")
        _flush_tree(aside)
        if target.exists():
            shutil.rmtree(target)
        aside.rename(target)
        _flush(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    for _, old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def read_state(path: Path) -> dict[str, Any]:
    """The JSON state of one checkpoint."""
    state: dict[str, Any] = json.loads((path / _STATE).read_text(encoding="utf-8"))
    return state


def remove_leftovers(folder: Path) -> None:
    """Drop what a kill in the middle of writing left behind."""
    for path in folder.glob(".writing_*"):
        shutil.rmtree(path, ignore_errors=True)


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
