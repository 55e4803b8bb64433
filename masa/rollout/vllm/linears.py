"""Linear layers in vLLM's CPU build: computed from packed copies of their weights, which are made after every update.

vLLM itself packs weights when it loads them, throws the weights away, and does not pack again: an update would change
nothing. It is therefore kept from packing (`masa.rollout.vllm.process.keep_weights_unpacked`), and this is done in its
place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from masa.model.cpu_products import LEAST_WEIGHTS
from masa.model.packed_linears import packed_product, packing_is_known


def pack_linears(model: nn.Module) -> int:
    """After an update: pack the weights of all linear layers; how many layers there are (none where it gains nothing).

    vLLM's layers keep the function that computes them in ``cpu_linear``: of states, weight and bias.
    """
    if not packing_is_known():
        return 0
    layers: list[Any] = [module for module in model.modules() if _is_linear(module)]
    if sum(layer.weight.numel() for layer in layers) < LEAST_WEIGHTS:
        return 0
    with torch.no_grad():
        for layer in layers:
            layer.cpu_linear = _computed_by(packed_product(layer.weight))
    return len(layers)


def _computed_by(product: Callable[[Tensor, Tensor | None], Tensor]) -> Callable[[Tensor, Any, Tensor | None], Tensor]:
    return lambda states, weight, bias: product(states, bias)


def _is_linear(module: Any) -> bool:
    weight = getattr(module, "weight", None)
    return (
        hasattr(module, "cpu_linear")
        and not getattr(module, "_cpu_skip_gemm_dispatch", False)
        and isinstance(weight, Tensor)
        and weight.dim() == 2
        and weight.dtype in (torch.float32, torch.bfloat16)
    )
