"""What vLLM finds on a GPU that it shares with training, and how many sequences run at once in what is left for caches.

vLLM takes ``gpu_memory_utilization`` of the whole GPU for weights, its own activations and caches, and refuses to start
where so much is not free (``request_memory`` in vllm/v1/worker/utils.py). A token's keys and values take
2 * layers * key-value width * b bytes. A sequence that grows to its limit is on average half grown.
"""

from __future__ import annotations

from dataclasses import dataclass

from masa.config.schema import RolloutSection
from masa.planning.shapes import BYTES, DecoderShape
from masa.rollout.transformers.kv_cache import GROWTH
from masa.rollout.transformers.refilling import prompts_ahead
from masa.rollout.vllm.arguments import CPU_CACHE_GB

# Assumed: CUDA's context, NCCL's buffers, and vLLM's activations and graphs.
OVERHEAD = 2 * 10**9
ENGINE_OVERHEAD = 2 * 10**9


@dataclass(frozen=True)
class EngineMemory:
    """Bytes of one GPU: ``weights`` and ``cache`` of the engine, and the share of the GPU that would just fit."""

    weights: int
    cache: int
    token_bytes: int
    fitting_share: float

    def at_once(self, length: int) -> int:
        """Sequences of so many tokens each that the cache holds."""
        return max(0, self.cache) // (self.token_bytes * max(length, 1))


def engine_memory(
    shape: DecoderShape, section: RolloutSection, dtype: str, *, gpu: int | None, training: int
) -> EngineMemory:
    """The engine beside ``training`` bytes that stay on a GPU of ``gpu`` bytes while rollouts are sampled.

    Without a GPU (None) caches have a size of their own, and nothing is shared.
    """
    size = BYTES[dtype if section.dtype == "policy" else section.dtype]
    weights = shape.parameters * size // section.tensor_parallel_size
    kept = max(1, shape.kv_heads // section.tensor_parallel_size)
    token_bytes = 2 * shape.layers * kept * shape.head_width * size
    if gpu is None or section.kv_cache_gb is not None:
        cache = int((section.kv_cache_gb or CPU_CACHE_GB) * 2**30)
    else:
        cache = int(gpu * section.gpu_memory_utilization) - weights - ENGINE_OVERHEAD
    return EngineMemory(
        weights, cache, token_bytes, 1.0 if gpu is None else max(0.0, (gpu - training - OVERHEAD) / gpu)
    )


def transformers_cache(shape: DecoderShape, dtype: str, *, sequences: int, length: int, ahead: int = 0) -> int:
    """Bytes of the transformers engine's cache when so many sequences of ``length`` tokens each are decoded together.

    Buffers grow by blocks (`masa.rollout.transformers.kv_cache`), one layer at a time while its smaller buffer is still
    there. Where more sequences wait for a row, their prompts of ``ahead`` tokens are read ahead
    (`masa.rollout.transformers.refilling`).
    """
    room = _room(length)
    one_layer = 2 * shape.key_width * BYTES[dtype] * sequences
    waiting = 2 * shape.key_width * BYTES[dtype] * prompts_ahead(sequences) * _room(ahead) if ahead else 0
    return (one_layer * room + waiting) * shape.layers + one_layer * (room - GROWTH) // 2


def _room(length: int) -> int:
    return (length // GROWTH + 1) * GROWTH


def slowdown(engine: EngineMemory, roomy: int, length: int, *, running: int) -> float:
    """How many times longer generation takes with this cache than with ``roomy`` bytes of it, where reading memory is
    the bound: each token reads its share of the weights and its sequence's cache.

    Args:
        length: tokens of a sequence on average.
        running: the most sequences that run at once, whatever the cache.
    """
    own = engine.token_bytes * length

    def per_token(cache: int) -> float:
        return engine.weights / max(1, min(running, max(cache, 0) // own)) + own

    return per_token(engine.cache) / per_token(roomy)
