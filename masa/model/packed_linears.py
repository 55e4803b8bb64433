"""Linear layers on a CPU, computed by oneDNN from packed copies of their weights.

What torch calls for float32 matrices on a CPU (`masa.model.cpu_products`) lays a weight out for each product. oneDNN
takes weights that were laid out once. The copies are made again when weights change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from masa.config import ConfigError
from masa.model.cpu_products import LEAST_WEIGHTS, linear_product, plain_linears, products_are_known

# Rows of a product that weights are laid out for; products of fewer and of more rows use the same copies.
_ROWS = 64


def packing_is_known() -> bool:
    """Whether this build of torch packs weights for oneDNN on this processor."""
    return products_are_known() and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


def has_bfloat16_products() -> bool:
    """Whether this processor multiplies bfloat16 numbers itself; others convert them, which is slower than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported())


Product = Callable[[Tensor, Tensor | None], Tensor]
"""States ``[..., in]`` and a bias ``[out]`` to ``[..., out]``."""


def packed_product(weight: Tensor) -> Product:
    """The product with a copy of ``weight`` ``[out, in]``, packed in its own type."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), _ROWS)

    return lambda states, bias: linear_product(states, packed, bias)


def packed_linears(model: nn.Module, dtype: torch.dtype | None = None) -> PackedLinears | None:
    """The layers of ``model`` to be packed; None where packing is not known here, or would gain nothing.

    Raises:
        ConfigError: products in bfloat16 are asked for, and this machine has none.
    """
    on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
    wanted = dtype is not None and dtype != _dtype_of(model)
    if wanted and not (on_cpu and packing_is_known() and has_bfloat16_products()):
        raise ConfigError(
            f"rollout.dtype: found {str(dtype).removeprefix('torch.')}, allowed for the engine transformers here: "
            "policy; products in bfloat16 need a processor with AVX512_BF16, and a policy on the CPU"
        )
    if not on_cpu or not packing_is_known() or _dtype_of(model) not in (torch.float32, torch.bfloat16):
        return None
    layers = PackedLinears(model, dtype)
    return layers if wanted or layers.weights >= LEAST_WEIGHTS else None


def _dtype_of(model: nn.Module) -> torch.dtype:
    return next(model.parameters()).dtype


class PackedLinears:
    """The linear layers of ``model`` with packed copies of their weights.

    Layers that something else has taken over (a forward of their own) stay as they are.

    Args:
        model: on a CPU, in float32 or bfloat16.
        dtype: the type of the copies, and of the products; states are converted to it and back. The output head keeps
            the model's own, as a logit in bfloat16 is off by up to 0.4 % of itself. None: the model's own everywhere.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype | None = None) -> None:
        own: Any = model
        self._head = own.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
        self._dtype = dtype
        self._layers = plain_linears(model)
        self._forwards: dict[nn.Linear, Callable[[Tensor], Tensor]] = {}
        self._seen: dict[nn.Linear, tuple[int, int]] = {}

    @property
    def weights(self) -> int:
        """How many weights the layers have."""
        return sum(layer.weight.numel() for layer in self._layers)

    def forget(self) -> None:
        """Weights have changed: pack them again before the next use."""
        self._seen.clear()

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within the block the layers compute with their packed copies; nothing learns from it."""
        with torch.no_grad():
            self._pack()
        try:
            for layer in self._layers:
                layer.forward = self._forwards[layer]  # type: ignore[method-assign, assignment]
            yield
        finally:
            for layer in self._layers:
                vars(layer).pop("forward", None)

    def _pack(self) -> None:
        for layer in self._layers:
            seen = (layer.weight.data_ptr(), layer.weight._version)
            if self._seen.get(layer) != seen:
                self._forwards[layer] = self._packed(layer)
                self._seen[layer] = seen

    def _packed(self, layer: nn.Linear) -> Callable[[Tensor], Tensor]:
        own = layer.weight.dtype
        dtype = own if self._dtype is None or layer is self._head else self._dtype
        bias = None if layer.bias is None else layer.bias.detach().to(dtype)
        product = packed_product(layer.weight.to(dtype))
        if dtype == own:
            return lambda states: product(states, bias)
        return lambda states: product(states.to(dtype), bias).to(own)
