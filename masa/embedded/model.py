"""The embedded policies' architecture: Qwen3, shrunk to a million parameters or less."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM


def embedded_config(tokenizer: PreTrainedTokenizerFast) -> Qwen3Config:
    """Four layers of width 128 with grouped queries and a tied head; positions up to 4096."""
    return small_qwen3(tokenizer, hidden_size=128, intermediate_size=384, num_hidden_layers=4, head_dim=32)


def small_qwen3(
    tokenizer: PreTrainedTokenizerFast,
    *,
    hidden_size: int,
    intermediate_size: int,
    num_hidden_layers: int,
    head_dim: int,
) -> Qwen3Config:
    """What the embedded policies have in common, for ``tokenizer``, with these widths and layers."""
    from transformers import Qwen3Config

    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_hidden_layers,
        head_dim=head_dim,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        attention_dropout=0.0,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def fresh_policy(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """An untrained policy in float32 whose weights depend on ``seed`` alone."""
    return fresh_model(embedded_config(tokenizer), seed)


def fresh_model(config: Qwen3Config, seed: int) -> Qwen3ForCausalLM:
    """An untrained model of ``config`` in float32 whose weights depend on ``seed`` alone."""
    import torch
    from transformers import Qwen3ForCausalLM

    torch.manual_seed(seed)
    return Qwen3ForCausalLM(config).float()
