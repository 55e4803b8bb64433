"""Matrix products in float32 on a CPU by oneDNN, where torch would call MKL.

MKL does not use AVX-512 on processors of every make; on those that it leaves at AVX2 oneDNN is twice as fast, on others
about as fast. Small products stay torch's: there the call costs more than the arithmetic.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Products of fewer multiplications are torch's.
_LEAST_MULTIPLICATIONS = 2**31
# Below this many weights in linear layers the work of a model is mostly not in its products.
LEAST_WEIGHTS = 2**24


def products_are_known() -> bool:
    """Whether this build of torch has oneDNN's products, for this processor."""
    mkldnn: Any = torch.backends.mkldnn
    x86 = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return x86 and bool(mkldnn.is_available()) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right`` of two matrices of one type; nothing differentiates it."""
    return linear_product(left, right.t(), None) if _is_large(left, right) else left @ right


def add_product(target: Tensor, left: Tensor, right: Tensor) -> None:
    """Add ``left @ right`` to ``target``, all of one type; nothing differentiates it."""
    if _is_large(left, right):
        target.add_(linear_product(left, right.t(), None))
    else:
        target.addmm_(left, right)


def linear_product(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """oneDNN's product of states ``[..., in]`` with a weight ``[out, in]``, plain or packed; any strides."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")
    return found


def plain_linears(model: nn.Module) -> list[nn.Linear]:
    """The linear layers that compute their product and nothing else; those with a forward of their own do more."""
    return [
        layer
        for layer in model.modules()
        if isinstance(layer, nn.Linear) and _is_plain(layer) and "forward" not in vars(layer)
    ]


def use_cpu_products(model: nn.Module) -> int:
    """Have ``model``'s linear layers computed by `CpuLinear`; how many there are (none where it would gain nothing)."""
    layers = plain_linears(model)
    ours = all(_is_ours(layer.weight) for layer in layers) and products_are_known()
    if not ours or sum(layer.weight.numel() for layer in layers) < LEAST_WEIGHTS:
        return 0
    for layer in layers:
        layer.__class__ = CpuLinear
    return len(layers)


class CpuLinear(nn.Linear):
    """A linear layer whose products, forward and backward, are oneDNN's."""

    def forward(self, input: Tensor) -> Tensor:
        # Weights that DeepSpeed gathers for a moment (ZeRO 3) are not there when the backward pass wants them.
        if not _is_ours(input) or not _is_ours(self.weight) or hasattr(self.weight, "ds_id"):
            return super().forward(input)
        found: Tensor = _Linear.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return found


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(states, weight)
        return linear_product(states, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        states, weight = ctx.saved_tensors
        need_states, need_weight, need_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, weight.shape[0])
        return (
            linear_product(rows, weight.t(), None).view(states.shape) if need_states else None,
            linear_product(rows.t(), states.reshape(-1, weight.shape[1]).t(), None) if need_weight else None,
            rows.sum(0) if need_bias else None,
        )


def _is_plain(layer: nn.Linear) -> bool:
    return type(layer) in (nn.Linear, CpuLinear)


def _is_large(left: Tensor, right: Tensor) -> bool:
    large = left.numel() * right.shape[1] >= _LEAST_MULTIPLICATIONS
    return large and _is_ours(left) and products_are_known()


def _is_ours(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32
