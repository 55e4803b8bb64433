"""Sampled tokens a second of a real model on a CPU, by what each part of the engines gains.

    python scripts/bench_rollout.py --model FOLDER [--batches 32 64] [--tokens 64] [--rounds 3]

Eight prompts of 60 tokens are continued so often that as many sequences as ``--batches`` says are decoded at a time, up
to ``--tokens`` tokens each. Engines and ways take turns within a round; a line is the median over the rounds. The first
way of each engine is what it did before its weights were packed and, with transformers, before large vocabularies were
drawn from by blocks.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch

from masa.config import load_config
from masa.model import packed_linears
from masa.model.loading import load_policy
from masa.model.packed_linears import has_bfloat16_products
from masa.rollout.engine import RolloutRequest
from masa.rollout.factory import make_engine
from masa.rollout.transformers import sampling
from masa.rollout.vllm import linears as vllm_linears
from masa.rollout.vllm.engine import vllm_is_installed

PROMPTS, PROMPT_TOKENS = 8, 60
_NEVER = 2**62


@dataclass(frozen=True)
class Way:
    """An engine with or without a part of what makes it fast."""

    engine: str
    name: str
    packed: bool = True
    by_blocks: bool = True
    dtype: str = "policy"

    @contextmanager
    def switched(self) -> Iterator[None]:
        with ExitStack() as stack:
            if not self.packed:
                for module in (packed_linears, vllm_linears):
                    stack.enter_context(mock.patch.object(module, "LEAST_WEIGHTS", _NEVER))
            if not self.by_blocks:
                stack.enter_context(mock.patch.object(sampling, "_LARGE", _NEVER))
            yield


def ways() -> list[Way]:
    """What can be measured here."""
    found = [
        Way("transformers", "weights as they are, one running sum", packed=False, by_blocks=False),
        Way("transformers", "drawn by blocks", packed=False),
        Way("transformers", "and packed weights, float32"),
    ]
    if has_bfloat16_products():
        found.append(Way("transformers", "and products in bfloat16", dtype="bfloat16"))
    if vllm_is_installed():
        found += [Way("vllm", "weights as they are", packed=False), Way("vllm", "packed weights, float32")]
        if has_bfloat16_products():
            found.append(Way("vllm", "packed weights, bfloat16", dtype="bfloat16"))
    return found


def measure(folder: str, batches: Sequence[int], tokens: int, rounds: int) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    policy = load_policy(load_config(None, [f"model.path={folder}", "model.dtype=float32"]).model).eval()
    print(f"{folder}: {sum(one.numel() for one in policy.parameters()):,} parameters, {torch.get_num_threads()} thread")
    for batch in batches:
        requests = _requests(policy.config.vocab_size, batch // PROMPTS, tokens)
        # Of one token.
        seconds: dict[Way, list[float]] = {way: [] for way in ways()}
        for _ in range(rounds):
            for way, times in seconds.items():
                with way.switched():
                    times.append(_seconds(way, policy, requests, batch))
        print(f"\n{batch} sequences of {tokens} tokens, median of {rounds}\n")
        print("| engine | way | tokens/s | ratio |\n| --- | --- | --- | --- |")
        for way, times in seconds.items():
            first = next(one for one in seconds if one.engine == way.engine)
            speed, before = (1 / statistics.median(each) for each in (times, seconds[first]))
            print(f"| {way.engine} | {way.name} | {speed:.0f} | {speed / before:.2f} |", flush=True)


def _seconds(way: Way, policy: Any, requests: list[RolloutRequest], batch: int) -> float:
    settings = [f"rollout.engine={way.engine}", f"rollout.max_batch_size={batch}", f"rollout.dtype={way.dtype}"]
    # Hardly a response ends by itself.
    engine = make_engine(
        load_config(None, settings).rollout,
        policy,
        stop_ids=[policy.config.vocab_size - 1],
        max_prompt_tokens=PROMPT_TOKENS,
        max_response_tokens=requests[0].max_new_tokens,
    )
    try:
        engine.generate(requests[:1])
        start = time.perf_counter()
        sampled = engine.generate(requests)
        return (time.perf_counter() - start) / sum(len(one.token_ids) for group in sampled for one in group)
    finally:
        engine.close()


def _requests(vocabulary: int, samples: int, tokens: int) -> list[RolloutRequest]:
    generator = torch.Generator().manual_seed(0)
    return [
        RolloutRequest(
            f"prompt {number}",
            "solution",
            tuple(torch.randint(0, vocabulary, (PROMPT_TOKENS,), generator=generator).tolist()),
            tuple(range(number * samples, (number + 1) * samples)),
            tokens,
        )
        for number in range(PROMPTS)
    ]
