"""Models and rows of the sizes that are tried: Qwen3-0.6B's shape on a GPU, a small one of the same kind without."""

from __future__ import annotations

import random
from typing import Any

# From the published configuration of Qwen3-0.6B; weights are random.
_QWEN3_06B = {
    "vocab_size": 151_936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40_960,
}
_SMALL = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 2048,
}
STOP_ID = 1


def device_of(size: str) -> str:
    """Where this size is computed."""
    return "cuda" if size == "gpu" else "cpu"


def random_qwen3(size: str, *, attention: str = "sdpa", dtype: str = "bfloat16") -> Any:
    """A Qwen3 with random weights and tied embeddings, on its device, the same each time."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    shape = _QWEN3_06B if size == "gpu" else _SMALL
    config = Qwen3Config(**shape, tie_word_embeddings=True, bos_token_id=None, eos_token_id=STOP_ID, pad_token_id=0)
    torch.manual_seed(0)
    with torch.device(device_of(size)):
        model = Qwen3ForCausalLM(config)
    model.set_attn_implementation(attention)
    return model.to(getattr(torch, dtype)).eval()


def training_rows(size: str, vocabulary: int) -> list[Any]:
    """Rows of different lengths with advantages of both signs, as a step of mixed groups has them."""
    from masa.policy.update.updater import TrainingRow

    count, prompt, shortest, longest = (64, 128, 128, 1024) if size == "gpu" else (8, 8, 4, 24)
    numbers = random.Random(0)
    rows = []
    for index in range(count):
        length = numbers.randint(shortest, longest)
        prompt_ids = tuple(numbers.randrange(2, vocabulary) for _ in range(prompt))
        token_ids = tuple(numbers.randrange(2, vocabulary) for _ in range(length))
        rows.append(TrainingRow(prompt_ids, token_ids, (-1.0,) * length, 1.0 if index % 2 else -1.0))
    return rows


def micro_batch_tokens(size: str) -> int:
    """Tokens of one pass: what 28 layers of activations leave room for, about 1.7 MB a token by arithmetic."""
    if size == "cpu":
        return 128
    import torch

    return 16_384 if torch.cuda.get_device_properties(0).total_memory > 60e9 else 4_096
