"""A tiny random model of every family of causal language models that the installed transformers has."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from sizes import FAMILIES, KINDS_OF_LAYERS, NEEDED, OTHER_PARTS, SIZES, WIDE_HEADS
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from masa.embedded import DATA_DIRECTORY

_LARGEST = 5_000_000


def families() -> list[str]:
    """The model types for which `AutoModelForCausalLM` has a class."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def tiny_config(family: str, **changes: Any) -> PreTrainedConfig:
    """The configuration of a family with about two layers of width 64 and a sliding window of 8 tokens.

    A configuration that holds a text model's is made small in all its parts.
    """
    kind = CONFIG_MAPPING[family]
    needed = NEEDED.get(family)
    # Configurations take dictionaries that they are given apart.
    values = copy.deepcopy(needed) if needed else _tiny_values(kind(), family)
    return kind(**copy.deepcopy({**values, **changes}))


def _tiny_values(default: PreTrainedConfig, family: str) -> dict[str, Any]:
    parts = {
        name: _tiny_part(part)
        for name in ("vision_config", "audio_config")
        if isinstance(part := getattr(default, name, None), PreTrainedConfig)
    }
    inner = getattr(default, "text_config", None)
    if isinstance(inner, PreTrainedConfig):
        return {"text_config": _tiny_values(inner, inner.model_type), **parts, **FAMILIES.get(family, {})}
    values = {**{name: value for name, value in SIZES.items() if _is_set(default, name)}, **_kinds_of_layers(default)}
    if "kv_lora_rank" in values:  # latent attention: heads have no one width
        values = {**values, "num_key_value_heads": 4}
        values.pop("head_dim", None)
    return {**values, **parts, **FAMILIES.get(family, {})}


def kinds(config: PreTrainedConfig, name: str) -> list[str]:
    """The kinds of layers that a configuration names, each once; none where it names none or only one."""
    named = getattr(config, name, None)
    found = list(dict.fromkeys(named)) if isinstance(named, list | tuple) else []
    return found if len(found) > 1 and all(isinstance(one, str) for one in found) else []


def _kinds_of_layers(default: PreTrainedConfig) -> dict[str, Any]:
    """One layer of each kind that the family has: of many, as its own sizes have, few kinds would be among two."""
    known = default.to_dict()
    of_each = {name: found for name in KINDS_OF_LAYERS if name in known and (found := kinds(default, name))}
    count = max(2, *map(len, of_each.values())) if of_each else 2
    # Where attention is of one kind and blocks behind it of several, the last kind is repeated.
    filled = {name: (found + found[-1:] * count)[:count] for name, found in of_each.items()}
    return {**filled, "num_hidden_layers": count} if filled and "num_hidden_layers" in known else filled


def _is_set(default: PreTrainedConfig, name: str) -> bool:
    if name == "ffn_config":
        return isinstance(getattr(default, name, None), PreTrainedConfig | dict)
    return name in default.to_dict() and name not in getattr(default, "attribute_map", {})


def _tiny_part(default: PreTrainedConfig) -> dict[str, Any]:
    return {name: value for name, value in OTHER_PARTS.items() if name in default.to_dict()}


def tiny_model(family: str, *, seed: int = 0, attention: str | None = None, **changes: Any) -> PreTrainedModel:
    """A float32 model of `tiny_config` with random matrices, far enough from uniform that mistakes show.

    Random are buffers as well where they are saved with a model (router biases, layer scalars).
    """
    config = tiny_config(family, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with torch.device("meta"):
            size = sum(one.numel() for one in _made(config, attention).parameters())
        if size > _LARGEST:
            raise ValueError(f"it has {size:,} parameters at the smallest sizes known here")
        model = _made(config, attention)
        saved = model.state_dict()
        parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() >= 2:
                    parameter.normal_(0.0, 0.15)
                elif not bool(parameter.any()):
                    parameter.normal_(0.0, 0.05)
            for name, buffer in saved.items():
                if name not in parameters and buffer.is_floating_point():
                    buffer.add_(torch.rand_like(buffer).mul_(0.3))
    return model


def _made(config: PreTrainedConfig, attention: str | None) -> PreTrainedModel:
    choices = [attention] if attention else ["sdpa", "eager"]
    for choice in choices:
        try:
            model = AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation=choice)
        except ValueError as error:
            if "scaled_dot_product_attention" in str(error) and choice != choices[-1]:
                continue
            raise
        return model.float().eval()
    raise AssertionError


def with_wide_heads(family: str) -> dict[str, Any]:
    """Changes of `tiny_config` that make heads 32 wide, the least that vLLM's attention on a CPU takes."""
    default = CONFIG_MAPPING[family]()
    inner = getattr(default, "text_config", None)
    text = inner if isinstance(inner, PreTrainedConfig) else default
    values = _tiny_values(text, text.model_type)
    if "kv_lora_rank" in values:  # latent attention has widths of its own
        return {}
    if "state_size" in values and "num_attention_heads" not in values:  # the heads of a state space are no attention's
        return {}
    changes = {name: value for name, value in WIDE_HEADS.items() if name in values}
    return changes if text is default else {"text_config": {**values, **changes}}


def tiny_folder(family: str, folder: Path, **changes: Any) -> Path:
    """A folder with a tiny model of a family and the embedded policy's tokenizer, as `transformers` saves them."""
    tokenizer = AutoTokenizer.from_pretrained(str(DATA_DIRECTORY))
    vocabulary = len(tokenizer) + 3
    config = tiny_config(family)
    size = {"vocab_size": vocabulary, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    if isinstance(getattr(config, "text_config", None), PreTrainedConfig):
        text = {**_tiny_values(config.text_config, config.text_config.model_type), **size}
        changes = {"text_config": text, **changes}
    else:
        changes = {**size, **changes}
    model = tiny_model(family, **changes)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
