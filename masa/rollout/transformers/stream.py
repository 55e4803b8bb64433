"""The stream of the `transformers` engine: one batch of rows is decoded at a time, and its queue may grow.

Rows are given out in the order of submission. A stream decodes until something ends and rests there, so what is
submitted then stands in the queue at a moment that depends on the tokens drawn so far and on nothing else.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType

import torch
from torch import Tensor
from torch.nn.functional import pad

from masa.model.packed_linears import PackedLinears
from masa.rollout.engine import Finished, Rollout, RolloutError, RolloutRequest, Sampling
from masa.rollout.statistics import EngineStatistics
from masa.rollout.stop_texts import StopTexts
from masa.rollout.transformers.decoders import Decoder, sampling_alone
from masa.rollout.transformers.refilling import SampleQueue
from masa.rollout.transformers.sampling import draw_tokens
from masa.rollout.transformers.sequences import Kind, Sample, Sequences, samples_by_kind

# Dropping rows, or giving them away, costs a little for each layer, so a few finished sequences are carried along until
# they are worth it.
_ENDED_SHARE = 1 / 16


@dataclass(frozen=True)
class Batches:
    """How batches are decoded.

    Args:
        decoder: decodes one token a row.
        stop_ids: int64 ids that end a response.
        rows: sequences decoded at a time.
        weight_version: of the decoder's model.
        closing: set by another thread when what is being sampled is to be given up.
        stop_texts: texts that end a response as well.
        linears: the model's linear layers with packed weights, to be used while it samples.
    """

    decoder: Decoder
    stop_ids: Tensor
    rows: int
    weight_version: int
    closing: threading.Event
    stop_texts: StopTexts | None = None
    linears: PackedLinears | None = None

    @torch.inference_mode()
    def decode(
        self, requests: Sequence[RolloutRequest], waiting: deque[Sample], sampling: Sampling
    ) -> Iterator[list[Finished]]:
        """What ends at each token, until the samples that are ``waiting`` have all ended; more may be appended.

        Raises:
            RolloutError: the engine is closing.
        """
        device = self.stop_ids.device
        queue = SampleQueue(self.decoder, requests, waiting, self.rows)
        longest = queue.longest
        batch, first = queue.open()
        sequences = Sequences(len(first), longest, device)
        places = torch.arange(len(first), device=device)  # batch row -> place in the sequences
        sequences.start(places, first)
        ended = torch.zeros(len(first), dtype=torch.bool, device=device)  # by batch row
        gives_away = bool(queue)
        while True:
            if self.closing.is_set():
                raise RolloutError("the engine was closed while it sampled")
            drawn, logprobs = draw_tokens(batch.logits, sequences.uniforms(places), sampling)
            stopped = torch.isin(drawn, self.stop_ids)
            at_limit = sequences.add(places, drawn, logprobs)
            if self.stop_texts is not None:
                stopped |= sequences.ended_by_text(places, ended | stopped, self.stop_texts)
            newly_ended = (at_limit | stopped) & ~ended
            if bool(newly_ended.any()):
                found = sequences.rollouts(places[newly_ended], stopped[newly_ended], requests, self.weight_version)
                yield [
                    Finished(sample.request, requests[sample.request], self._cut(rollout)) for sample, rollout in found
                ]
                ended |= newly_ended
                gives_away |= bool(queue)
                # Rows beside those that end; only where more was submitted since the batch began.
                more = min(self.rows - len(places), len(queue) - int(ended.sum()))
                if more > 0:
                    batch.add_rows(more)
                    places = torch.cat([places, sequences.grow(places, more)])
                    drawn, ended = pad(drawn, (0, more)), pad(ended, (0, more), value=True)
                if more > 0 or int(ended.sum()) >= max(1, int(len(places) * _ENDED_SHARE)):
                    if queue:
                        rows, begun, fed = queue.refill(batch, ended.nonzero().squeeze(1))
                        drawn[rows], ended[rows] = fed, False
                        sequences.start(places[rows], begun)
                    if bool(ended.all()):
                        return
                    if bool(ended.any()):
                        order = batch.keep(~ended)
                        places, drawn, ended = places[order], drawn[order], ended[order]
            if gives_away and (tidied := batch.tidy()) is not None:
                places, drawn, ended = places[tidied], drawn[tidied], ended[tidied]
            self.decoder.advance(batch, drawn)

    def _cut(self, rollout: Rollout) -> Rollout:
        return rollout if self.stop_texts is None else self.stop_texts.cut(rollout)


class TransformersStream:
    """A `RolloutStream` that decodes inside of `take`.

    Samples of one kind (`masa.rollout.transformers.sequences.Kind`) are decoded together; those of another one wait
    until the batch has ended.

    Args:
        batches: how batches are decoded.
        statistics: is told of tokens and of the seconds that decoding took.
    """

    def __init__(self, batches: Batches, statistics: EngineStatistics) -> None:
        self._batches = batches
        self._statistics = statistics
        self._requests: list[RolloutRequest] = []
        self._waiting: dict[Kind, deque[Sample]] = {}
        self._running: Iterator[list[Finished]] | None = None
        self._stack = ExitStack()

    def submit(self, requests: Sequence[RolloutRequest]) -> range:
        first = len(self._requests)
        self._requests += requests
        size, equal_lengths = self._batches.rows, self._batches.decoder.equal_lengths
        for kind, samples in samples_by_kind(requests, first, size, equal_lengths=equal_lengths).items():
            self._waiting.setdefault(kind, deque()).extend(samples)
        return range(first, len(self._requests))

    def take(self) -> list[Finished]:
        started = time.perf_counter()
        found: list[Finished] = []
        while not found:
            self._running = self._running or self._next_batch()
            if self._running is None:
                break
            found = next(self._running, [])
            if not found:
                self._running = None
        self._statistics.sampled([[one.rollout for one in found]], time.perf_counter() - started)
        return found

    def __enter__(self) -> TransformersStream:
        self._stack.enter_context(sampling_alone(self._batches.decoder.model))
        if self._batches.linears is not None:
            self._stack.enter_context(self._batches.linears.used())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running, self._waiting = None, {}
        self._stack.close()

    def _next_batch(self) -> Iterator[list[Finished]] | None:
        """The next batch of the first kind that has samples: all of them where rows can be given away."""
        for (sampling, _), waiting in self._waiting.items():
            if waiting:
                samples = waiting
                if not self._batches.decoder.refills:
                    samples = deque(waiting.popleft() for _ in range(min(len(waiting), self._batches.rows)))
                return self._batches.decode(self._requests, samples, sampling)
        return None
