"""DeepSpeed as models meet it: whether a process holds the whole model, and the device that it looks for."""

from __future__ import annotations

import os

import torch
from torch import nn


def is_sharded(model: nn.Module) -> bool:
    """Whether this process holds only a part of the parameters (ZeRO 3)."""
    return any(hasattr(parameter, "ds_id") for parameter in model.parameters())


def name_device_for_deepspeed() -> None:
    """Keep DeepSpeed from warning, in runs that do not use it as well, that there is no GPU.

    It looks for one when anything imports it, unless it is told the device beforehand.
    """
    if not torch.accelerator.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
