"""Drawing the next token of many sequences at once, each from its own stream of random numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from masa.rollout.engine import Sampling


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
        # float64: over a large vocabulary a float32 running sum loses the tail.
        cumulative = logits.double().softmax(dim=-1).cumsum(dim=-1)
        total = cumulative[:, -1:]
        threshold = torch.minimum(uniforms.unsqueeze(1) * total, torch.nextafter(total, torch.zeros_like(total)))
        tokens = torch.searchsorted(cumulative, threshold, right=True).squeeze(1)
    chosen = logits.gather(1, tokens.unsqueeze(1)).squeeze(1)
    return tokens, chosen - logits.logsumexp(dim=-1)


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
