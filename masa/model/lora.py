"""LoRA through peft: adapters inside the policy's own linear layers, so that everything else sees the same model."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from masa.config import ConfigError
from masa.config.schema import LoraSection
from masa.distributed.processes import splits_parameters
from masa.files.tensor_files import Part
from masa.model.lora_targets import LoraTargets, _linear_layers, lora_targets, short_names
from masa.model.sharded import is_sharded
from masa.model.weights import adapter_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CONFIG = "peft_config"
_TARGETS = "_masa_lora_targets"
_MARKS = (".lora_A.", ".lora_B.")
_OLD_NAMES_IN_EXPERTS = frozenset({"gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"})
_STIRRED = 0.02
ADAPTER_FOLDER = "adapter"
ADAPTER_FILE = "adapter_model.safetensors"


def require_peft(section: LoraSection) -> None:
    """Adapters are peft's.

    Raises:
        ConfigError: there are to be some, and peft is not installed.
    """
    if section.rank and importlib.util.find_spec("peft") is None:
        raise ConfigError(f"model.lora.rank: found {section.rank}, allowed without peft: 0; install masa-rl[lora]")


def add_adapters(model: PreTrainedModel, section: LoraSection) -> None:
    """Put adapters into ``model`` and freeze all else; does nothing where ``model.lora.rank`` is 0.

    There is no dropout: training's log-probs must be those of the policy that sampled.

    Raises:
        ConfigError: peft is not installed, no layer has the names asked for, or peft cannot adapt one of them.
    """
    if not section.rank:
        return
    require_peft(section)
    from peft import LoraConfig, inject_adapter_in_model

    sharded = is_sharded(model) or splits_parameters()
    targets = lora_targets(model, section.targets, with_experts=not sharded)
    if sharded and targets.experts:
        raise ConfigError(
            f"model.lora.targets: found {section.targets}, which name the experts' fused parameters; allowed under "
            "ZeRO 3: linear layers (peft rebuilds the experts from whole parameters; ZeRO 2 has them)"
        )
    config = LoraConfig(
        r=section.rank,
        lora_alpha=section.alpha,
        target_modules=short_names(targets.modules, (name for name, _ in model.named_modules())),
        target_parameters=short_names(targets.experts, (name for name, _ in model.named_parameters())) or None,
        fan_in_fan_out=targets.transposed,
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )
    try:
        # The same start on every process and in a resumed run.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            inject_adapter_in_model(config, _Holder(model))
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ConfigError(
            f"model.lora.targets: found {section.targets}, which peft cannot adapt ({error}); allowed: names of "
            f"{sorted({name.rpartition('.')[2] for name in _linear_layers(model)})}"
        ) from error
    for name, parameter in model.named_parameters():
        adapter = any(mark in name for mark in _MARKS)
        parameter.requires_grad_(adapter)
        if adapter:
            parameter.data = parameter.data.float()  # what is trained, unlike what is frozen, needs the precision
    setattr(model, _CONFIG, {"default": config})
    setattr(model, _TARGETS, targets)


def has_adapters(model: nn.Module) -> bool:
    """Whether `add_adapters` put adapters into ``model``."""
    return hasattr(model, _CONFIG)


def adapts_experts(model: nn.Module) -> bool:
    """Whether adapters are on the experts' fused parameters."""
    targets: LoraTargets | None = getattr(model, _TARGETS, None)
    return targets is not None and bool(targets.experts)


def describe_adapters(model: nn.Module) -> str | None:
    """What the adapters reach, in a line; None where there are none."""
    targets: LoraTargets | None = getattr(model, _TARGETS, None)
    if targets is None:
        return None
    config: Any = getattr(model, _CONFIG)["default"]
    names = sorted({name.rpartition(".")[2] for name in (*targets.modules, *targets.experts)})
    # ZeRO 3 leaves an empty tensor in place of a sharded one, and says its size elsewhere.
    trained = sum(int(getattr(one, "ds_numel", one.numel())) for one in model.parameters() if one.requires_grad)
    line = f"LoRA of rank {config.r} on {', '.join(names)} ({trained:,} parameters are trained)"
    if targets.all_experts:
        line += "; the experts have adapters" if targets.experts else "; the experts stay as they are, without adapters"
    return line


@contextmanager
def stirred_adapters(model: nn.Module) -> Iterator[None]:
    """Within the block the second matrices of adapters, zero before they have learned, hold small random numbers.

    The numbers are the same each time; afterwards the matrices are what they were. Without adapters nothing is done.
    Frozen ones stay zero: their layers are read without being called (routers), so that they would never do anything.
    """
    kept = {
        one: one.detach().clone()
        for name, one in model.named_parameters()
        if _MARKS[1] in f"{name}." and one.requires_grad
    }
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in kept:
            parameter.copy_(_STIRRED * torch.randn(parameter.shape, generator=generator))
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, values in kept.items():
                parameter.copy_(values)


def adapter_settings(model: nn.Module) -> dict[str, Any]:
    """Rank, alpha and targets of the adapters, as peft's configuration names them."""
    config: Any = getattr(model, _CONFIG)["default"]
    return {"r": config.r, "lora_alpha": config.lora_alpha, "target_modules": sorted(config.target_modules)}


def save_settings(model: nn.Module, folder: Path) -> None:
    """Write peft's ``adapter_config.json``.

    Beside adapted experts, peft's loader takes ``gate_proj`` and the like in ``target_modules`` for matrices of the
    experts in an older layout, also where they are layers of their own: a first dense layer, shared experts. Those are
    named by their weights, under ``target_parameters``, which leads to the same adapters.
    """
    config: Any = copy.copy(getattr(model, _CONFIG)["default"])
    targets: LoraTargets = getattr(model, _TARGETS)
    misread = []
    if targets.experts:
        misread = [name for name in targets.modules if name.rpartition(".")[2] in _OLD_NAMES_IN_EXPERTS]
    if misread:
        short = {name.rpartition(".")[2] for name in misread}
        config.target_modules = set(config.target_modules) - short - set(misread)
        config.target_parameters = sorted({*targets.experts, *(f"{name}.weight" for name in misread)})
    config.save_pretrained(folder)


def adapter_parts(model: nn.Module, writes: bool) -> Iterator[Part]:
    """The adapters as peft loads them beside the base model, where there are any, on the process that ``writes`` them.

    All processes must iterate together.
    """
    if has_adapters(model):
        for name, tensor in adapter_weights(model):
            if writes:
                yield Part(f"{ADAPTER_FOLDER}/{ADAPTER_FILE}", name, tensor)


def save_settings_beside(model: nn.Module, folder: Path) -> None:
    """Write peft's settings of the adapters to ``folder/adapter``, where there are any."""
    if has_adapters(model):
        (folder / ADAPTER_FOLDER).mkdir(exist_ok=True)
        save_settings(model, folder / ADAPTER_FOLDER)


class _Holder(nn.Module):
    """What peft is given in place of a model.

    Of a mixture of experts itself peft takes ``gate_proj`` and the like, which a first dense layer or shared experts
    have too, for names of the experts in an older layout: it adapts those, and leaves out the layers that were meant.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
