"""Mixtures of experts in vLLM's CPU build, which packs the experts' weights for its kernel.

vLLM packs them when an engine is built and not again after a weight update: the kernel would then read new weights as
if they were packed. A layer that has forgotten its kernel packs them again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn


def forget_packed_experts(model: nn.Module) -> None:
    """Before an update: let every mixture of experts make its kernel, and so its packed weights, anew."""
    for method in _methods_of_experts(model):
        method.moe_kernel = None


def has_packed_experts(model: nn.Module) -> bool:
    """Whether parameters of ``model`` lie in another order than a checkpoint's."""
    return any(True for _ in _methods_of_experts(model))


def _methods_of_experts(model: nn.Module) -> Iterator[Any]:
    for module in model.modules():
        method = getattr(module, "quant_method", None)
        if hasattr(method, "moe_kernel"):
            yield method
