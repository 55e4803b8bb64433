"""A step's batch and what controls decided about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from masa.controls.plan import PredictedProblem, SolutionPlan
from masa.controls.selection.selector import Evidence
from masa.problems import Problem
from masa.rollout.engine import Rollout


@dataclass(frozen=True)
class StepBatch:
    """A step's problems, those of them that this process has, and the rollouts of the latter (one group a request)."""

    problems: list[Problem]
    mine: list[Problem]
    rollouts: list[list[Rollout]]


@dataclass(frozen=True)
class ShapedBatch(StepBatch):
    """A step's batch with what controls decided about it; without decisions it is any step's batch.

    ``problems`` are those with solutions, ``gated`` those without, ``plans`` says how solutions were shaped, by
    problem id. ``audited`` and ``let_through`` name problems that were flagged and solved all the same, at random and
    for their doubt; the latter say nothing about the gate's precision. All of this is the same on every process;
    ``seconds`` are this process's own.
    """

    gated: list[PredictedProblem] = field(default_factory=list)
    plans: Mapping[str, SolutionPlan] = field(default_factory=dict)
    audited: frozenset[str] = frozenset()
    let_through: frozenset[str] = frozenset()
    flagged: frozenset[str] | None = None
    evidence: Evidence = field(default_factory=dict)
    prompts_read: tuple[int, ...] = ()
    uncounted_tokens: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: StepBatch) -> ShapedBatch:
        """``batch`` itself where controls shaped it, else the same without decisions."""
        return batch if isinstance(batch, cls) else cls(batch.problems, batch.mine, batch.rollouts)
