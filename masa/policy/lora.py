"""LoRA through peft: adapters inside the policy's own linear layers, so that everything else sees the same model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from masa.config import ConfigError
from masa.config.schema import LoraSection

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CONFIG = "peft_config"
ADAPTER_FOLDER = "adapter"


def add_adapters(model: PreTrainedModel, section: LoraSection) -> None:
    """Put adapters into ``model`` and freeze all else; does nothing where ``model.lora.rank`` is 0.

    There is no dropout: training's log-probs must be those of the policy that sampled.

    Raises:
        ConfigError: peft is not installed, or no layer has the names asked for.
    """
    if not section.rank:
        return
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ConfigError(
            f"model.lora.rank: found {section.rank}, allowed without peft: 0; install masa[lora]"
        ) from None
    targets = section.targets or _linear_layers(model)
    config = LoraConfig(
        r=section.rank, lora_alpha=section.alpha, target_modules=targets, lora_dropout=0.0, task_type="CAUSAL_LM"
    )
    try:
        # The same start on every process and in a resumed run.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            inject_adapter_in_model(config, model)
    except ValueError as error:
        raise ConfigError(
            f"model.lora.targets: found {section.targets}, allowed: names of {_linear_layers(model)}"
        ) from error
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_" in name:
            parameter.data = parameter.data.float()  # what is trained, unlike what is frozen, needs the precision
    setattr(model, _CONFIG, {"default": config})


def has_adapters(model: nn.Module) -> bool:
    """Whether `add_adapters` put adapters into ``model``."""
    return hasattr(model, _CONFIG)


def save_adapters(model: PreTrainedModel, folder: Path) -> None:
    """Write the adapters to ``folder/adapter``, as peft loads them beside the base model, where there are any."""
    if not has_adapters(model):
        return
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    target = folder / ADAPTER_FOLDER
    target.mkdir()
    config: Any = getattr(model, _CONFIG)["default"]
    config.save_pretrained(target)
    untyped: Any = model
    state = get_peft_model_state_dict(untyped, save_embedding_layers=False)
    # peft keeps its adapters under the name of the wrapper it would put around the model.
    save_file(
        {f"base_model.model.{name}": tensor.detach().cpu().contiguous() for name, tensor in state.items()},
        target / "adapter_model.safetensors",
    )


def _linear_layers(model: PreTrainedModel) -> list[str]:
    """Last names of all linear layers but the head."""
    untyped: Any = model
    head = untyped.get_output_embeddings()
    names = {
        name.rsplit(".", 1)[-1]
        for name, module in untyped.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }
    return sorted(names)
