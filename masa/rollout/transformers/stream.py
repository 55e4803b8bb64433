"""The stream of the `transformers` engine: one batch of rows is decoded at a time, and its queue may grow.

Rows are given out in the order of submission. A stream decodes until something ends and rests there, so what is
submitted then stands in the queue at a moment that depends on the tokens drawn so far and on nothing else.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
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

    def decoding(self, requests: Sequence[RolloutRequest], waiting: deque[Sample], sampling: Sampling) -> Decoding:
        """A batch of the samples that are ``waiting``; more may be appended, and some be taken out, meanwhile."""
        return Decoding(self, requests, waiting, sampling)

    def cut(self, rollout: Rollout) -> Rollout:
        """A rollout up to the end that a text has made."""
        return rollout if self.stop_texts is None else self.stop_texts.cut(rollout)


class Decoding:
    """A batch under way: it decodes until something ends, and rests there."""

    def __init__(
        self, batches: Batches, requests: Sequence[RolloutRequest], waiting: deque[Sample], sampling: Sampling
    ) -> None:
        self._batches = batches
        self._decoder = batches.decoder
        self._requests = requests
        self._sampling = sampling
        self._queue = SampleQueue(batches.decoder, requests, waiting, batches.rows)
        self._resting: Tensor | None = None  # the tokens behind which it rests
        self._is_open = False

    @torch.inference_mode()
    def advance(self) -> list[Finished]:
        """What ends next; nothing where all samples have ended.

        Raises:
            RolloutError: the engine is closing.
        """
        if not self._is_open:
            self._open()
        while True:
            if self._resting is not None:
                drawn = self._make_room(self._resting)
                if drawn is None:
                    return []
                self._resting = None
                self._feed(drawn)
            if self._batches.closing.is_set():
                raise RolloutError("the engine was closed while it sampled")
            drawn, newly_ended, stopped = self._draw()
            if bool(newly_ended.any()):
                self._resting = drawn
                self._ended |= newly_ended
                places, by_stop = self._places[newly_ended], stopped[newly_ended]
                ended = self._sequences.ended(places, by_stop, self._requests, self._batches.weight_version)
                return [self._finished(sample, self._batches.cut(rollout)) for sample, rollout in ended]
            self._feed(drawn)

    @torch.inference_mode()
    def cancel(self, numbers: Collection[int]) -> list[Finished]:
        """Let the rows of these requests end; what they have drawn."""
        if not self._is_open:
            return []
        samples = [self._sequences.samples[place] for place in self._places.tolist()]
        theirs = torch.tensor([one is not None and one.request in numbers for one in samples], dtype=torch.bool)
        rows = theirs.to(self._ended.device) & ~self._ended
        self._ended |= rows
        aside = self._sequences.put_aside(self._places[rows], self._requests, self._batches.weight_version)
        return [self._finished(sample, rollout) for sample, rollout in aside]

    def _open(self) -> None:
        self._is_open = True
        device = self._batches.stop_ids.device
        longest = self._queue.longest
        self._batch, first = self._queue.open()
        self._sequences = Sequences(len(first), longest, device)
        self._places = torch.arange(len(first), device=device)  # batch row -> place in the sequences
        self._sequences.start(self._places, first)
        self._ended = torch.zeros(len(first), dtype=torch.bool, device=device)  # by batch row
        self._gives_away = bool(self._queue) or any(sample.begun is not None for sample in first)

    def _draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """The next token of each row, which rows end with it, and which of those by a stop and not by their limit."""
        places, texts = self._places, self._batches.stop_texts
        drawn, logprobs = draw_tokens(self._batch.logits, self._sequences.uniforms(places), self._sampling)
        stopped = torch.isin(drawn, self._batches.stop_ids)
        at_limit = self._sequences.add(places, drawn, logprobs)
        if texts is not None:
            stopped |= self._sequences.ended_by_text(places, self._ended | stopped, texts)
        return drawn, (at_limit | stopped) & ~self._ended, stopped

    def _make_room(self, drawn: Tensor) -> Tensor | None:
        """Give rows that have ended to samples that wait, or drop them; the tokens to feed, None: all have ended."""
        queue, rows = self._queue, self._batches.rows
        self._gives_away |= bool(queue)
        # Rows beside those that end; only where more was submitted since the batch began.
        more = min(rows - len(self._places), len(queue) - int(self._ended.sum()))
        if more > 0:
            self._batch.add_rows(more)
            self._places = torch.cat([self._places, self._sequences.grow(self._places, more)])
            drawn, self._ended = pad(drawn, (0, more)), pad(self._ended, (0, more), value=True)
        if more > 0 or int(self._ended.sum()) >= max(1, int(len(self._places) * _ENDED_SHARE)):
            if queue:
                given, begun, fed = queue.refill(self._batch, self._ended.nonzero().squeeze(1))
                drawn[given], self._ended[given] = fed, False
                self._sequences.start(self._places[given], begun)
            if bool(self._ended.all()):
                return None
            if bool(self._ended.any()):
                order = self._batch.keep(~self._ended)
                self._places, drawn, self._ended = self._places[order], drawn[order], self._ended[order]
        return drawn

    def _feed(self, drawn: Tensor) -> None:
        if self._gives_away and (order := self._batch.tidy()) is not None:
            self._places, drawn, self._ended = self._places[order], drawn[order], self._ended[order]
        self._decoder.advance(self._batch, drawn)

    def _finished(self, sample: Sample, rollout: Rollout) -> Finished:
        return Finished(sample.request, self._requests[sample.request], rollout)


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
        self._running: Decoding | None = None
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
            found = self._running.advance()
            if not found:
                self._running = None
        self._statistics.sampled([[one.rollout for one in found]], time.perf_counter() - started)
        return found

    def cancel(self, numbers: Collection[int]) -> list[Finished]:
        found = [] if self._running is None else self._running.cancel(numbers)
        for waiting in self._waiting.values():
            dropped = [sample for sample in waiting if sample.request in numbers]
            found += [self._finished(one) for one in dropped if one.begun is not None]
            kept = [sample for sample in waiting if sample.request not in numbers]
            waiting.clear()
            waiting.extend(kept)
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

    def _finished(self, sample: Sample) -> Finished:
        assert sample.begun is not None
        return Finished(sample.request, self._requests[sample.request], sample.begun)

    def _next_batch(self) -> Decoding | None:
        """The next batch of the first kind that has samples: all of them where rows can be given away."""
        for (sampling, _), waiting in self._waiting.items():
            if waiting:
                samples = waiting
                if not self._batches.decoder.refills:
                    samples = deque(waiting.popleft() for _ in range(min(len(waiting), self._batches.rows)))
                return self._batches.decoding(self._requests, samples, sampling)
        return None
