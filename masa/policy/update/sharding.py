"""One update's backward passes and optimiser step, whatever holds the gradients: one process, DDP, or ZeRO 1 to 3.

All of them are driven alike: any number of micro-batches, whose gradients add up, then one clipped step, which is
dropped where the gradient is not finite. `masa.policy.update.optimizer_state` reads and writes what they keep.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from accelerate import Accelerator, DistributedType
from torch import Tensor, nn
from torch.optim import Optimizer

from masa.config import ConfigError


class ShardedUpdate(Protocol):
    """The module as the processes share it, and its optimiser.

    ``module`` is called for log-probs. Gradients are sums over the processes' own losses.
    """

    module: Any

    def accumulating(self, last: bool) -> AbstractContextManager[Any]:
        """Around forward and backward of one micro-batch; gradients are exchanged with the ``last`` one only."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of ``loss``; a loss that is not finite makes the whole gradient so, on every process."""
        ...

    def step(self, learning_rate: float, *, skip: bool = False) -> tuple[float, bool]:
        """Clip, apply and forget the gradient: its norm before clipping, and whether it was applied.

        It is not applied where it is not finite, nor with ``skip``.
        """
        ...


def share_update(accelerator: Accelerator, module: nn.Module, optimizer: Optimizer, max_norm: float) -> ShardedUpdate:
    """Prepare ``module`` and ``optimizer`` for the way in which ``accelerator`` spreads them over processes.

    Raises:
        ConfigError: a DeepSpeed configuration that contradicts the run's.
    """
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        return ZeroUpdate(accelerator, module, optimizer, max_norm)
    return PlainUpdate(accelerator, module, optimizer, max_norm)


class PlainUpdate:
    """One process, or several with a whole copy each (DDP)."""

    def __init__(self, accelerator: Accelerator, module: nn.Module, optimizer: Optimizer, max_norm: float) -> None:
        self.module, self.optimizer = accelerator.prepare(module, optimizer)
        self._accelerator = accelerator
        self._max_norm = max_norm

    def accumulating(self, last: bool) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = nullcontext() if last else self._accelerator.no_sync(self.module)
        return context

    def backward(self, loss: Tensor) -> None:
        # DDP averages over processes.
        self._accelerator.backward(loss * _factor(loss, self._accelerator.num_processes))

    def step(self, learning_rate: float, *, skip: bool = False) -> tuple[float, bool]:
        norm = float(self._accelerator.clip_grad_norm_(self.module.parameters(), self._max_norm))
        applied = math.isfinite(norm) and not skip
        if applied:
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate
            self.optimizer.step()
        self.optimizer.zero_grad()
        return norm, applied


class ZeroUpdate:
    """DeepSpeed's ZeRO: optimiser state (1), gradients (2) and parameters (3) are split over the processes.

    Accelerate's wrapper steps inside ``backward``, where nothing can be decided any more; this drives the engine.
    """

    def __init__(self, accelerator: Accelerator, module: nn.Module, optimizer: Optimizer, max_norm: float) -> None:
        settle(accelerator.deepspeed_plugin.deepspeed_config, max_norm)
        self.module, _ = accelerator.prepare(module, optimizer)
        self.zero: Any = self.module.optimizer
        self.zero_stage: int = self.module.zero_optimization_stage()

    def flat_partitions(self) -> list[Tensor]:
        """What the optimiser within steps on: this process's float32 part of each group of parameters."""
        if self.zero_stage == 3:
            return list(self.zero.fp32_partitioned_groups_flat)
        # Stage 1 in bf16 with gradients in float32 is an optimiser of DeepSpeed's own.
        own = getattr(self.zero, "fp32_groups_flat_partition", None)
        return list(self.zero.single_partition_of_fp32_groups if own is None else own)

    def accumulating(self, last: bool) -> AbstractContextManager[Any]:
        self.module.set_gradient_accumulation_boundary(is_boundary=last)
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        # ZeRO averages over processes.
        self.module.backward(loss * _factor(loss, self.module.dp_world_size))

    def step(self, learning_rate: float, *, skip: bool = False) -> tuple[float, bool]:
        if skip:
            self._spoil_gradient()
        for group in self.zero.param_groups:
            group["lr"] = learning_rate
        self.module.step()
        applied = not self.zero.overflow
        norm = float(self.module.get_global_grad_norm())
        return (norm if applied else math.inf), applied

    def _spoil_gradient(self) -> None:
        """Make the gradient one that the engine drops: it has no other way to forget one that was reduced."""
        from deepspeed.utils import safe_get_full_grad, safe_set_full_grad

        first = next(one for one in self.module.parameters() if one.requires_grad)
        safe_set_full_grad(first, torch.full_like(safe_get_full_grad(first), math.nan))


def _factor(loss: Tensor, processes: int) -> float:
    return float(processes) if bool(torch.isfinite(loss.detach())) else math.nan


def settle(settings: dict[str, Any], max_norm: float) -> None:
    """Fill in what the run's configuration says, or refuse a DeepSpeed configuration that says otherwise.

    Raises:
        ConfigError: the key, what was found, and what is allowed.
    """
    stage = settings.get("zero_optimization", {}).get("stage", 0)
    if stage not in (1, 2, 3):
        raise ConfigError(f"DeepSpeed's zero_optimization.stage: found {stage!r}, allowed: 1, 2, 3 (or plain DDP)")
    if settings.get("fp16", {}).get("enabled") is True:
        raise ConfigError("DeepSpeed's fp16.enabled: found true, allowed: false; use bf16")
    wanted: dict[str, Any] = {
        # Micro-batches differ in size and number; the update says where a step ends.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": max_norm,
    }
    for key, value in wanted.items():
        if settings.get(key, "auto") not in ("auto", value):
            raise ConfigError(f"DeepSpeed's {key}: found {settings[key]!r}, allowed: auto, or {value}")
        settings[key] = value
    if settings.get("bf16", {}).get("enabled") is True:
        # Without this, stages 1 and 2 apply a gradient of infinities.
        settings["bf16"]["check_grad_overflow"] = True
