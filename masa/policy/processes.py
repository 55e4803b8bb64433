"""The processes of one run: how they find each other, with or without GPUs."""

from __future__ import annotations

import os
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import InitProcessGroupKwargs


def join_processes() -> PartialState:
    """Join the processes that a launcher started; alone, this one. To be called before anything asks who is first."""
    if _left_to_accelerate():
        return PartialState()
    if _under_deepspeed():
        _leave_shared_memory_alone()
    return PartialState(cpu=not _under_deepspeed(), backend="gloo")


def make_accelerator() -> Accelerator:
    """The accelerator of this process: on its GPU, or on the CPU with gloo between processes."""
    join_processes()
    if _left_to_accelerate():
        return Accelerator()
    # Accelerate refuses DeepSpeed together with cpu=True, and finds no processes on CPUs without it.
    group: list[Any] = [InitProcessGroupKwargs(backend="gloo")]
    return Accelerator(cpu=not _under_deepspeed(), kwargs_handlers=group)


def _left_to_accelerate() -> bool:
    """Whether there is a GPU, or no launcher that started several processes."""
    return torch.accelerator.is_available() or "LOCAL_RANK" not in os.environ


def _under_deepspeed() -> bool:
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"


def _leave_shared_memory_alone() -> None:
    """Keep DeepSpeed from compiling its collectives over shared memory: a compiler, and minutes, for what gloo does."""
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
