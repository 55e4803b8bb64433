"""What tensor-parallel processes, which share one engine, ask one another: who has something to sample, and what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from masa.rollout.engine import Rollout, RolloutRequest


def anybody_waits(waits: bool) -> bool:
    """Whether any of the processes that share the engine has something to sample, given whether this one has."""
    answers, _ = _told(waits)
    return any(answers)


def sampled_together(
    requests: Sequence[RolloutRequest], sample: Callable[[list[RolloutRequest]], list[list[Rollout]]]
) -> list[list[Rollout]]:
    """What ``sample`` makes of this process's requests: all processes sample those of all, and keep their own."""
    shares, rank = _told(list(requests))
    rollouts = sample([request for share in shares for request in share])
    start = sum(len(share) for share in shares[:rank])
    return rollouts[start : start + len(requests)]


def _told(value: Any) -> tuple[list[Any], int]:
    """The values of all processes that share the engine, and this one's place among them."""
    from vllm.distributed.parallel_state import get_tp_group

    group = get_tp_group()
    values: list[Any] = [None] * group.world_size
    torch.distributed.all_gather_object(values, value, group=group.cpu_group)
    return values, group.rank_in_group
