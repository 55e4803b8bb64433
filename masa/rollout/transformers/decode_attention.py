"""Attention of one new token a sequence with grouped key-value heads, without copying the cache.

Query heads that share a key-value head are given to it as if they were several queries of one head: with a single new
token there is no order among them that a causal mask would have to keep. The usual way repeats the whole cache for
each query head, at every token and layer.

Where rows of very different lengths stand together, each block of rows reads the columns that its own rows use.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from masa.model.attention_function import attention_function

_NAME = "masa_grouped_decode"
# Fewer rows are not worth a call of their own, nor are rows that save a smaller share of the columns.
_LEAST_ROWS = 16
_LEAST_SAVED = 1 / 8


@dataclass(frozen=True)
class Block:
    """Neighbouring rows of a cache, and the first column that any of them uses."""

    rows: slice
    first: int


_blocks: ContextVar[tuple[Block, ...]] = ContextVar("blocks of rows that are being decoded", default=())


def blocks_of(lengths: Tensor, columns: int) -> tuple[Block, ...]:
    """Rows of like lengths, as they stand, in blocks; none where all of them need about as many of the columns."""
    blocks: list[Block] = []
    known: list[int] = lengths.tolist()
    for start in range(0, len(known), _LEAST_ROWS):
        rows = slice(start, min(start + _LEAST_ROWS, len(known)))
        first = columns - max(known[rows])
        if blocks and abs(first - blocks[-1].first) < _LEAST_SAVED * columns:
            last = blocks.pop()
            rows, first = slice(last.rows.start, rows.stop), min(first, last.first)
        blocks.append(Block(rows, first))
    return tuple(blocks) if len(blocks) > 1 else ()


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
    blocks = _blocks.get()
    if new_tokens > 1 or (heads == key.shape[1] and not blocks):
        output: Tensor = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )[0]
        return output, None
    grouped = query.reshape(batch, key.shape[1], heads // key.shape[1], width)
    parts = []
    for block in blocks or (Block(slice(None), 0),):
        rows, columns = block.rows, slice(block.first, None)
        mask = None if attention_mask is None else attention_mask[rows, :, :, columns]
        keys, values = key[rows, :, columns], value[rows, :, columns]
        parts.append(
            torch.nn.functional.scaled_dot_product_attention(grouped[rows], keys, values, attn_mask=mask, scale=scaling)
        )
    attended = parts[0] if len(parts) == 1 else torch.cat(parts)
    return attended.reshape(batch, 1, heads, width), None


@contextmanager
def decoding(model: PreTrainedModel, blocks: tuple[Block, ...] = ()) -> Iterator[None]:
    """Within the block a model with `sdpa` attention uses `grouped_decode_attention`, over these blocks of rows."""
    used = model.config._attn_implementation
    token = _blocks.set(blocks)
    try:
        with attention_function(model, _NAME if used == "sdpa" else used):
            yield
    finally:
        _blocks.reset(token)


AttentionInterface.register(_NAME, grouped_decode_attention)
