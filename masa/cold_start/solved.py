"""What solving a problem measured, as far as a cold start needs it: plain values, one JSON row a problem."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from masa.cold_start.notions import telling_notions
from masa.cold_start.written_metas import MeasuredFacts
from masa.config import Config
from masa.controls.expert import measured
from masa.problems import Problem
from masa.rewards.grading import GradedGroup
from masa.rewards.verdict import Verdict

# Of a problem's correct solutions so many are kept to be cloned.
_KEPT_SOLUTIONS = 4
# Verifiers that report the answer they read, and none where a response has none.
_SAYS_ANSWERS = ("math", "choice")

Judge = Callable[[Problem, Sequence[str]], list[Verdict]]


@dataclass(frozen=True)
class SolvedProblem:
    """One problem after its solutions were verified.

    ``pass_rate`` counts correct solutions out of ``prompts.pass_rate_total``, ``length`` is the median length of the
    correct ones in tokens (of all, where none is correct). ``solutions`` are token ids of correct ones that ended by
    themselves, ``worked`` is the worked solution of the data where there are none and the verifier accepts it.
    ``ends`` counts the tokens that ended solutions. ``unreadable`` counts solutions without a readable answer or
    that reached the response limit.
    """

    problem_id: str
    pass_rate: int
    length: int
    notions: tuple[str, ...]
    solutions: tuple[tuple[int, ...], ...]
    worked: str | None
    ends: Mapping[int, int]
    correct: int
    count: int
    unreadable: int
    tokens: int

    @property
    def facts(self) -> MeasuredFacts:
        """What its meta-prediction is to say."""
        return MeasuredFacts(self.pass_rate, self.length, self.notions)

    def row(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> SolvedProblem:
        """What `row` made."""
        return cls(
            **{
                **row,
                "notions": tuple(row["notions"]),
                "solutions": tuple(tuple(ids) for ids in row["solutions"]),
                "ends": {int(token): number for token, number in row["ends"].items()},
            }
        )


def solved_problem(group: GradedGroup, config: Config, judge: Judge) -> SolvedProblem:
    """What a cold start keeps of one graded group."""
    figures = measured(group, config.prompts.pass_rate_total)
    lengths = [len(one.token_ids) for one in group.solutions]
    right = [
        tuple(one.token_ids)
        for one, verdict in zip(group.solutions, group.verdicts, strict=True)
        if verdict.correct and one.finish_reason == "stop"
    ]
    says_answers = group.problem.verifier in _SAYS_ANSWERS
    return SolvedProblem(
        problem_id=group.problem.id,
        pass_rate=figures.pass_rate,
        length=figures.length if figures.length is not None else round(statistics.median(lengths)),
        notions=tuple(
            telling_notions(
                group.statistics,
                most=config.cold_start.max_notions,
                count=config.rewards.notion_count,
                match=config.rewards.notion_match,
            )
        ),
        # The shortest go first: what is said in few tokens is cheap to clone and to sample.
        solutions=tuple(sorted(set(right), key=lambda ids: (len(ids), ids))[:_KEPT_SOLUTIONS]),
        worked=None if right else _worked(group.problem, judge),
        ends=dict(Counter(one.token_ids[-1] for one in group.solutions if one.finish_reason == "stop")),
        correct=sum(bool(verdict.correct) for verdict in group.verdicts),
        count=len(group.solutions),
        unreadable=sum(
            one.truncated or (says_answers and not verdict.correct and not verdict.extracted)
            for one, verdict in zip(group.solutions, group.verdicts, strict=True)
        ),
        tokens=sum(lengths),
    )


def clones_solutions(switch: str, solved: Sequence[SolvedProblem]) -> bool:
    """Whether solutions are cloned beside meta-predictions (``cold_start.solutions``)."""
    if switch != "auto":
        return switch == "on"
    return sum(one.unreadable for one in solved) > 0.1 * sum(one.count for one in solved)


def _worked(problem: Problem, judge: Judge) -> str | None:
    text = (problem.solution or "").strip()
    return text if text and judge(problem, [text])[0].correct else None
