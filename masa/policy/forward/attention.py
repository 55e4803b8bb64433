"""Whether the attention kernel that a model runs with computes all of its attention."""

from __future__ import annotations

from typing import Any

import torch

from masa.policy.batching.collate import TokenRow
from masa.policy.batching.row_checks import distance, own_logprobs

# Nats, for the same model with `sdpa` and with `eager` attention.
_TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 0.3, torch.float16: 0.05}
_LENGTH = 24


def settle_attention(model: Any, asked: str = "sdpa") -> str:
    """Give a model `eager` attention where its `sdpa` attention leaves something out, and a line that says so.

    `sdpa` has no soft cap on attention scores (Gemma 2). It is not used where log-probs of a few tokens differ, nor, as
    half precision may hide it, where the configuration names such a cap. The line also tells of an architecture that
    has no `sdpa` attention (gpt-oss, whose sinks it cannot have) where that was ``asked`` for. Otherwise it is empty.
    """
    if model.config._attn_implementation != "sdpa":
        has_none = asked == "sdpa" and not getattr(type(model), "_supports_sdpa", True)
        return f"model.attention: eager is used; {type(model).__name__} has no sdpa attention" if has_none else ""
    text = model.config.get_text_config()
    generator = torch.Generator().manual_seed(0)
    ids = tuple(torch.randint(0, text.vocab_size, (_LENGTH,), generator=generator).tolist())
    row = TokenRow(ids[:1], ids[1:])
    training = model.training
    model.eval()
    try:
        fused = own_logprobs(model, row, 1.0)
        model.set_attn_implementation("eager")
        apart = distance([own_logprobs(model, row, 1.0)], [fused])
    except ValueError:  # there is no other attention
        apart = 0.0
    finally:
        model.train(training)
    if apart <= _TOLERANCES[model.dtype] and not getattr(text, "attn_logit_softcapping", None):
        model.set_attn_implementation("sdpa")
        return ""
    return (
        f"model.attention: eager is used; sdpa leaves out a part of the attention of {type(model).__name__} (log-probs "
        f"of random tokens are {apart:.2g} nats apart)"
    )
