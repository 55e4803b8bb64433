"""The rollouts in a checkpoint: those of steps to come and those put aside, of each process, and those carried over.

``training/rollouts_ahead-00000.safetensors`` and so on, one a process, likewise ``put_aside-00000.safetensors``, and
``carried_over.safetensors`` hold them as arrays; ``state.json`` says what they wait for. Earlier versions held all of
it in ``state.json``: still read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from masa.checkpointing.saving import TRAINING_FOLDER
from masa.files.checked_files import CheckedFiles
from masa.files.tensor_files import Part, TensorFiles
from masa.flow.dynamic_sampling import carried_of_json
from masa.flow.saved_batches import ahead_of_json
from masa.rollout.engine import Rollout
from masa.rollout.waiting import Waiting, rollout_arrays, rollouts_of

CARRIED_OVER = "carried_over"


def rollouts_ahead(process: int) -> str:
    """The name of the file of one process."""
    return f"rollouts_ahead-{process:05d}"


def put_aside(process: int) -> str:
    """The name of the file of what one process has put aside."""
    return f"put_aside-{process:05d}"


def rollout_parts(name: str, waiting: Waiting) -> Iterator[Part]:
    """Rollouts that wait, for a checkpoint; nothing where there are none."""
    if waiting.rollouts:
        for key, array in rollout_arrays(waiting.rollouts).items():
            yield Part(f"{TRAINING_FOLDER}/{name}.safetensors", key, array)


def read_rollouts_ahead(checked: CheckedFiles, layouts: Sequence[Sequence[Mapping[str, Any]]]) -> list[Waiting]:
    """The rollouts of steps to come, of each process that wrote them; ``layouts`` as ``state.json`` has them."""
    return [
        ahead_of_json(layout)
        if any("groups" in one for one in layout)
        else _read(checked, rollouts_ahead(process), layout)
        for process, layout in enumerate(layouts)
    ]


def read_put_aside(checked: CheckedFiles, layouts: Sequence[Sequence[Mapping[str, Any]]]) -> list[Waiting]:
    """What was put aside, of each process that wrote it; ``layouts`` as ``state.json`` has them."""
    return [_read(checked, put_aside(process), layout) for process, layout in enumerate(layouts)]


def read_carried_over(checked: CheckedFiles, layout: Sequence[Mapping[str, Any]]) -> Waiting:
    """The rollouts that dynamic sampling carries over; ``layout`` as ``state.json`` has it."""
    if any(isinstance(one["solutions"], list) for one in layout):
        return carried_of_json(layout)
    return _read(checked, CARRIED_OVER, layout)


def _read(checked: CheckedFiles, name: str, layout: Sequence[Mapping[str, Any]]) -> Waiting:
    file = f"{TRAINING_FOLDER}/{name}.safetensors"
    rollouts: list[Rollout] = []
    if file in checked.records:
        files = TensorFiles(checked, [file])
        arrays = {key: files.read(key) for key in files.names}
        # Arrays that have changed on the disk may not fit one another; the checkpoint is not used then.
        rollouts = rollouts_of(arrays) if checked.damage is None else []
    return Waiting([dict(one) for one in layout], rollouts)
