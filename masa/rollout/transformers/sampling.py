"""Drawing the next token of many sequences at once, each from its own stream of random numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from masa.rollout.engine import Sampling

_LARGE, _BLOCK = 4096, 256


def uniform_streams(seeds: Sequence[int], length: int) -> Tensor:
    """Uniform numbers in [0, 1), float64 ``[len(seeds), length]``: row i depends on ``seeds[i]`` alone.

    A sequence therefore draws the same tokens whatever else is in its batch and in whatever order.
    """
    rows = [np.random.Generator(np.random.Philox(seed)).random(length) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


def draw_tokens(logits: Tensor, uniforms: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """One token a row by inversion of the cumulative distribution, and its log-probability.

    Args:
        logits: ``[batch, vocabulary]``.
        uniforms: ``[batch]`` in [0, 1).
        sampling: temperature 0 takes the most likely token; its log-probability is then that of temperature 1.

    Returns:
        token ids ``[batch]`` and float32 log-probs ``[batch]`` under the distribution that was drawn from.
    """
    logits = logits.float()
    if sampling.temperature == 0:
        tokens = logits.argmax(dim=-1)
    else:
        logits = _restrict(logits / sampling.temperature, sampling)
        tokens = _inverted(logits, uniforms) if logits.shape[1] < _LARGE else _inverted_by_blocks(logits, uniforms)
    chosen = logits.gather(1, tokens.unsqueeze(1)).squeeze(1)
    return tokens, chosen - logits.logsumexp(dim=-1)


def _inverted(logits: Tensor, uniforms: Tensor) -> Tensor:
    """The token of each row at which the running sum of probabilities passes the row's uniform number."""
    # float64: over a large vocabulary a float32 running sum loses the tail.
    cumulative = logits.double().softmax(dim=-1).cumsum(dim=-1)
    return _passing(cumulative, uniforms.unsqueeze(1) * cumulative[:, -1:]).squeeze(1)


def _inverted_by_blocks(logits: Tensor, uniforms: Tensor) -> Tensor:
    """`_inverted`, with the running sum in float64 over blocks of tokens, and inside of one block alone.

    Over tens of thousands of tokens `_inverted` takes longer than the layers of a small model do.
    """
    vocabulary = logits.shape[1]
    weights = (logits - logits.amax(dim=-1, keepdim=True)).exp_()
    blocks = torch.nn.functional.pad(weights, (0, -vocabulary % _BLOCK)).view(len(weights), -1, _BLOCK)
    sums = blocks.sum(dim=-1).double()
    cumulative = sums.cumsum(dim=-1)
    wanted = uniforms.unsqueeze(1) * cumulative[:, -1:]
    block = _passing(cumulative, wanted)
    before = cumulative.gather(1, block) - sums.gather(1, block)
    inside = blocks.gather(1, block.unsqueeze(2).expand(-1, -1, _BLOCK)).squeeze(1).double().cumsum(dim=-1)
    # A block's sum, in float32, and the last of its running sums differ by rounding; `_passing` stays inside the block.
    return (block * _BLOCK + _passing(inside, wanted - before)).squeeze(1)


def _passing(cumulative: Tensor, wanted: Tensor) -> Tensor:
    """Where each row of running sums passes the number ``wanted`` ``[batch, 1]``: never at a token of no weight."""
    total = cumulative[:, -1:]
    below = torch.minimum(wanted, torch.nextafter(total, torch.zeros_like(total))).clamp(min=0)
    return torch.searchsorted(cumulative, below, right=True)


def _restrict(logits: Tensor, sampling: Sampling) -> Tensor:
    """Set what min-p, top-k and top-p exclude to minus infinity, in vLLM's order."""
    if sampling.min_p > 0:
        least = logits.max(dim=-1, keepdim=True).values + math.log(sampling.min_p)
        logits = logits.masked_fill(logits < least, -torch.inf)
    if 0 < sampling.top_k < logits.shape[-1]:
        smallest = logits.topk(sampling.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    if sampling.top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True)
        before = ordered.softmax(dim=-1).cumsum(dim=-1) - ordered.softmax(dim=-1)
        excluded = torch.zeros_like(logits, dtype=torch.bool).scatter(1, order, before >= sampling.top_p)
        logits = logits.masked_fill(excluded, -torch.inf)
    return logits
