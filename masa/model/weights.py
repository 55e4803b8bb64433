"""The policy's parameters as an engine knows them, one after the other: never a second full copy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from masa.model.buffers import persistent_buffers

Weights: TypeAlias = nn.Module | Iterable[tuple[str, Tensor]]
"""What engines are given: a policy, or its full parameters under their names, one after the other."""

# What wrappers put before or into a parameter's name.
_PREFIXES = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "base_model.model.")
_ADAPTER_MARKS = (".lora_A.", ".lora_B.", ".lora_embedding_A.", ".lora_embedding_B.", ".lora_magnitude_vector.")


def policy_weights(
    model: nn.Module, *, bucket_bytes: int = 512 * 2**20, merged: bool = True
) -> Iterator[tuple[str, Tensor]]:
    """Full parameters and persistent buffers under the names of the plain model, whatever wraps or shards it.

    Works on a plain module and on what DDP, ZeRO 1 to 3, FSDP 2 (`DTensor`) and LoRA make of it. Sharded parameters
    are gathered ``bucket_bytes`` at a time and given back before the next are gathered, so they must be used as they
    come; all processes must iterate together. Adapters of LoRA are merged into the tensor that is yielded, never into
    the model; with ``merged`` false they are left out. Tied parameters come once. Buffers come last.
    """
    adapted = _adapted_parameters(model) if merged else {}
    for bucket in _buckets(
        ((name, one) for name, one in model.named_parameters() if not _is_adapter(name)), bucket_bytes
    ):
        adapters = [one for name, _ in bucket for layer in adapted.get(name, []) for one in _adapter_parameters(layer)]
        with torch.no_grad(), _gathered([parameter for _, parameter in bucket] + adapters):
            for name, parameter in bucket:
                tensor = _full(parameter.detach())
                for layer in adapted.get(name, []):
                    tensor = (tensor + _adapter_change(layer)).to(tensor.dtype)
                yield plain_name(name), tensor
    for name, buffer in persistent_buffers(model).items():
        yield plain_name(name), buffer


def weight_sizes(model: nn.Module) -> Iterator[int]:
    """The bytes of each tensor of `policy_weights`, in its order; nothing is gathered."""
    for name, one in model.named_parameters():
        if not _is_adapter(name):
            yield int(getattr(one, "ds_numel", one.numel())) * one.element_size()
    for buffer in persistent_buffers(model).values():
        yield buffer.nbytes


def adapter_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The adapters of LoRA, whole and in their own type, under the names that peft saves them under.

    None where the model has no adapters. All processes must iterate together.
    """
    adapters = ((name, one) for name, one in model.named_parameters() if _is_adapter(name))
    for bucket in _buckets(adapters, 2**26):
        with torch.no_grad(), _gathered([parameter for _, parameter in bucket]):
            for name, parameter in bucket:
                plain = without_wrappers(name).replace(".default.", ".")
                yield f"base_model.model.{plain}", _full(parameter.detach())


def named_tensors(weights: Weights) -> Iterable[tuple[str, Tensor]]:
    """Full parameters under the names of the plain model, from either form of `Weights`."""
    return policy_weights(weights) if isinstance(weights, nn.Module) else weights


def parameter_shapes(model: object) -> dict[str, tuple[int, ...]]:
    """The full shape of every parameter, sharded or not; none of what is no module."""
    parameters = model.named_parameters() if isinstance(model, nn.Module) else ()
    return {name: tuple(getattr(one, "ds_shape", one.shape)) for name, one in parameters}


def has_transposed_matrices(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a model stores matrices as ``[inputs, outputs]`` (GPT-2's ``Conv1D``), the other way round than linear
    layers, and so than vLLM: a bias has as many elements as there are outputs.

    Args:
        shapes: of a model's parameters, by name.
    """
    for name, shape in shapes.items():
        bias = shapes.get(f"{name.removesuffix('weight')}bias", ()) if name.endswith(".weight") else ()
        if len(shape) == 2 and len(bias) == 1 and shape[1] == bias[0] != shape[0]:
            return True
    return False


def plain_name(name: str) -> str:
    """A parameter's name in the model before anything wrapped it."""
    name = without_wrappers(name)
    # Of a module with several adapted parameters peft wraps each, one around the other.
    while ".base_layer." in name:
        name = name.replace(".base_layer.", ".")
    return name


def without_wrappers(name: str) -> str:
    """A parameter's name in the model that adapters were put into, before anything else wrapped it."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return (
        name.replace("_orig_mod.", "").replace("_fsdp_wrapped_module.", "").replace("_checkpoint_wrapped_module.", "")
    )


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


def _is_adapter(name: str) -> bool:
    return any(mark in f"{name}." for mark in _ADAPTER_MARKS)


def _adapted_parameters(model: nn.Module) -> dict[str, list[Any]]:
    """The layers of peft that change a parameter, by the parameter's full name."""
    found: dict[str, list[Any]] = {}
    for name, module in model.named_modules():
        if not hasattr(module, "base_layer") or not hasattr(module, "lora_A"):
            continue
        inner, path = module, f"{name}." if name else ""
        while hasattr(inner, "base_layer"):
            inner, path = inner.base_layer, f"{path}base_layer."
        found.setdefault(f"{path}{getattr(module, 'parameter_name', 'weight')}", []).append(module)
    return found


def _adapter_parameters(layer: Any) -> list[nn.Parameter]:
    return [one for part in (layer.lora_A, layer.lora_B) for one in part.parameters()]


def _adapter_change(layer: Any) -> Tensor:
    """What a layer's active adapters add to its weight, computed as peft merges it."""
    changes = [layer.get_delta_weight(name) for name in layer.active_adapters if name in layer.scaling]
    return torch.stack(changes).sum(0) if changes else torch.zeros(())
