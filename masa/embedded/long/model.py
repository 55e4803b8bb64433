"""The long world's policy: Qwen3 with three layers, a little over a million parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from masa.embedded.model import fresh_model, small_qwen3

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM


def long_config(tokenizer: PreTrainedTokenizerFast) -> Qwen3Config:
    """Few and wide layers: on a CPU a layer's fixed cost weighs more than its width."""
    return small_qwen3(tokenizer, hidden_size=192, intermediate_size=448, num_hidden_layers=3, head_dim=48)


def fresh_policy(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """An untrained policy in float32 whose weights depend on ``seed`` alone."""
    return fresh_model(long_config(tokenizer), seed)
