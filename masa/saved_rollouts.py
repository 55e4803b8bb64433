"""The rollouts in a checkpoint: those of steps to come, which each process has its own of, and those carried over.

``training/rollouts_ahead-00000.safetensors`` and so on, one a process, and ``training/carried_over.safetensors`` hold
them as arrays; ``state.json`` says what they wait for. Earlier versions held all of it in ``state.json``: still read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from masa.policy.dynamic_sampling import carried_of_json
from masa.rollout.ahead import ahead_of_json
from masa.rollout.waiting import Waiting, rollout_arrays, rollouts_of
from masa.saving import TRAINING_FOLDER

CARRIED_OVER = "carried_over"


def rollouts_ahead(process: int) -> str:
    """The name of the file of one process."""
    return f"rollouts_ahead-{process:05d}"


def write_rollouts(folder: Path, name: str, waiting: Waiting) -> None:
    """Write rollouts that wait into a checkpoint's ``folder``; no file where there are none."""
    from safetensors.torch import save_file

    if waiting.rollouts:
        training = folder / TRAINING_FOLDER
        training.mkdir(exist_ok=True)
        save_file(rollout_arrays(waiting.rollouts), training / f"{name}.safetensors")


def read_rollouts_ahead(folder: Path, layouts: Sequence[Sequence[Mapping[str, Any]]]) -> list[Waiting]:
    """The rollouts of steps to come, of each process that wrote them; ``layouts`` as ``state.json`` has them."""
    return [
        ahead_of_json(layout)
        if any("groups" in one for one in layout)
        else _read(folder, rollouts_ahead(process), layout)
        for process, layout in enumerate(layouts)
    ]


def read_carried_over(folder: Path, layout: Sequence[Mapping[str, Any]]) -> Waiting:
    """The rollouts that dynamic sampling carries over; ``layout`` as ``state.json`` has it."""
    if any(isinstance(one["solutions"], list) for one in layout):
        return carried_of_json(layout)
    return _read(folder, CARRIED_OVER, layout)


def _read(folder: Path, name: str, layout: Sequence[Mapping[str, Any]]) -> Waiting:
    from safetensors.torch import load_file

    file = folder / TRAINING_FOLDER / f"{name}.safetensors"
    return Waiting([dict(one) for one in layout], rollouts_of(load_file(file)) if file.is_file() else [])
