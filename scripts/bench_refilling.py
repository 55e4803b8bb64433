"""Tokens a second of the transformers engine with and without refilling of rows, at a heavy-tailed mix of lengths.

    python scripts/bench_rollout.py --refilling [--batch 64] [--waves 8] [--rounds 3] [--samples 8]

The embedded policy samples problems of its world. How long each response becomes is drawn beforehand (a log-normal with
median 32; one in twenty has 512 tokens, the limit of all requests) and known to neither way of decoding: it is what the
policy's end token would decide. Without refilling, batches are decoded one after the other, and a response that ends
leaves its batch. Both ways run alternately in one process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from masa.config import load_config
from masa.embedded import SOLUTION_TEMPLATE, arithmetic_problems, load_embedded_tokenizer
from masa.model.loading import load_policy
from masa.rollout.engine import Rollout, RolloutRequest
from masa.rollout.transformers.decode_probe import trusted_decoder
from masa.rollout.transformers.engine import TransformersEngine
from masa.rollout.transformers.sequences import Sample, Sequences

LIMIT, MEDIAN, SPREAD, LONG_SHARE = 512, 32, 0.6, 0.05


class PlannedSequences(Sequences):
    """Sequences that end where ``lengths`` says, by seed."""

    lengths: Sequence[int] = ()

    def start(self, places: Tensor, samples: Sequence[Sample]) -> None:
        super().start(places, samples)
        self._limits[places] = torch.tensor([self.lengths[sample.seed] for sample in samples])


def planned_lengths(count: int) -> list[int]:
    """The lengths of ``count`` responses, in an order drawn once."""
    generator = np.random.default_rng(0)
    short = np.exp(np.log(MEDIAN) + SPREAD * generator.standard_normal(count)).round().clip(1, LIMIT - 1)
    short[: round(LONG_SHARE * count)] = LIMIT
    return [int(length) for length in generator.permutation(short)]


def measure(batch: int, waves: int, samples: int, rounds: int) -> None:
    """Both ways by turns, and what came of it as lines."""
    torch.set_num_threads(1)
    policy = load_policy(load_config(None, ["model.path=embedded"]).model).eval()
    requests = _requests(batch * waves, samples)
    engines = {name: _engine(policy, batch, refills=name == "refilled") for name in ("in waves", "refilled")}
    PlannedSequences.lengths = planned_lengths(batch * waves + samples)
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    found: dict[str, list[list[Rollout]]] = {}
    with mock.patch("masa.rollout.transformers.stream.Sequences", PlannedSequences):
        for _ in range(rounds):
            for name, engine in engines.items():
                start = time.process_time()
                found[name] = engine.generate(requests)
                seconds[name].append(time.process_time() - start)
    _print(batch, found, seconds)


def _print(batch: int, found: dict[str, list[list[Rollout]]], seconds: dict[str, list[float]]) -> None:
    before, after = ([one for group in found[name] for one in group] for name in ("in waves", "refilled"))
    lengths = [len(one.token_ids) for one in before]
    equal = sum(one.token_ids == other.token_ids for one, other in zip(before, after, strict=True))
    print(
        f"{len(lengths)} responses, {batch} at a time, median {statistics.median(lengths):.0f} tokens, "
        f"{lengths.count(LIMIT) / len(lengths):.1%} of {LIMIT}; the same tokens in {equal}"
    )
    speeds = {name: sum(lengths) / statistics.median(times) for name, times in seconds.items()}
    for name, speed in speeds.items():
        print(f"{name:10s} {statistics.median(seconds[name]):8.2f} CPU-s {speed:8.0f} tokens a CPU-second")
    print(f"ratio      {speeds['refilled'] / speeds['in waves']:8.2f}")


def _engine(policy: Any, batch: int, *, refills: bool) -> TransformersEngine:
    engine = TransformersEngine(policy, stop_ids=[policy.config.vocab_size], max_batch_size=batch)
    decoder: Any = trusted_decoder(policy)
    decoder.refills = refills
    engine._decoder = decoder
    return engine


def _requests(samples: int, of_each: int) -> list[RolloutRequest]:
    tokenizer = load_embedded_tokenizer()
    requests = []
    for number, problem in enumerate(arithmetic_problems("test", -(-samples // of_each))):
        message = {"role": "user", "content": SOLUTION_TEMPLATE.replace("{{ problem }}", problem.statement)}
        ids: Any = tokenizer.apply_chat_template([message], add_generation_prompt=True)["input_ids"]
        seeds = tuple(range(number * of_each, (number + 1) * of_each))
        requests.append(RolloutRequest(problem.id, "solution", tuple(ids), seeds, LIMIT))
    return requests
