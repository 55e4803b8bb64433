"""Rollouts with a `transformers` model in this process: batched, cached, seeded per sample, on any machine.

A wave of sequences is decoded together: prompts are left-padded and run once each, their caches are shared out to the
samples, and sequences that end leave the batch so that they cost nothing more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from masa.rollout.decode_probe import choose_decoder, trusted_decoder
from masa.rollout.decoders import Batch, Decoder, sampling_alone
from masa.rollout.engine import Rollout, RolloutError, RolloutRequest, Sampling
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
        self._decoder = trusted_decoder(model)
        self._statistics = EngineStatistics()
        self._closing = threading.Event()

    def generate(self, requests: Sequence[RolloutRequest]) -> list[list[Rollout]]:
        """Samples of each request, in the order of ``requests`` and of each request's ``seeds``."""
        results: list[list[Rollout | None]] = [[None] * len(request.seeds) for request in requests]
        started = time.perf_counter()
        if self._decoder is None:
            self.check_decoding()
        decoder = self._decoder
        assert decoder is not None
        with sampling_alone(self.model):
            for sampling, wave in _waves(requests, self.max_batch_size, equal_lengths=decoder.equal_lengths):
                for sample, rollout in self._decode(decoder, requests, wave, sampling):
                    results[sample.request][sample.index] = rollout
        rollouts = [[rollout for rollout in group if rollout is not None] for group in results]
        self._statistics.sampled(rollouts, time.perf_counter() - started)
        return rollouts

    def check_decoding(self) -> None:
        """Find by numbers how to decode, with the weights that the model has now.

        Raises:
            ConfigError: no way of decoding gives what the model's own pass over whole sequences gives.
        """
        self._decoder = choose_decoder(self.model)

    def update_weights(self, weights: Weights, version: int) -> None:
        """Copy the named parameters in (those that are already the engine's own cost nothing)."""
        if weights is self.model:
            self.weight_version = version
            return
        own = {**dict(self.model.named_buffers()), **dict(self.model.named_parameters())}
        with torch.no_grad():
            for name, tensor in named_tensors(weights):
                if name not in own:
                    raise KeyError(f"the engine's model has no parameter or buffer {name!r}")
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
        self, decoder: Decoder, requests: Sequence[RolloutRequest], wave: list[_Sample], sampling: Sampling
    ) -> Iterator[tuple[_Sample, Rollout]]:
        start = time.perf_counter()
        device = self.model.device
        limits = torch.tensor([sample.max_new_tokens for sample in wave], device=device)
        longest = int(limits.max())
        uniforms = uniform_streams([sample.seed for sample in wave], longest).to(device)
        tokens = torch.zeros((len(wave), longest), dtype=torch.long, device=device)
        logprobs = torch.zeros((len(wave), longest), dtype=torch.float32, device=device)

        batch = self._prefill(decoder, requests, wave)
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
            decoder.advance(batch, drawn)

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

    def _prefill(self, decoder: Decoder, requests: Sequence[RolloutRequest], wave: list[_Sample]) -> Batch:
        """Run each prompt once and share its cache out to its samples."""
        distinct = sorted({sample.request for sample in wave})
        batch = decoder.prefill([requests[request].prompt_ids for request in distinct])
        row_of = {request: row for row, request in enumerate(distinct)}
        batch.give_out(torch.tensor([row_of[sample.request] for sample in wave], device=self.model.device))
        return batch


def _waves(
    requests: Sequence[RolloutRequest], size: int, *, equal_lengths: bool
) -> Iterator[tuple[Sampling, list[_Sample]]]:
    """Samples in batches of at most ``size`` that share their sampling parameters; alike limits stand together.

    With ``equal_lengths`` the prompts of a batch have the same number of tokens.
    """
    by_kind: dict[tuple[Sampling, int], list[_Sample]] = {}
    for position, request in enumerate(requests):
        samples = by_kind.setdefault((request.sampling, len(request.prompt_ids) if equal_lengths else 0), [])
        samples.extend(
            _Sample(position, index, seed, request.max_new_tokens) for index, seed in enumerate(request.seeds)
        )
    for (sampling, _), samples in by_kind.items():
        if len(samples) > size:
            samples.sort(key=lambda sample: sample.max_new_tokens, reverse=True)
        for start in range(0, len(samples), size):
            yield sampling, samples[start : start + size]
