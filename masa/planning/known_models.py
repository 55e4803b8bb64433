"""Public numbers of the recipes' models, for a machine that can reach neither the hub nor a copy."""

from __future__ import annotations

from typing import Any

# config.json of Qwen/Qwen3-*-Base: hidden size, MLP width, layers, heads, tied; all have 8 key-value heads of 128.
_QWEN3 = {
    "Qwen/Qwen3-4B-Base": (2560, 9728, 36, 32, True),
    "Qwen/Qwen3-8B-Base": (4096, 12288, 36, 32, False),
    "Qwen/Qwen3-14B-Base": (5120, 17408, 40, 40, False),
}


def known_config(path: str) -> Any:
    """The configuration of a model of the recipes, None for any other."""
    if path not in _QWEN3:
        return None
    from transformers import Qwen3Config

    hidden, intermediate, layers, heads, tied = _QWEN3[path]
    return Qwen3Config(
        vocab_size=151936,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=32768,
        tie_word_embeddings=tied,
    )
