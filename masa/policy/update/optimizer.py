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


def describe_new_decay(section: OptimizerSection, total_before: int, total_now: int, done: int) -> str | None:
    """What a resumed run of another length does to the learning rate of its next update; None where nothing changes.

    ``total_before`` and ``total_now`` count the updates of the whole run as it was and as it is, ``done`` those behind.
    """
    before, now = (
        section.learning_rate * learning_rate_factor(section, total)(done) for total in (total_before, total_now)
    )
    if before == now or done >= total_now:
        return None
    return (
        f"optimizer.schedule={section.schedule} now decays over {total_now} updates instead of {total_before}: the "
        f"next update has the learning rate {now:.3g}, where the run as it was had {before:.3g}"
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
