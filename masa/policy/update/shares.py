"""The rows of one update: who computes which, and the tokens of those that this process computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from masa.policy.batching.collate import TokenRow
from masa.policy.batching.workload import Workload
from masa.policy.objective.losses import contributing_rows
from masa.policy.objective.parameters import LossParameters
from masa.tokens.exchange import Place, Tokens, exchange


@dataclass(frozen=True)
class TrainingRow:
    """One rollout to learn from. ``masked`` rows count for nothing but the ``constant`` normaliser.

    The tokens and log-probs of a row that another process has sampled are `masa.tokens.elsewhere.Elsewhere`.
    """

    prompt_ids: Sequence[int]
    token_ids: Sequence[int]
    rollout_logprobs: Sequence[float]
    advantage: float
    masked: bool = False

    @property
    def counted_length(self) -> int:
        return 0 if self.masked else len(self.token_ids)

    def tokens(self) -> TokenRow:
        return TokenRow(self.prompt_ids, self.token_ids, [False] * len(self.token_ids) if self.masked else None)

    def uncounted(self) -> TrainingRow:
        """Its first token, counting for nothing: what a process without rows joins the collectives with."""
        return TrainingRow(self.prompt_ids, self.token_ids[:1], self.rollout_logprobs[:1], 0.0, masked=True)


@dataclass(frozen=True)
class Share:
    """All rows of an update; ``kept`` are the indices of those that contribute, ``work`` divides these.

    ``plan`` are the micro-batches of this process, as indices of ``rows``; of these, and of the first row where a
    micro-batch is empty, it has the tokens.
    """

    rows: Sequence[TrainingRow]
    kept: Sequence[int]
    work: Workload
    plan: Sequence[Sequence[int]]

    @property
    def lengths(self) -> list[int]:
        """Tokens that count in each row."""
        return [row.counted_length for row in self.rows]

    def chosen(self, batch: Sequence[int]) -> list[TrainingRow]:
        """The rows of a micro-batch, or what takes their place where it is empty."""
        return [self.rows[index] for index in batch] or [self.rows[0].uncounted()]


def share_rows(
    rows: Sequence[TrainingRow],
    loss: LossParameters,
    divide: Callable[[Sequence[TokenRow]], Workload],
    place: Place,
) -> Share:
    """Divide an update and bring the tokens of this process's rows; all processes call it together."""
    kept = contributing_rows([row.advantage for row in rows], [row.counted_length for row in rows], loss)
    work = divide([rows[index].tokens() for index in kept])
    plans = [[[kept[index] for index in batch] for batch in plan] for plan in work.plans]
    if place.processes > 1 and rows:
        wanted = [sorted({index for batch in plan for index in batch or [0]}) for plan in plans]
        found = exchange([Tokens(row.token_ids, row.rollout_logprobs) for row in rows], wanted, place)
        rows = list(rows)
        for index, one in found.items():
            rows[index] = replace(rows[index], token_ids=one.token_ids, rollout_logprobs=one.logprobs)
    return Share(rows, kept, work, plans[place.process])
