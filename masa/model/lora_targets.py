"""Which layers of a model LoRA adapts: linear layers by name, and the experts' fused parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from masa.config import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Where configurations of mixtures of experts say how many there are.
_EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
# Matrices of an expert's checkpoint that `transformers` makes one parameter of.
_FUSED = {frozenset({"gate_proj", "up_proj"}): "gate_up_proj", frozenset({"w1", "w3"}): "gate_up_proj"}


@dataclass(frozen=True)
class LoraTargets:
    """Full names within the model.

    ``modules`` are linear layers and ``experts`` parameters, of three dimensions, that hold the matrices of all experts
    of a layer: those that have adapters. ``all_experts`` are all such parameters of the model.
    """

    modules: tuple[str, ...]
    experts: tuple[str, ...] = ()
    all_experts: tuple[str, ...] = ()
    transposed: bool = False
    """Whether the linear layers hold their weights as (in, out), as GPT-2's do."""


def lora_targets(model: PreTrainedModel, wanted: Sequence[str], *, with_experts: bool = True) -> LoraTargets:
    """What adapters are put on: all that can have one, or those of them that ``wanted`` names.

    Only the part of the model that reads text counts (no vision or audio towers), and of it what is trained. The head
    and layers that share their weight with another have no adapters: merging one would change the other. Nor have
    layers of a state-space mixer whose weights its kernels read without calling the layer. Routers choose among
    experts, so that their gradient is that of a few chosen ones; they have adapters where they are named.

    Args:
        model: the policy, without adapters.
        wanted: last parts of names, such as ``q_proj`` or ``gate_up_proj``; empty: all but routers.
        with_experts: whether ``wanted``, where it is empty, stands for the experts' parameters too.

    Raises:
        ConfigError: a name that is nothing to adapt.
    """
    linear = _linear_layers(model)
    experts = _expert_parameters(model)
    if not wanted:
        modules = tuple(name for name in linear if not _is_router(model, name))
        chosen = experts if with_experts else ()
    else:
        asked = _as_the_model_names_them(set(wanted), linear, experts)
        modules = tuple(name for name in linear if asked & _endings(name))
        chosen = tuple(name for name in experts if asked & _endings(name))
        named = {ending for name in (*modules, *chosen) for ending in _endings(name)}
        if missing := sorted(asked - named):
            raise ConfigError(
                f"model.lora.targets: found {missing}, allowed: names of {sorted({_last(one) for one in linear})}"
                + (f" and, in the experts, {sorted({_last(one) for one in experts})}" if experts else "")
            )
    if not modules and not chosen:
        raise ConfigError("model.lora.rank: found a rank, allowed: 0; the model has no linear layer that is trained")
    return LoraTargets(modules, chosen, experts, _transposed(model, modules))


def _as_the_model_names_them(wanted: set[str], linear: Sequence[str], experts: Sequence[str]) -> set[str]:
    """``wanted`` where gate and up projection are two of a checkpoint's matrices, and one of the model's."""
    for pair, fused in _FUSED.items():
        if pair <= wanted and any(_last(name) == fused for name in experts):
            wanted = {one for one in wanted if one not in pair or any(_last(name) == one for name in linear)} | {fused}
    return wanted


def short_names(chosen: Iterable[str], everything: Iterable[str]) -> list[str]:
    """``chosen`` by their last names where those mean the same among ``everything``, else in full, as peft is told."""
    chosen = set(chosen)
    last = {_last(name) for name in chosen}
    meant = {name for name in everything if _last(name) in last}
    return sorted(last if meant == chosen else chosen)


def _expert_parameters(model: nn.Module) -> tuple[str, ...]:
    """Names of the trained parameters that hold one matrix for each expert of a layer."""
    untyped: Any = model
    text = untyped.config.get_text_config()
    counts = {int(getattr(text, name)) for name in _EXPERT_COUNTS if isinstance(getattr(text, name, None), int)}
    reached = _text_modules(model)
    return tuple(
        f"{module_name}.{name}"
        for module_name, module in model.named_modules()
        if module_name and id(module) in reached and not type(module).__module__.startswith("torch.")
        for name, parameter in module.named_parameters(recurse=False)
        if len(shape := _shape(parameter)) == 3 and shape[0] in counts and parameter.requires_grad
    )


def _linear_layers(model: PreTrainedModel) -> list[str]:
    """Names of the linear layers that can have an adapter."""
    untyped: Any = model
    head = untyped.get_output_embeddings()
    reached = _text_modules(model)
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    return [
        name
        for name, module in untyped.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and module is not head
        and id(module) in reached
        and module.weight.requires_grad
        and owners[id(module.weight)] == 1
        and not _is_read_by_a_kernel(model, name)
        and _acts_as_linear(module)
    ]


def _text_modules(model: nn.Module) -> set[int]:
    """Identities of the modules that a forward pass over text can reach."""
    untyped: Any = model
    decoder = untyped.get_decoder() if hasattr(untyped, "get_decoder") else model
    has_towers = untyped.config.get_text_config() is not untyped.config
    return {id(module) for module in (decoder if has_towers and decoder is not None else model).modules()}


@torch.no_grad()
def _acts_as_linear(layer: Any) -> bool:
    """Whether a layer does what adapters are added to: subclasses group their inputs, or return more than a product."""
    if type(layer).forward in (nn.Linear.forward, Conv1D.forward):
        return True
    inputs = torch.linspace(-1, 1, layer.in_features, dtype=layer.weight.dtype, device=layer.weight.device)[None]
    try:
        found = layer(inputs)
        plain = nn.functional.linear(inputs, layer.weight, layer.bias)
    except (RuntimeError, TypeError, ValueError):
        return False
    return isinstance(found, torch.Tensor) and found.shape == plain.shape and torch.allclose(found, plain, rtol=1e-2)


def _is_read_by_a_kernel(model: nn.Module, name: str) -> bool:
    """Whether a layer belongs to a state-space mixer (Mamba), which calls no layer but its first."""
    parent, _, last = name.rpartition(".")
    mixer = model.get_submodule(parent)
    return last != "in_proj" and hasattr(mixer, "A_log") and hasattr(mixer, "D")


def _is_router(model: nn.Module, name: str) -> bool:
    """Whether a layer stands beside experts and has one output for each of them."""
    parent = model.get_submodule(name.rpartition(".")[0])
    experts: Any = getattr(parent, "experts", None)
    if experts is None:
        return False
    layer: Any = model.get_submodule(name)
    if isinstance(experts, nn.ModuleList):
        return int(layer.out_features) == len(experts)
    counts = {_shape(one)[0] for one in experts.parameters(recurse=False) if len(_shape(one)) == 3}
    return int(layer.out_features) in counts


def _transposed(model: nn.Module, modules: Iterable[str]) -> bool:
    return any(not isinstance(model.get_submodule(name), nn.Linear) for name in modules)


def _shape(parameter: Any) -> tuple[int, ...]:
    # ZeRO 3 leaves an empty tensor in place of a sharded one, and says its shape elsewhere.
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def _endings(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[start:]) for start in range(len(parts))}


def _last(name: str) -> str:
    return name.rpartition(".")[2]
