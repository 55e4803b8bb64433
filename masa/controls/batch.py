"""A step's batch and what controls decided about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from masa.controls.plan import PredictedProblem, SolutionPlan
from masa.controls.selection.selector import Evidence
from masa.problems import Problem
from masa.rewards.early import EarlyVerdicts
from masa.rewards.grading import GradedGroup, Grader
from masa.rollout.engine import Rollout


@dataclass(frozen=True)
class StepBatch:
    """A step's problems, those of them that this process has, and the rollouts of the latter (one group a request).

    Where groups decided which problems are in the batch, ``graded`` has them, by problem id; ``early`` has verdicts on
    solutions that were verified while others were being sampled.
    """

    problems: list[Problem]
    mine: list[Problem]
    rollouts: list[list[Rollout]]
    graded: Mapping[str, GradedGroup] = field(default_factory=dict)
    early: EarlyVerdicts | None = field(default=None, compare=False)

    def grade(self, grader: Grader) -> list[GradedGroup]:
        """One group for each of this process's problems, in their order; each is graded once."""
        left = [problem for problem in self.mine if problem.id not in self.graded]
        found = grader.grade(left, self.rollouts, early=self.early) if left else []
        by_id = {**self.graded, **{group.problem.id: group for group in found}}
        return [by_id[problem.id] for problem in self.mine]


@dataclass(frozen=True)
class ShapedBatch(StepBatch):
    """A step's batch with what controls decided about it; without decisions it is any step's batch.

    ``problems`` are those with solutions, ``gated`` those without, ``plans`` says how solutions were shaped, by
    problem id. ``audited`` and ``let_through`` name problems that were flagged and solved all the same, at random and
    for their doubt; the latter say nothing about the gate's precision. ``rounds`` is the largest number of problems,
    one after the other, that a slot has taken. Of the problems that were in flight, ``went_on`` had begun in an earlier
    step, and ``put_aside`` were left to the next one, with so many tokens. ``controls_on`` and ``gate_open`` say how
    the controls were when the step began, None where nobody has said. All of this is the same on every process;
    ``waited`` (seconds for which sampling stood still for verdicts) and ``seconds`` are this process's own.
    """

    gated: list[PredictedProblem] = field(default_factory=list)
    plans: Mapping[str, SolutionPlan] = field(default_factory=dict)
    audited: frozenset[str] = frozenset()
    let_through: frozenset[str] = frozenset()
    flagged: frozenset[str] | None = None
    evidence: Evidence = field(default_factory=dict)
    prompts_read: tuple[int, ...] = ()
    uncounted_tokens: int = 0
    num_metas: int = 0
    controls_on: bool | None = None
    gate_open: bool | None = None
    rounds: int = 1
    went_on: int = 0
    put_aside: int = 0
    put_aside_tokens: int = 0
    waited: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: StepBatch) -> ShapedBatch:
        """``batch`` itself where controls shaped it, else the same without decisions."""
        return batch if isinstance(batch, cls) else cls(batch.problems, batch.mine, batch.rollouts)
