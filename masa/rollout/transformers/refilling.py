"""Which sample takes a row that has become free, and its prompt, which was read ahead.

Rows are given away in the order of the samples, at moments that depend on the tokens drawn so far and on nothing else:
the same requests are therefore decoded in the same batches each time, to the last bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from masa.rollout.engine import RolloutRequest
from masa.rollout.transformers.decoders import Batch, Decoder
from masa.rollout.transformers.sequences import Sample

# Prompts are read for so many of the samples to come at a time, as a share of the rows: a pass over a single prompt
# costs about as much as one over many, and prompts that wait take memory.
_AHEAD = 1 / 4


def prompts_ahead(rows: int) -> int:
    """The most prompts that wait beside a batch of so many rows."""
    return max(1, int(rows * _AHEAD))


class SampleQueue:
    """Samples that wait for a row of one batch, and the prompts of those that come next.

    Args:
        decoder: reads the prompts.
        requests: what samples belong to.
        waiting: all samples, in their order; those of a request stand together. More may be appended, and some be taken
            out, at any time.
        rows: how many sequences are decoded at a time.
    """

    def __init__(self, decoder: Decoder, requests: Sequence[RolloutRequest], waiting: deque[Sample], rows: int) -> None:
        self._decoder = decoder
        self._requests = requests
        self._waiting = waiting
        self.rows = rows
        self._ahead = prompts_ahead(rows)
        self._prompts: Batch | None = None
        self._row_of: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def longest(self) -> int:
        """The largest ``max_new_tokens`` of the samples that wait; 0 where none does."""
        return max((sample.max_new_tokens for sample in self._waiting), default=0)

    def open(self) -> tuple[Batch, list[Sample]]:
        """The batch of the first samples: each prompt is read once and its cache is shared out to its samples."""
        first = [self._waiting.popleft() for _ in range(min(self.rows, len(self._waiting)))]
        if goes_on := any(sample.begun is not None for sample in first):
            # The long ones first, as `Batch.tidy` has them: prompts stand beside samples that have come far.
            first.sort(key=lambda sample: len(self._read_by(sample)), reverse=True)
        row_of, batch = self._read(first)
        # What the request cut in two leaves behind is taken from its prompt, read again with others.
        batch.give_out(self._indices([row_of[sample.read] for sample in first]))
        if goes_on:
            batch.find_blocks()
        return batch, first

    def refill(self, batch: Batch, rows: Tensor) -> tuple[Tensor, list[Sample], Tensor]:
        """Give the first of ``rows`` to the samples that come next, as many as there are.

        Returns:
            the rows that were given away, their samples, and the token to feed to each: the last one of its prompt.
        """
        given: list[Sample] = []
        while self._waiting and len(given) < len(rows):
            if self._waiting[0].read not in self._row_of:
                upcoming = [self._waiting[place] for place in range(min(self._ahead, len(self._waiting)))]
                self._row_of, self._prompts = self._read(upcoming)
            assert self._prompts is not None
            taken: list[int] = []
            while self._waiting and len(given) < len(rows) and self._waiting[0].read in self._row_of:
                given.append(self._waiting.popleft())
                taken.append(self._row_of[given[-1].read])
            batch.refill(rows[len(given) - len(taken) : len(given)], self._prompts, self._indices(taken))
        if not self._waiting:
            self._prompts, self._row_of = None, {}
        fed = self._indices([self._read_by(sample)[-1] for sample in given])
        return rows[: len(given)], given, fed

    def _read(self, samples: Sequence[Sample]) -> tuple[dict[tuple[int, int], int], Batch]:
        """What is read of ``samples``, each prompt once: its row by `Sample.read`, and the batch."""
        distinct = {sample.read: sample for sample in samples}
        batch = self._decoder.prefill([self._read_by(distinct[read]) for read in sorted(distinct)])
        return {read: row for row, read in enumerate(sorted(distinct))}, batch

    def _read_by(self, sample: Sample) -> Sequence[int]:
        return self._requests[sample.request].read_by(sample.index)

    def _indices(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._decoder.model.device)
