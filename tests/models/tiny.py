"""A tiny random model of every family of causal language models that the installed transformers has."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from masa.embedded import DATA_DIRECTORY

VOCABULARY = 96
WINDOW = 8
_LARGEST = 5_000_000

# Sizes by the names that configurations give them; only those that a family has are set.
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size": 64,
    "n_embd": 64,
    "d_model": 64,
    "intermediate_size": 96,
    "ffn_dim": 96,
    "ffn_hidden_size": 96,
    "decoder_ffn_dim": 96,
    "n_inner": 96,
    "d_ff": 96,
    "num_hidden_layers": 2,
    "n_layer": 2,
    "num_layers": 2,
    "decoder_layers": 2,
    "n_layers": 2,
    "num_attention_heads": 4,
    "n_head": 4,
    "num_heads": 4,
    "n_heads": 4,
    "decoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "global_head_dim": 16,
    "rotary_dim": 8,
    "max_position_embeddings": 256,
    "n_positions": 256,
    "n_ctx": 256,
    "max_seq_len": 256,
    "sliding_window": WINDOW,
    "window_size": WINDOW,
    "attention_chunk_size": WINDOW,
    "attention_window": WINDOW,
    "word_embed_proj_dim": 64,
    "dim": 64,
    "attention_hidden_size": 64,
    "lru_width": 64,
    "expand_ratio": 2,
    "ffn_config": {"ffn_hidden_size": 96, "moe_num_experts": 4, "moe_top_k": 2},
    # Mixtures of experts.
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "num_experts_per_token": 2,
    "top_k_experts": 2,
    "moe_topk": 2,
    "moe_k": 2,
    "moe_intermediate_size": 32,
    "expert_ffn_hidden_size": 32,
    "shared_expert_intermediate_size": 32,
    "moe_shared_expert_intermediate_size": 32,
    "shared_intermediate_size": 32,
    "n_shared_experts": 1,
    "num_shared_experts": 1,
    "first_k_dense_replace": 1,
    "num_dense_layers": 1,
    "n_group": 1,
    "topk_group": 1,
    # Latent attention.
    "q_lora_rank": 32,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "index_topk": 16,
    "index_n_heads": 2,
    "index_head_dim": 16,
    # Linear attention, state spaces and convolutions.
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "mamba_d_ssm": 64,
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_head_dim": 16,
    "mamba_num_heads": 8,
    "mamba_d_state": 16,
    "mamba_n_groups": 1,
    "mamba_ngroups": 1,
    "n_mamba_heads": 2,
    "n_groups": 1,
    "state_size": 16,
    "ssm_state_size": 16,
    "chunk_size": 16,
    "mamba_chunk_size": 16,
    "time_step_rank": 4,
    "mamba_dt_rank": 4,
    "hidden_size_per_layer_input": 16,
    "num_kv_shared_layers": 0,
    "laurel_rank": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# What the sizes above do not say of single families.
_FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"]},
    "qwen3_5_text": {"layer_types": ["linear_attention", "full_attention"]},
    "qwen3_5_moe_text": {"layer_types": ["linear_attention", "full_attention"]},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "gemma3_text": {"layer_types": ["sliding_attention", "full_attention"]},
    "gemma4_text": {"layer_types": ["sliding_attention", "full_attention"], "hidden_size_per_layer_input": 0},
    "gpt_oss": {"layer_types": ["sliding_attention", "full_attention"]},
    "gemma3n_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "activation_sparsity_pattern": [0.0, 0.0],
        "intermediate_size": [96, 96],
        "hidden_size_per_layer_input": 16,
    },
    "olmo3": {"layer_types": ["sliding_attention", "full_attention"]},
    "qwen2": {"use_sliding_window": False},
    "qwen3": {"use_sliding_window": False},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "llama4_text": {"layer_types": ["chunked_attention", "full_attention"], "interleave_moe_layer_step": 1},
    "falcon_h1": {"mamba_n_heads": 4},
    "mamba2": {"head_dim": 16, "num_heads": 8},
    "zamba": {"num_hidden_layers": 2, "layers_block_type": ["mamba", "hybrid"], "use_mamba_kernels": False},
    "zamba2": {"num_hidden_layers": 2, "layers_block_type": ["mamba", "hybrid"], "hybrid_layer_ids": [1]},
    "zaya": {"num_experts_per_tok": 1},
    "kimi_linear": {"num_hidden_layers": 2},
    "xmod": {"default_language": "en_XX"},
    "reformer": {"is_decoder": True, "axial_pos_embds": False},
    "xlm": {"emb_dim": 64},
    "roc_bert": {"pronunciation_vocab_size": 96, "shape_vocab_size": 96},
    "cohere_compass_text": {"layer_types": ["sliding_attention", "full_attention"]},
    "falcon": {"num_kv_heads": 4},
}


def families() -> list[str]:
    """The model types for which `AutoModelForCausalLM` has a class."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def tiny_config(family: str, **changes: Any) -> PreTrainedConfig:
    """The configuration of a family with about two layers of width 64 and a sliding window of 8 tokens.

    A configuration that holds a text model's is made small in all its parts.
    """
    kind = CONFIG_MAPPING[family]
    values = _tiny_values(kind(), family)
    return kind(**{**values, **changes})


def _tiny_values(default: PreTrainedConfig, family: str) -> dict[str, Any]:
    inner = getattr(default, "text_config", None)
    if isinstance(inner, PreTrainedConfig):
        parts = {"text_config": _tiny_values(inner, inner.model_type)}
        vision = getattr(default, "vision_config", None)
        if isinstance(vision, PreTrainedConfig):
            parts["vision_config"] = _tiny_vision(vision)
        return parts
    values = {name: value for name, value in _SIZES.items() if _is_set(default, name)}
    if "kv_lora_rank" in values:  # latent attention: heads have no one width
        values = {**values, "num_key_value_heads": 4}
        values.pop("head_dim", None)
    return {**values, **_FAMILIES.get(family, {})}


def _is_set(default: PreTrainedConfig, name: str) -> bool:
    if name == "ffn_config":
        return isinstance(getattr(default, name, None), PreTrainedConfig | dict)
    return name in default.to_dict() and name not in getattr(default, "attribute_map", {})


def _tiny_vision(default: PreTrainedConfig) -> dict[str, Any]:
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "depth": 1,
        "num_attention_heads": 2,
        "num_heads": 2,
        "image_size": 28,
        "patch_size": 14,
        "head_dim": 16,
        "out_hidden_size": 64,
    }
    return {name: value for name, value in sizes.items() if name in default.to_dict()}


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
