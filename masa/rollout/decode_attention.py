"""Attention of one new token a sequence with grouped key-value heads, without copying the cache.

Query heads that share a key-value head are given to it as if they were several queries of one head: with a single new
token there is no order among them that a causal mask would have to keep. The usual way repeats the whole cache for
each query head, at every token and layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from masa.policy.shared_prompts import attention_function

_NAME = "masa_grouped_decode"


def grouped_decode_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """An attention function of `transformers`: query ``[batch, heads, 1, width]``, keys of fewer heads, any mask.

    More than one new token, or as many key-value heads as query heads, goes the usual way.
    """
    batch, heads, new_tokens, width = query.shape
    if new_tokens > 1 or heads == key.shape[1]:
        output: Tensor = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )[0]
        return output, None
    grouped = query.reshape(batch, key.shape[1], heads // key.shape[1], width)
    attended = torch.nn.functional.scaled_dot_product_attention(
        grouped, key, value, attn_mask=attention_mask, scale=scaling
    )
    return attended.reshape(batch, 1, heads, width), None


@contextmanager
def decoding(model: PreTrainedModel) -> Iterator[None]:
    """Within the block a model with `sdpa` attention uses `grouped_decode_attention`."""
    used = model.config._attn_implementation
    with attention_function(model, _NAME if used == "sdpa" else used):
        yield


AttentionInterface.register(_NAME, grouped_decode_attention)
