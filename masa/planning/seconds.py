"""Seconds of generation and of updates, from the FLOPs of a model's shape and the bytes that it reads.

The FLOPs of a token are those of `masa.tracking.cost`: 2 N for the matrices, 4 L A c for attention over c positions. An
update costs twice a forward pass more for the gradients: those of the inputs, and those of the trained weights, which
are few under LoRA; gradient checkpointing computes the forward pass again.

Generation is bounded by what it reads from memory (Pope et al., 2022, arXiv 2211.05102, section 2.1): each pass of the
engine reads all weights once, and the keys and values of every sequence that is running, and gives each of them one
token. Where B sequences run at once, a batch of T tokens takes T / B passes, and at least as many as its longest
response has tokens. A pass takes the longer one of reading and computing. Prompts are read beforehand, each once for
all its samples, and computing is the bound.

Time is work / speed, where the speed is the share of the device's that is reached (`masa.planning.devices`). Not in it:
verification, the transfer of weights, communication between processes, padding, and checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from masa.planning.devices import Speed
from masa.planning.shapes import DecoderShape


@dataclass(frozen=True)
class Samples:
    """``count`` samples of ``prompts`` different prompts, each prompt and each response of so many tokens."""

    count: int
    prompts: int
    prompt: int
    response: int

    @property
    def row(self) -> int:
        """Tokens that an update reads of one sample: the last one of a response is predicted and never read."""
        return self.prompt + self.response - 1


@dataclass(frozen=True)
class Engines:
    """Engines that share the sampling.

    Args:
        count: of them.
        devices: on which one engine computes.
        weight_bytes: that each device reads of the weights in a pass.
        token_bytes: that each device reads of one token's keys and values.
        cache: bytes of each device for keys and values; None: no bound.
        running: the most sequences that an engine runs at once.
    """

    count: int
    devices: int
    weight_bytes: int
    token_bytes: int
    cache: int | None
    running: int

    def at_once(self, length: float) -> int:
        """Sequences of so many tokens that one engine runs at once; 0: its cache has no room for one."""
        if self.cache is None:
            return self.running
        return min(self.running, int(max(0, self.cache) // (self.token_bytes * length)))


@dataclass(frozen=True)
class GenerationSeconds:
    """Reading prompts, and decoding responses; ``at_once`` sequences run in one engine."""

    prompts: float
    responses: float
    at_once: int

    @property
    def total(self) -> float:
        return self.prompts + self.responses


def mean_context(samples: Sequence[Samples]) -> float:
    """Tokens before a generated one, on average over all that are generated."""
    generated = sum(one.count * one.response for one in samples)
    return sum(one.count * one.response * (one.prompt + one.response / 2) for one in samples) / generated


def generation_seconds(
    shape: DecoderShape, samples: Sequence[Samples], engines: Engines, speed: Speed
) -> GenerationSeconds | None:
    """Seconds of sampling; None where the engines' caches have no room for one sequence.

    Args:
        speed: that one device reaches in the engines' type.
    """
    flops, context = shape.flops(), mean_context(samples)
    tokens = sum(one.count * one.response for one in samples) / engines.count
    at_once = min(engines.at_once(context), max(1, sum(one.count for one in samples) // engines.count))
    if at_once == 0:
        return None
    passes = max(tokens / at_once, max(one.response for one in samples))
    running = tokens / passes
    read = engines.weight_bytes + running * engines.token_bytes * context
    computed = running * (2 * flops.parameters + 4 * flops.attention_width * context) / engines.devices
    responses = passes * max(read / speed.bandwidth, computed / speed.flops)
    prompts = sum(one.prompts * flops.forward_flops(0, one.prompt) for one in samples) / engines.count / engines.devices
    return GenerationSeconds(prompts / speed.flops, responses, at_once)


def forward_flops(shape: DecoderShape, samples: Sequence[Samples]) -> float:
    """One forward pass over prompt and response of each sample."""
    return sum(one.count * shape.flops().forward_flops(0, one.row) for one in samples)


def update_flops(shape: DecoderShape, samples: Sequence[Samples], *, checkpointing: bool) -> float:
    """Forward and backward pass over prompt and response of each sample."""
    forward = forward_flops(shape, samples)
    matrices = 2.0 * shape.active * sum(one.count * one.row for one in samples)
    # All parameters that are trained count as active: of experts a token trains those that it passes.
    share = 1.0 if shape.trains_everything else min(1.0, shape.trained / shape.active)
    return (3 + checkpointing) * (forward - matrices) + (2 + share + checkpointing) * matrices
