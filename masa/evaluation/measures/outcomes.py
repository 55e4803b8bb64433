"""What an evaluation knows of one problem after its samples were scored; every metric is computed from these alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from masa.problems.problem import Problem
    from masa.rewards.alignment import MetaReward
    from masa.rewards.grading import GradedGroup
    from masa.rewards.meta_prediction import MetaPrediction
    from masa.rewards.notions import NotionMatch
    from masa.rewards.verdict import Verdict


@dataclass(frozen=True)
class MetaOutcome:
    """One meta-prediction and its rewards; what could not be read is None.

    ``notions_kept`` are the predicted notions that do not occur in the problem, ``notions_right`` those of them that
    r_notion counts (in more correct than incorrect solutions).
    """

    pass_rate: float | None
    length: int | None
    complete: bool
    notions_kept: int
    notions_right: int
    r_length: float
    r_difficulty: float
    r_notion: float
    r_meta: float


@dataclass(frozen=True)
class Outcome:
    """One problem: its n solutions (correct, extracted answer, length in tokens, truncated) and its metas."""

    problem: str
    source: str
    correct: tuple[bool, ...]
    answers: tuple[str | None, ...]
    lengths: tuple[int, ...]
    truncated: tuple[bool, ...]
    metas: tuple[MetaOutcome, ...] = ()

    @property
    def pass_rate(self) -> float:
        return sum(self.correct) / len(self.correct)

    @property
    def correct_lengths(self) -> tuple[int, ...]:
        return tuple(length for length, right in zip(self.lengths, self.correct, strict=True) if right)

    @property
    def predicted_pass_rates(self) -> tuple[float, ...]:
        return tuple(meta.pass_rate for meta in self.metas if meta.pass_rate is not None)

    @property
    def predicted_lengths(self) -> tuple[int, ...]:
        return tuple(meta.length for meta in self.metas if meta.length is not None)

    def row(self) -> dict[str, Any]:
        """The outcome as JSON values."""
        return asdict(self)


def outcome_from_row(row: Mapping[str, Any]) -> Outcome:
    """The outcome that ``Outcome.row`` wrote; further keys are left aside.

    Raises:
        KeyError: a key of an outcome is missing.
    """
    return Outcome(
        problem=row["problem"],
        source=row["source"],
        correct=tuple(row["correct"]),
        answers=tuple(row["answers"]),
        lengths=tuple(row["lengths"]),
        truncated=tuple(row["truncated"]),
        metas=tuple(MetaOutcome(**meta) for meta in row["metas"]),
    )


def make_outcome(
    problem: Problem,
    verdicts: Sequence[Verdict],
    *,
    lengths: Sequence[int],
    truncated: Sequence[bool],
    predictions: Sequence[MetaPrediction],
    rewards: Sequence[MetaReward],
    match: NotionMatch = "form",
) -> Outcome:
    """The outcome of one problem; ``lengths`` in tokens and ``truncated`` go with ``verdicts``.

    ``match`` is that of r_notion: which notions are the same.
    """
    from masa.rewards.notions import notion_form, notions_in_texts

    forms = [{notion_form(notion, match) for notion in prediction.notions or ()} - {()} for prediction in predictions]
    given = notions_in_texts(set().union(*forms), [problem.statement], match)[0] if any(forms) else frozenset()
    metas = []
    for prediction, reward, own in zip(predictions, rewards, forms, strict=True):
        kept = own - given
        metas.append(
            MetaOutcome(
                pass_rate=prediction.pass_rate,
                length=prediction.length,
                complete=prediction.complete,
                notions_kept=len(kept),
                # r_notion is the mean over the kept notions of 0 or 1.
                notions_right=round(reward.notion * len(kept)),
                r_length=reward.length,
                r_difficulty=reward.difficulty,
                r_notion=reward.notion,
                r_meta=reward.total,
            )
        )
    return Outcome(
        problem=problem.id,
        source=problem.source,
        correct=tuple(bool(verdict.correct) for verdict in verdicts),
        answers=tuple(verdict.extracted for verdict in verdicts),
        lengths=tuple(lengths),
        truncated=tuple(truncated),
        metas=tuple(metas),
    )


def outcome_of(group: GradedGroup) -> Outcome:
    """The outcome of one graded problem."""
    return make_outcome(
        group.problem,
        group.verdicts,
        lengths=[len(solution.token_ids) for solution in group.solutions],
        truncated=[solution.truncated for solution in group.solutions],
        predictions=group.predictions,
        rewards=group.meta_rewards,
        match=group.notion_match,
    )


def by_source(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """The outcomes of each source, in the order in which sources first occur."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.source, []).append(outcome)
    return groups
