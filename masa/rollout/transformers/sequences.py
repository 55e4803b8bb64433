"""The sequences that are being decoded: whose each one is, and what it has drawn so far."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from masa.rollout.engine import FinishReason, Rollout, RolloutRequest, Sampling
from masa.rollout.stop_texts import StopTexts
from masa.rollout.transformers.sampling import uniform_streams
from masa.tokens.arrays import LogProbs, TokenIds

Kind = tuple[Sampling, int]
"""What samples that are decoded together have in common: sampling parameters, and their prompts' length or 0."""


@dataclass(frozen=True)
class Sample:
    """One sequence to decode: where it belongs and what it may use."""

    request: int
    index: int
    seed: int
    max_new_tokens: int
    begun: Rollout | None = None

    @property
    def read(self) -> tuple[int, int]:
        """What is read before its next token: equal for samples of a request that begin, its own where one goes on."""
        return self.request, -1 if self.begun is None else self.index


class Sequences:
    """Random numbers, tokens and log-probs of ``count`` sequences, each in a place that a later sample may take over.

    Args:
        count: how many sequences are decoded at a time, as long as `grow` is not called.
        longest: the largest ``max_new_tokens`` of the samples that are known.
        device: where logits are.
    """

    def __init__(self, count: int, longest: int, device: torch.device) -> None:
        self.samples: list[Sample | None] = [None] * count
        self._started = [0.0] * count
        self._steps = torch.zeros(count, dtype=torch.long, device=device)
        self._limits = torch.zeros(count, dtype=torch.long, device=device)
        self._uniforms = torch.zeros((count, longest), dtype=torch.float64, device=device)
        self._tokens = torch.zeros((count, longest), dtype=torch.long, device=device)
        self._logprobs = torch.zeros((count, longest), dtype=torch.float32, device=device)

    def start(self, places: Tensor, samples: Sequence[Sample]) -> None:
        """Let ``samples`` begin in ``places``."""
        device = self._uniforms.device
        longest = max(sample.max_new_tokens for sample in samples)
        self._resize(longer=max(0, longest - self._tokens.shape[1]), added=0)
        streams = uniform_streams([sample.seed for sample in samples], longest)
        self._uniforms[places, :longest] = streams.to(device)
        self._limits[places] = torch.tensor([sample.max_new_tokens for sample in samples], device=device)
        self._steps[places] = 0
        now = time.perf_counter()
        for place, sample in zip(places.tolist(), samples, strict=True):
            self.samples[place] = sample
            self._started[place] = now
            if sample.begun is not None:
                count = len(sample.begun.token_ids)
                self._steps[place] = count
                self._tokens[place, :count] = torch.tensor([*sample.begun.token_ids], device=device)
                self._logprobs[place, :count] = torch.tensor([*sample.begun.logprobs], device=device)

    def grow(self, taken: Tensor, more: int) -> Tensor:
        """So many places beside those that are ``taken``, for later samples."""
        used = set(taken.tolist())
        free = [place for place in range(len(self.samples)) if place not in used][:more]
        added = more - len(free)
        free += range(len(self.samples), len(self.samples) + added)
        self.samples += [None] * added
        self._started += [0.0] * added
        self._steps, self._limits = (pad(one, (0, added)) for one in (self._steps, self._limits))
        self._resize(longer=0, added=added)
        return torch.tensor(free, dtype=torch.long, device=taken.device)

    def uniforms(self, places: Tensor) -> Tensor:
        """The next random number of each sequence."""
        return self._uniforms[places, self._positions(places)]

    def add(self, places: Tensor, tokens: Tensor, logprobs: Tensor) -> Tensor:
        """Append one token to each sequence; which of them (bool) have thereby reached their limits."""
        positions = self._positions(places)
        self._tokens[places, positions] = tokens
        self._logprobs[places, positions] = logprobs
        self._steps[places] += 1
        return self._steps[places] == self._limits[places]

    def ended_by_text(self, places: Tensor, known: Tensor, texts: StopTexts) -> Tensor:
        """Which sequences (bool) end with the token that was added last; those ``known`` to have ended do not."""
        before = torch.arange(texts.window, 0, -1, device=places.device)
        columns = self._steps[places].unsqueeze(1) - before
        last = self._tokens[places.unsqueeze(1), columns.clamp(min=0, max=self._tokens.shape[1] - 1)]
        found = []
        rows = zip(known.tolist(), places.tolist(), self._steps[places].tolist(), last.tolist(), strict=True)
        for done, place, count, window in rows:
            likely = not done and texts.contained(window[-count:])
            found.append(likely and texts.contained(self._tokens[place, :count].tolist()))
        return torch.tensor(found, dtype=torch.bool, device=places.device)

    def ended(
        self, places: Tensor, by_stop: Tensor, requests: Sequence[RolloutRequest], weight_version: int
    ) -> Iterator[tuple[Sample, Rollout]]:
        """The sequences in ``places``, which have ended."""
        for place, stopped in zip(places.tolist(), by_stop.tolist(), strict=True):
            yield self._rollout(place, requests, weight_version, "stop" if stopped else "length")

    def put_aside(
        self, places: Tensor, requests: Sequence[RolloutRequest], weight_version: int
    ) -> Iterator[tuple[Sample, Rollout]]:
        """The sequences in ``places`` as far as they have come, which is one token at least."""
        for place in places.tolist():
            yield self._rollout(place, requests, weight_version, "aside")

    def _rollout(
        self, place: int, requests: Sequence[RolloutRequest], weight_version: int, reason: FinishReason
    ) -> tuple[Sample, Rollout]:
        sample, length = self.samples[place], int(self._steps[place])
        assert sample is not None
        request, seconds = requests[sample.request], time.perf_counter() - self._started[place]
        token_ids = TokenIds(self._tokens[place, :length].cpu())
        logprobs = LogProbs(self._logprobs[place, :length].cpu())
        if (begun := sample.begun) is not None:
            if length == len(begun.token_ids):
                return sample, begun
            seconds += begun.seconds
            found = begun.gone_on(token_ids, logprobs, weight_version, finish_reason=reason, seconds=seconds)
            return sample, found
        return sample, Rollout(
            problem_id=request.problem_id,
            path=request.path,
            index=sample.index,
            prompt_ids=request.prompt_ids,
            token_ids=token_ids,
            logprobs=logprobs,
            finish_reason=reason,
            weight_version=weight_version,
            seconds=seconds,
        )

    def _resize(self, *, longer: int, added: int) -> None:
        """Room for longer samples, and for more of them."""
        if longer or added:
            self._uniforms, self._tokens, self._logprobs = (
                pad(one, (0, longer, 0, added)) for one in (self._uniforms, self._tokens, self._logprobs)
            )

    def _positions(self, places: Tensor) -> Tensor:
        # A sequence that has ended may be carried along beyond its last position.
        return self._steps[places].clamp(max=self._tokens.shape[1] - 1)


def samples_by_kind(
    requests: Sequence[RolloutRequest], first: int, size: int, *, equal_lengths: bool
) -> dict[Kind, list[Sample]]:
    """The samples of requests, which are numbered from ``first``, in the order in which they get a row.

    Those of a kind can be decoded together: they share their sampling parameters and, with ``equal_lengths``, the
    number of tokens that are read of them. Where there are more than ``size`` of them, large limits come first, so
    that a long response does not begin last.
    """
    by_kind: dict[Kind, list[Sample]] = {}
    for number, request in enumerate(requests, first):
        for index, seed in enumerate(request.seeds):
            kind = request.sampling, len(request.read_by(index)) if equal_lengths else 0
            sample = Sample(number, index, seed, request.max_new_tokens, request.begun_of(index))
            by_kind.setdefault(kind, []).append(sample)
    for samples in by_kind.values():
        if len(samples) > size:
            samples.sort(key=lambda sample: sample.max_new_tokens, reverse=True)
    return by_kind
