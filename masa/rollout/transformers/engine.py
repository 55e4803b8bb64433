"""Rollouts with a `transformers` model in this process: batched, cached, seeded per sample, on any machine.

A batch of sequences is decoded together: prompts are left-padded and run once each, and their caches are shared out to
the samples. The row of a sequence that ends is given to the next sample; where none waits, or the model's cache has no
rows that could be given away, it leaves the batch so that it costs nothing more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from transformers import PreTrainedModel

from masa.model.packed_linears import packed_linears
from masa.model.weights import Weights, named_tensors, policy_weights
from masa.rollout.engine import Ended, Rollout, RolloutError, RolloutRequest, Sampling
from masa.rollout.statistics import EngineStatistics
from masa.rollout.stop_texts import StopTexts
from masa.rollout.transformers.decode_probe import choose_decoder, trusted_decoder
from masa.rollout.transformers.decoders import Decoder, sampling_alone
from masa.rollout.transformers.refilling import SampleQueue
from masa.rollout.transformers.sampling import draw_tokens
from masa.rollout.transformers.sequences import Sample, Sequences, runs

# Dropping rows, or giving them away, costs a little for each layer, so a few finished sequences are carried along until
# they are worth it.
_ENDED_SHARE = 1 / 16


class TransformersEngine:
    """A `RolloutEngine` over a causal language model of `transformers`.

    The engine decodes with the very module it is given. Handed the policy itself it is always up to date and
    `update_weights` only advances the version; handed a copy, it copies the new parameters in.

    Args:
        model: the causal language model, on its device.
        stop_ids: token ids that end a response.
        max_batch_size: sequences decoded at a time.
        dtype: the type that linear layers are computed in while it samples, the head's excepted; None: the model's.
        stop_texts: texts that end a response as well.

    Raises:
        ConfigError: this machine has no products in ``dtype``.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        stop_ids: Sequence[int],
        max_batch_size: int = 256,
        dtype: torch.dtype | None = None,
        stop_texts: StopTexts | None = None,
    ) -> None:
        if not stop_ids:
            raise ValueError("the engine needs at least one token id that ends a response")
        self.model = model
        self.max_batch_size = max_batch_size
        self.weight_version = 0
        self.weight_dtype = dtype or model.dtype
        self._linears = packed_linears(model, dtype)
        self._stop_ids = torch.tensor(sorted(set(stop_ids)), device=model.device)
        self._stop_texts = stop_texts
        self._decoder = trusted_decoder(model)
        self._statistics = EngineStatistics()
        self._closing = threading.Event()

    def generate(self, requests: Sequence[RolloutRequest], ended: Ended | None = None) -> list[list[Rollout]]:
        """Samples of each request, in the order of ``requests`` and of each request's ``seeds``."""
        results: list[list[Rollout | None]] = [[None] * len(request.seeds) for request in requests]
        started = time.perf_counter()
        if self._decoder is None:
            self.check_decoding()
        decoder = self._decoder
        assert decoder is not None
        with sampling_alone(self.model), self._linears.used() if self._linears is not None else nullcontext():
            size, lengths, refills = self.max_batch_size, decoder.equal_lengths, decoder.refills
            for sampling, samples in runs(requests, size, equal_lengths=lengths, refills=refills):
                for sample, decoded in self._decode(decoder, requests, samples, sampling):
                    rollout = decoded if self._stop_texts is None else self._stop_texts.cut(decoded)
                    results[sample.request][sample.index] = rollout
                    if ended is not None:
                        ended(requests[sample.request], rollout)
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
        if self._linears is not None:
            self._linears.forget()
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
        """The checksum of the model that samples; none where it computes with copies in another type."""
        if self.weight_dtype != self.model.dtype:
            return []
        from masa.rollout.weights.agreement import weight_checksum

        return [weight_checksum(tensor for _, tensor in policy_weights(self.model))]

    def statistics(self) -> dict[str, float]:
        """Tokens per second since the last call; none where nothing was sampled."""
        return self._statistics.reading()

    def close(self) -> None:
        """Give up what another thread is sampling; the model belongs to whoever handed it in."""
        self._closing.set()

    @torch.inference_mode()
    def _decode(
        self, decoder: Decoder, requests: Sequence[RolloutRequest], samples: list[Sample], sampling: Sampling
    ) -> Iterator[tuple[Sample, Rollout]]:
        device = self.model.device
        queue = SampleQueue(decoder, requests, samples, self.max_batch_size)
        batch, first = queue.open()
        sequences = Sequences(len(first), max(sample.max_new_tokens for sample in samples), device)
        places = torch.arange(len(first), device=device)  # batch row -> place in the sequences
        sequences.start(places, first)
        ended = torch.zeros(len(first), dtype=torch.bool, device=device)  # by batch row
        while True:
            if self._closing.is_set():
                raise RolloutError("the engine was closed while it sampled")
            drawn, logprobs = draw_tokens(batch.logits, sequences.uniforms(places), sampling)
            stopped = torch.isin(drawn, self._stop_ids)
            at_limit = sequences.add(places, drawn, logprobs)
            if self._stop_texts is not None:
                stopped |= sequences.ended_by_text(places, ended | stopped, self._stop_texts)
            newly_ended = (at_limit | stopped) & ~ended
            if bool(newly_ended.any()):
                yield from sequences.rollouts(places[newly_ended], stopped[newly_ended], requests, self.weight_version)
                ended |= newly_ended
                if int(ended.sum()) >= max(1, int(len(places) * _ENDED_SHARE)):
                    if queue:
                        rows, begun, fed = queue.refill(batch, ended.nonzero().squeeze(1))
                        drawn[rows], ended[rows] = fed, False
                        sequences.start(places[rows], begun)
                    if bool(ended.all()):
                        return
                    if bool(ended.any()):
                        order = batch.keep(~ended)
                        places, drawn, ended = places[order], drawn[order], ended[order]
            if len(samples) > len(first) and (tidied := batch.tidy()) is not None:
                places, drawn, ended = places[tidied], drawn[tidied], ended[tidied]
            decoder.advance(batch, drawn)
