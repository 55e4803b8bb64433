"""Rollouts with a `transformers` model in this process: batched, cached, seeded per sample, on any machine.

A wave of sequences is decoded together: prompts are left-padded and run once each, their caches are shared out to the
samples, and sequences that end leave the batch so that they cost nothing more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from masa.rollout.decode_attention import decoding
from masa.rollout.engine import Rollout, RolloutError, RolloutRequest, Sampling
from masa.rollout.kv_cache import GrowingCache
from masa.rollout.sampling import draw_tokens, uniform_streams
from masa.rollout.statistics import EngineStatistics
from masa.rollout.weights import Weights, named_tensors, policy_weights

# Dropping rows costs a little for each layer, so a few finished sequences are carried along until they are worth it.
_DROP_SHARE = 1 / 16


@dataclass(frozen=True)
class _Sample:
    """One sequence to decode: where it belongs and what it may use."""

    request: int
    index: int
    seed: int
    max_new_tokens: int


class TransformersEngine:
    """A `RolloutEngine` over a causal language model of `transformers`.

    The engine decodes with the very module it is given. Handed the policy itself it is always up to date and
    `update_weights` only advances the version; handed a copy, it copies the new parameters in.

    Args:
        model: the causal language model, on its device.
        stop_ids: token ids that end a response.
        max_batch_size: sequences decoded at a time.
    """

    def __init__(self, model: PreTrainedModel, *, stop_ids: Sequence[int], max_batch_size: int = 256) -> None:
        if not stop_ids:
            raise ValueError("the engine needs at least one token id that ends a response")
        self.model = model
        self.max_batch_size = max_batch_size
        self.weight_version = 0
        self._stop_ids = torch.tensor(sorted(set(stop_ids)), device=model.device)
        layer_types = getattr(model.config, "layer_types", None) or ["full_attention"]
        self._only_full_attention = set(layer_types) == {"full_attention"}
        self._statistics = EngineStatistics()
        self._closing = threading.Event()

    def generate(self, requests: Sequence[RolloutRequest]) -> list[list[Rollout]]:
        """Samples of each request, in the order of ``requests`` and of each request's ``seeds``."""
        results: list[list[Rollout | None]] = [[None] * len(request.seeds) for request in requests]
        started = time.perf_counter()
        training = self.model.training
        self.model.eval()
        try:
            for sampling, wave in _waves(requests, self.max_batch_size):
                for sample, rollout in self._decode(requests, wave, sampling):
                    results[sample.request][sample.index] = rollout
        finally:
            self.model.train(training)
        rollouts = [[rollout for rollout in group if rollout is not None] for group in results]
        self._statistics.sampled(rollouts, time.perf_counter() - started)
        return rollouts

    def update_weights(self, weights: Weights, version: int) -> None:
        """Copy the named parameters in (those that are already the engine's own cost nothing)."""
        if weights is self.model:
            self.weight_version = version
            return
        own = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, tensor in named_tensors(weights):
                if name not in own:
                    raise KeyError(f"the engine's model has no parameter {name!r}")
                if own[name].data_ptr() != tensor.data_ptr():
                    own[name].copy_(tensor)
        self.weight_version = version

    def sleep(self) -> None:
        """Nothing to give back: the caches live no longer than `generate`."""

    def wake(self) -> None:
        """Nothing to undo."""

    def checksums(self) -> list[int]:
        """The checksum of the model that samples."""
        from masa.rollout.agreement import weight_checksum

        return [weight_checksum(tensor for _, tensor in policy_weights(self.model))]

    def statistics(self) -> dict[str, float]:
        """Tokens per second since the last call; none where nothing was sampled."""
        return self._statistics.reading()

    def close(self) -> None:
        """Give up what another thread is sampling; the model belongs to whoever handed it in."""
        self._closing.set()

    @torch.inference_mode()
    def _decode(
        self, requests: Sequence[RolloutRequest], wave: list[_Sample], sampling: Sampling
    ) -> Iterator[tuple[_Sample, Rollout]]:
        start = time.perf_counter()
        device = self.model.device
        limits = torch.tensor([sample.max_new_tokens for sample in wave], device=device)
        longest = int(limits.max())
        uniforms = uniform_streams([sample.seed for sample in wave], longest).to(device)
        tokens = torch.zeros((len(wave), longest), dtype=torch.long, device=device)
        logprobs = torch.zeros((len(wave), longest), dtype=torch.float32, device=device)

        batch = self._prefill(requests, wave)
        rows = torch.arange(len(wave), device=device)  # batch row -> position in the wave
        ended = torch.zeros(len(wave), dtype=torch.bool, device=device)  # by batch row
        for step in range(longest):
            if self._closing.is_set():
                raise RolloutError("the engine was closed while it sampled")
            drawn, drawn_logprobs = draw_tokens(batch.logits, uniforms[rows, step], sampling)
            tokens[rows, step] = drawn
            logprobs[rows, step] = drawn_logprobs
            stopped = torch.isin(drawn, self._stop_ids)
            newly_ended = (stopped | (limits[rows] == step + 1)) & ~ended
            if bool(newly_ended.any()):
                seconds = time.perf_counter() - start
                for position, by_stop in zip(rows[newly_ended].tolist(), stopped[newly_ended].tolist(), strict=True):
                    ids, values = tokens[position, : step + 1].tolist(), logprobs[position, : step + 1].tolist()
                    sample = wave[position]
                    yield sample, self._rollout(requests, sample, ids, values, by_stop, seconds)
                ended |= newly_ended
                if bool(ended.all()):
                    return
                if int(ended.sum()) >= max(1, int(len(rows) * _DROP_SHARE)):
                    order = batch.keep(~ended)
                    rows, drawn, ended = rows[order], drawn[order], ended[order]
            self._advance(batch, drawn)

    def _rollout(
        self,
        requests: Sequence[RolloutRequest],
        sample: _Sample,
        token_ids: list[int],
        logprobs: list[float],
        by_stop: bool,
        seconds: float,
    ) -> Rollout:
        request = requests[sample.request]
        return Rollout(
            problem_id=request.problem_id,
            path=request.path,
            index=sample.index,
            prompt_ids=request.prompt_ids,
            token_ids=tuple(token_ids),
            logprobs=tuple(logprobs),
            finish_reason="stop" if by_stop else "length",
            weight_version=self.weight_version,
            seconds=seconds,
        )

    def _prefill(self, requests: Sequence[RolloutRequest], wave: list[_Sample]) -> _Batch:
        """Run each prompt once and share its cache out to its samples."""
        distinct = sorted({sample.request for sample in wave})
        prompts = [requests[request].prompt_ids for request in distinct]
        device = self.model.device
        longest = max(map(len, prompts))
        input_ids = torch.zeros((len(prompts), longest), dtype=torch.long, device=device)
        attended = torch.zeros((len(prompts), longest), dtype=torch.bool, device=device)
        for row, prompt in enumerate(prompts):
            input_ids[row, longest - len(prompt) :] = torch.tensor(prompt, device=device)
            attended[row, longest - len(prompt) :] = True
        cache = GrowingCache()
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attended.long(),
            position_ids=(attended.cumsum(dim=1) - 1).clamp(min=0),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        batch = _Batch(outputs.logits[:, -1], cache, attended, attended.sum(dim=1))
        row_of = {request: row for row, request in enumerate(distinct)}
        batch.give_out(torch.tensor([row_of[sample.request] for sample in wave], device=device))
        return batch

    def _advance(self, batch: _Batch, drawn: Tensor) -> None:
        """Feed the drawn tokens and take the logits of the next ones."""
        batch.attended = torch.cat([batch.attended, batch.attended.new_ones((len(drawn), 1))], dim=1)
        mask = self._attention_mask(batch.attended)
        with decoding(self.model) if mask.dim() == 4 else nullcontext():
            outputs = self.model(
                input_ids=drawn.unsqueeze(1),
                attention_mask=mask,
                position_ids=batch.lengths.unsqueeze(1),
                past_key_values=batch.cache,
                use_cache=True,
            )
        batch.logits = outputs.logits[:, -1]
        batch.lengths = batch.lengths + 1

    def _attention_mask(self, attended: Tensor) -> Tensor:
        """For one new token a row: ``[batch, 1, 1, length]`` where that is all a model needs, else two-dimensional."""
        if not self._only_full_attention:
            return attended.long()
        blocked = torch.finfo(self.model.dtype).min
        mask = torch.zeros(attended.shape, dtype=self.model.dtype, device=attended.device)
        return mask.masked_fill_(~attended, blocked)[:, None, None, :]


@dataclass
class _Batch:
    """The sequences being decoded: next-token logits, cache, which cached positions are no padding, lengths."""

    logits: Tensor
    cache: GrowingCache
    attended: Tensor
    lengths: Tensor

    def give_out(self, rows: Tensor) -> None:
        """Make a batch of ``rows`` (indices, repeats allowed), in that order."""
        self.cache.give_out(rows)
        self._take(rows)

    def keep(self, kept: Tensor) -> Tensor:
        """Drop all sequences but ``kept`` (bool); the indices of those that remain, in their new order."""
        order = self.cache.keep(kept)
        self._take(order)
        return order

    def _take(self, rows: Tensor) -> None:
        self.logits = self.logits[rows]
        self.attended = self.attended[rows]
        self.lengths = self.lengths[rows]


def _waves(requests: Sequence[RolloutRequest], size: int) -> Iterator[tuple[Sampling, list[_Sample]]]:
    """Samples in batches of at most ``size`` that share their sampling parameters; alike limits stand together."""
    by_sampling: dict[Sampling, list[_Sample]] = {}
    for position, request in enumerate(requests):
        samples = by_sampling.setdefault(request.sampling, [])
        samples.extend(
            _Sample(position, index, seed, request.max_new_tokens) for index, seed in enumerate(request.seeds)
        )
    for sampling, samples in by_sampling.items():
        if len(samples) > size:
            samples.sort(key=lambda sample: sample.max_new_tokens, reverse=True)
        for start in range(0, len(samples), size):
            yield sampling, samples[start : start + size]
