"""Policies small enough for tests."""

from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

_SHAPE = {
    "vocab_size": 61,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "bos_token_id": None,
}


def small_qwen3(*, seed: int = 0, **changes: Any) -> Any:
    """A random Qwen3 in float32, the same for the same ``seed``; ``changes`` are of its configuration."""
    torch.manual_seed(seed)
    return Qwen3ForCausalLM(Qwen3Config(**{**_SHAPE, **changes})).float().eval()
