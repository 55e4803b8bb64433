"""AdamW and its learning-rate schedule, as the configuration asks for them."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn
from torch.optim import AdamW

from masa.config import ConfigError
from masa.config.algorithm import OptimizerSection


def make_optimizer(module: nn.Module, section: OptimizerSection) -> AdamW:
    """AdamW over the trainable parameters; vectors (norms, biases) are not decayed, as is usual.

    Raises:
        ConfigError: the parameters are sharded already.
    """
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    sharded = next((one for one in trainable if hasattr(one, "ds_id")), None)
    if sharded is not None:
        # Its parameters have lost their shapes: matrices and vectors cannot be told apart, nor any other whole be had.
        raise ConfigError(
            "model: its parameters are split over processes already (ZeRO 3), allowed are whole ones: load the model "
            "before anything makes an Accelerator, or name it in model.path"
        )
    return AdamW(
        [
            {"params": [one for one in trainable if one.dim() >= 2], "weight_decay": section.weight_decay},
            {"params": [one for one in trainable if one.dim() < 2], "weight_decay": 0.0},
        ],
        lr=section.learning_rate,
        betas=(section.beta1, section.beta2),
        eps=section.epsilon,
    )


def learning_rate_factor(section: OptimizerSection, total_updates: int) -> Callable[[int], float]:
    """Factor of the learning rate at update 0, 1, ...: linear warm-up, then constant or a decay to 0."""

    def factor(update: int) -> float:
        if update < section.warmup_steps:
            return (update + 1) / section.warmup_steps
        if section.schedule == "constant":
            return 1.0
        done = (update - section.warmup_steps) / max(1, total_updates - section.warmup_steps)
        done = min(done, 1.0)
        return 1.0 - done if section.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))

    return factor
