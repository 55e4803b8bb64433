"""The policy's parameters as an engine knows them, one after the other: never a second full copy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

Weights: TypeAlias = nn.Module | Iterable[tuple[str, Tensor]]
"""What engines are given: a policy, or its full parameters under their names, one after the other."""

# What wrappers put before or into a parameter's name.
_PREFIXES = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "base_model.model.")
_ADAPTER_MARKS = (".lora_A.", ".lora_B.", ".lora_embedding_A.", ".lora_embedding_B.", ".lora_magnitude_vector.")


def policy_weights(model: nn.Module, *, bucket_bytes: int = 512 * 2**20) -> Iterator[tuple[str, Tensor]]:
    """Full parameters under the names of the plain model, whatever wraps or shards it.

    Works on a plain module and on what DDP, ZeRO 1 to 3, FSDP 2 (`DTensor`) and LoRA make of it. Sharded parameters
    are gathered ``bucket_bytes`` at a time and given back before the next are gathered, so they must be used as they
    come; all processes must iterate together. Adapters of LoRA are merged into the tensor that is yielded, never into
    the model. Tied parameters come once.
    """
    layers = _adapted_layers(model)
    for bucket in _buckets(model.named_parameters(), bucket_bytes):
        adapters = [one for name, _ in bucket for one in _adapter_parameters(layers.get(_layer_of(name)))]
        with torch.no_grad(), _gathered([parameter for _, parameter in bucket] + adapters):
            for name, parameter in bucket:
                if any(mark in f"{name}." for mark in _ADAPTER_MARKS):
                    continue
                tensor = _full(parameter.detach())
                layer = layers.get(_layer_of(name))
                if layer is not None and name.endswith(".base_layer.weight"):
                    tensor = tensor + _adapter_change(layer).to(tensor.dtype)
                yield plain_name(name), tensor


def named_tensors(weights: Weights) -> Iterable[tuple[str, Tensor]]:
    """Full parameters under the names of the plain model, from either form of `Weights`."""
    return policy_weights(weights) if isinstance(weights, nn.Module) else weights


def plain_name(name: str) -> str:
    """A parameter's name in the model before anything wrapped it."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    name = (
        name.replace("_orig_mod.", "").replace("_fsdp_wrapped_module.", "").replace("_checkpoint_wrapped_module.", "")
    )
    return name.replace(".base_layer.", ".")


def _buckets(
    parameters: Iterable[tuple[str, nn.Parameter]], bucket_bytes: int
) -> Iterator[list[tuple[str, nn.Parameter]]]:
    bucket: list[tuple[str, nn.Parameter]] = []
    size = 0
    for name, parameter in parameters:
        # ZeRO 3 leaves an empty tensor in place of a sharded one, and says its size elsewhere.
        elements = int(getattr(parameter, "ds_numel", parameter.numel()))
        if bucket and size + elements * parameter.element_size() > bucket_bytes:
            yield bucket
            bucket, size = [], 0
        bucket.append((name, parameter))
        size += elements * parameter.element_size()
    if bucket:
        yield bucket


def _gathered(parameters: list[nn.Parameter]) -> AbstractContextManager[Any]:
    sharded = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    if not sharded:
        return nullcontext()
    from deepspeed import zero

    gathered: AbstractContextManager[Any] = zero.GatheredParameters(sharded)
    return gathered


def _full(tensor: Tensor) -> Tensor:
    full_tensor = getattr(tensor, "full_tensor", None)
    return tensor if full_tensor is None else full_tensor()


def _layer_of(name: str) -> str:
    """The module, up to ``.base_layer``, that a parameter belongs to."""
    return name.split(".base_layer.", 1)[0] if ".base_layer." in name else ""


def _adapted_layers(model: nn.Module) -> dict[str, Any]:
    return {name: module for name, module in model.named_modules() if name and hasattr(module, "base_layer")}


def _adapter_parameters(layer: Any) -> list[nn.Parameter]:
    if layer is None:
        return []
    return [one for part in (layer.lora_A, layer.lora_B) for one in part.parameters()]


def _adapter_change(layer: Any) -> Tensor:
    """What a layer's active adapters add to its weight, computed as peft merges it."""
    changes = [layer.get_delta_weight(name) for name in layer.active_adapters if name in layer.scaling]
    return torch.stack(changes).sum(0) if changes else torch.zeros((), device=layer.base_layer.weight.device)
