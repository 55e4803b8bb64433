"""Group-relative advantages (GRPO, Dr. GRPO, RLOO)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import get_args

import torch
from torch import Tensor

from masa.policy.objective.parameters import AdvantageScale

# Rewards of a group whose spread is within this many units of rounding are the same reward: without the bound,
# division by a standard deviation of 1e-17 would turn the order of a summation into a training signal.
_ROUNDING_UNITS = 8


def group_advantages(
    rewards: Sequence[float] | Tensor,
    group_ids: Sequence[Hashable] | Tensor,
    scale: AdvantageScale = "std",
    leave_one_out: bool = False,
    eps: float = 1e-6,
) -> Tensor:
    """Advantage of each response relative to its group, shape [N], float32 (float64 where ``rewards`` is).

    The baseline is the group's mean reward, or with ``leave_one_out`` the mean of the *other* members (RLOO). The
    difference is divided by ``std + eps``: the group's standard deviation (``std``, GRPO), that of all N rewards
    (``batch``), or left as it is (``none``, Dr. GRPO). Standard deviations are the sample's (divided by n - 1).

    A group of one and a group of equal rewards get exactly 0. Computed in float64 on the CPU. ``batch`` needs the
    rewards of all ranks in one call, and one call per path if paths have different reward scales.

    Args:
        rewards: [N], finite.
        group_ids: [N], equal for members of one group; members need not be neighbours.

    Raises:
        ValueError: lengths that differ, a reward that is not finite, an unknown ``scale``.
    """
    if scale not in get_args(AdvantageScale):
        raise ValueError(f"scale is {scale!r}; allowed are {', '.join(map(repr, get_args(AdvantageScale)))}")
    source = rewards if isinstance(rewards, Tensor) else torch.tensor(list(rewards), dtype=torch.float64)
    source_eps = torch.finfo(source.dtype).eps if source.is_floating_point() else 0.0
    values = source.detach().to("cpu", torch.float64)
    group = _group_index(group_ids)
    if values.shape != group.shape:
        raise ValueError(f"{tuple(values.shape)} rewards but {tuple(group.shape)} group ids; both must be [N]")
    if not bool(torch.isfinite(values).all()):
        bad = int((~torch.isfinite(values)).nonzero()[0])
        raise ValueError(f"reward {bad} is {float(values[bad])}; rewards must be finite")

    dtype = torch.float64 if source.dtype == torch.float64 and isinstance(rewards, Tensor) else torch.float32
    if values.numel() == 0:
        return values.to(dtype)
    groups = int(group.max()) + 1
    size = torch.bincount(group, minlength=groups).to(torch.float64)
    mean = torch.zeros(groups, dtype=torch.float64).index_add_(0, group, values) / size
    deviation = values - mean[group]
    deviation[_constant_groups(values, group, groups, source_eps)[group]] = 0.0

    advantages = deviation
    if leave_one_out:
        advantages = deviation * (size / (size - 1).clamp(min=1))[group]
    if scale == "std":
        squares = torch.zeros(groups, dtype=torch.float64).index_add_(0, group, deviation**2)
        advantages = advantages / ((squares / (size - 1).clamp(min=1)).sqrt() + eps)[group]
    elif scale == "batch":
        spread = values.std() if values.numel() > 1 else torch.zeros((), dtype=torch.float64)
        advantages = torch.where(deviation == 0, 0.0, advantages / (spread + eps))
    return torch.where(deviation == 0, 0.0, advantages).to(dtype)


def _group_index(group_ids: Sequence[Hashable] | Tensor) -> Tensor:
    ids: list[Hashable] = group_ids.tolist() if isinstance(group_ids, Tensor) else list(group_ids)
    index: dict[Hashable, int] = {}
    return torch.tensor([index.setdefault(one, len(index)) for one in ids], dtype=torch.long)


def _constant_groups(values: Tensor, group: Tensor, groups: int, source_eps: float) -> Tensor:
    highest = torch.full((groups,), -torch.inf, dtype=torch.float64).scatter_reduce_(0, group, values, "amax")
    lowest = torch.full((groups,), torch.inf, dtype=torch.float64).scatter_reduce_(0, group, values, "amin")
    return highest - lowest <= _ROUNDING_UNITS * source_eps * torch.maximum(highest.abs(), lowest.abs())
