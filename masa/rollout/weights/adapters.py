"""Whether an engine samples with LoRA's adapters beside the base model, or with both merged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from masa.config import ConfigError
from masa.model.lora import adapter_settings, adapts_experts, has_adapters
from masa.model.sharded import is_sharded
from masa.model.weights import adapter_weights

if TYPE_CHECKING:
    from masa.config.schema import RolloutSection

# The ranks that vLLM makes room for.
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


class AdapterError(RuntimeError):
    """An engine cannot sample with these adapters; the message says why."""


def vllm_takes_adapters(section: RolloutSection, model: nn.Module) -> bool:
    """Whether vLLM is to be given the base model once and then adapters, as far as can be said before it starts.

    Raises:
        ConfigError: ``rollout.lora`` asks for adapters, and they are not possible.
    """
    if section.lora == "merged" or not has_adapters(model):
        return False
    reason = _why_merged(section, model)
    if reason is not None and section.lora == "adapter":
        raise ConfigError(f"rollout.lora: found adapter, allowed here: auto, merged; {reason}")
    return reason is None


def servers_take_adapters(section: RolloutSection, model: nn.Module, *, in_files: bool) -> bool:
    """Whether vLLM's servers are to be given the base model once and then adapters.

    Args:
        section: the configuration of rollouts.
        model: the policy.
        in_files: whether weights go to the servers through files.

    Raises:
        ConfigError: ``rollout.lora`` asks for adapters, and they are not possible.
    """
    if not vllm_takes_adapters(section, model):
        return False
    if section.servers or not in_files:
        if section.lora == "adapter":
            raise ConfigError(
                "rollout.lora: found adapter, allowed here: auto, merged; servers take adapters where they are started "
                "by the run and weights go through files (rollout.weight_transfer)"
            )
        return False
    return True


def _why_merged(section: RolloutSection, model: Any) -> str | None:
    if section.sleep_level == 2:
        return "with rollout.sleep_level=2 all weights are sent after every step anyway"
    if model.peft_config["default"].r > _RANKS[-1]:
        return f"vLLM takes ranks up to {_RANKS[-1]}"
    if any(name.endswith(("experts", ".experts")) for name, _ in model.named_modules()):
        return "the layers of a mixture of experts have another layout in vLLM"
    return None


def policy_samples_itself(section: RolloutSection, model: nn.Module) -> bool:
    """Whether the `transformers` engine decodes with the policy and its adapters, in place of a merged copy.

    Raises:
        ConfigError: ``rollout.lora`` asks for adapters, and a copy is needed.
    """
    reason = None
    if section.async_steps:
        reason = "rollout.async_steps needs weights that stay as they are while the policy learns"
    elif is_sharded(model):
        reason = "ZeRO 3 leaves no process whole weights to sample with"
    elif adapts_experts(model):
        reason = "all experts would be merged again for every token"
    if reason is not None and section.lora == "adapter" and has_adapters(model):
        raise ConfigError(f"rollout.lora: found adapter, allowed here: auto, merged; {reason}")
    return reason is None and section.lora != "merged"


def adapter_arguments(model: nn.Module) -> dict[str, Any]:
    """Arguments of vLLM's engine that make room for one adapter of the model's rank."""
    rank = adapter_settings(model)["r"]
    return {
        "enable_lora": True,
        "max_loras": 1,
        "max_cpu_loras": 1,
        "max_lora_rank": next(one for one in _RANKS if one >= rank),
    }


def copied_adapters(model: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """Copies, on the CPU and in the engine's type, of the adapters; all processes must call it together."""
    return {name: tensor.to("cpu", dtype, copy=True) for name, tensor in adapter_weights(model)}


def scaled_adapters(model: nn.Module, dtype: torch.dtype) -> list[Tensor]:
    """The adapters as vLLM computes with them: in its type, the second matrix times alpha / rank."""
    settings = adapter_settings(model)
    scaling = settings["lora_alpha"] / settings["r"]
    found = copied_adapters(model, dtype)
    return [tensor * scaling if ".lora_B." in name and scaling != 1 else tensor for name, tensor in found.items()]
