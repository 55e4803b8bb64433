"""Rollouts of one step: both paths at once, or metas first where their predictions decide about the solutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from masa.config import Config
from masa.controls.controls import Controls
from masa.controls.gating import GateDecision
from masa.controls.plan import (
    PredictedProblem,
    SolutionPlan,
    merge_parts,
    part_request,
    plan_solutions,
    solution_parts,
)
from masa.problems import Problem
from masa.problems.mixture import Sampler
from masa.rewards.grading import Grader
from masa.rollout.ahead import StepBatch
from masa.rollout.engine import RolloutEngine
from masa.rollout.requests import RequestBuilder
from masa.tracking.metrics import StepMetrics, timed


class Processes(Protocol):
    """What rolling out needs of a session: its engine and grader, and how work is shared among processes."""

    engine: RolloutEngine
    grader: Grader

    def share(self, problems: Sequence[Problem]) -> list[Problem]: ...

    def gather_objects(self, objects: list[Any]) -> list[Any]: ...


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
    seconds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: StepBatch) -> ShapedBatch:
        """``batch`` itself where controls shaped it, else the same without decisions."""
        return batch if isinstance(batch, cls) else cls(batch.problems, batch.mine, batch.rollouts)


def roll_out_together(
    step: int, sampler: Sampler, processes: Processes, builder: RequestBuilder, config: Config
) -> StepBatch:
    """G solutions and M metas of each problem of a batch, in one call to the engine."""
    return roll_out_problems(step, sampler.next_batch(), processes, builder, config)


def roll_out_problems(
    step: int, problems: list[Problem], processes: Processes, builder: RequestBuilder, config: Config
) -> StepBatch:
    """G solutions and M metas of each of ``problems``, in one call to the engine."""
    algorithm = config.algorithm
    mine = processes.share(problems)
    requests = builder.requests(
        mine,
        step=step,
        num_solutions=algorithm.num_solutions,
        num_metas=algorithm.num_metas if algorithm.meta else 0,
    )
    return StepBatch(problems, mine, processes.engine.generate(requests))


def roll_out_metas_first(
    step: int,
    sampler: Sampler,
    processes: Processes,
    builder: RequestBuilder,
    config: Config,
    controls: Controls,
) -> ShapedBatch:
    """M metas of each problem; then, for the problems that are not gated, G solutions under their plans.

    Every process knows all predictions, so all of them decide alike; solutions are shared out anew afterwards.
    """
    timings = StepMetrics()
    with timed(timings, "time/meta_rollout"):
        solve, gated, decisions = _select(step, sampler, processes, builder, config, controls)
    let_through = frozenset(id for one in decisions for id in one.let_through)
    # A cut solution counts as wrong: cutting what measures the gate would make its flags come true.
    plans = {
        one.problem.id: plan_solutions(
            one, step, controls.plan_settings, in_full=controls.measures_gate(one.problem, one.predictions, let_through)
        )
        for one in solve
    }
    problems = [one.problem for one in solve]
    mine = processes.share(problems)
    limit = config.rollout.max_solution_tokens
    parts = [part for problem in mine for part in solution_parts(plans[problem.id], limit)]
    with timed(timings, "time/solution_rollout"):
        requests = [part_request(part, builder, step) for part in parts]
        solutions = merge_parts(parts, processes.engine.generate(requests), limit)
    metas = {one.problem.id: list(one.metas) for one in solve}
    rollouts = [group for problem in mine for group in (solutions[problem.id], metas[problem.id])]
    return ShapedBatch(
        problems,
        mine,
        rollouts,
        gated,
        plans,
        audited=frozenset(id for one in decisions for id in one.audited),
        let_through=let_through,
        seconds=timings.flatten(),
    )


def _select(
    step: int,
    sampler: Sampler,
    processes: Processes,
    builder: RequestBuilder,
    config: Config,
    controls: Controls,
) -> tuple[list[PredictedProblem], list[PredictedProblem], list[GateDecision]]:
    """The problems to solve, the gated ones, and the gate's decision on each draw."""
    solve: list[PredictedProblem] = []
    gated: list[PredictedProblem] = []
    decisions: list[GateDecision] = []
    wanted = sampler.batch_size
    for gate_acts in controls.rounds:
        seen = {one.problem.id for one in (*solve, *gated)}
        wanted = min(wanted, len(sampler) - len(seen))
        if not wanted:
            break
        predicted = _predict(step, sampler.next_batch(wanted, beside=seen), processes, builder, config)
        decision = controls.decide(predicted, step) if gate_acts else GateDecision()
        withheld = set(decision.gated)
        decisions.append(decision)
        solve += [one for one in predicted if one.problem.id not in withheld]
        gated += [one for one in predicted if one.problem.id in withheld]
        wanted = len(withheld)
    return solve, gated, decisions


def _predict(
    step: int, problems: Sequence[Problem], processes: Processes, builder: RequestBuilder, config: Config
) -> list[PredictedProblem]:
    """The metas of ``problems`` and what they predict, on every process, in their order."""
    mine = processes.share(problems)
    requests = builder.requests(mine, step=step, num_solutions=0, num_metas=config.algorithm.num_metas)
    samples = processes.engine.generate(requests)
    own = [
        PredictedProblem(problem, tuple(metas), tuple(processes.grader.predictions(metas)))
        for problem, metas in zip(mine, samples, strict=True)
    ]
    found = {one.problem.id: one for one in processes.gather_objects(own)}
    return [found[problem.id] for problem in problems]
