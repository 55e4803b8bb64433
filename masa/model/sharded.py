"""Whether a process holds the whole model."""

from __future__ import annotations

from torch import nn


def is_sharded(model: nn.Module) -> bool:
    """Whether this process holds only a part of the parameters (ZeRO 3)."""
    return any(hasattr(parameter, "ds_id") for parameter in model.parameters())
