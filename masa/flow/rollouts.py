"""Rollouts of one step: both paths at once, or first what decides who is solved, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from masa.config import Config
from masa.controls.batch import ShapedBatch, StepBatch
from masa.controls.controls import Controls, Selected
from masa.controls.dealing import dealt
from masa.controls.plan import (
    PredictedProblem,
    SolutionPlan,
    merge_parts,
    part_request,
    plan_solutions,
    solution_parts,
)
from masa.controls.selection.selector import Evidence
from masa.problems import Problem
from masa.problems.mixture import Sampler
from masa.rewards.grading import Grader
from masa.rollout.engine import Rollout, RolloutEngine
from masa.rollout.requests import RequestBuilder
from masa.tracking.metrics import StepMetrics, timed


class Processes(Protocol):
    """What rolling out needs of a session: its engine and grader, and how work is shared among processes."""

    engine: RolloutEngine
    grader: Grader

    def share(self, problems: Sequence[Problem]) -> list[Problem]: ...

    def gather_objects(self, objects: list[Any]) -> list[Any]: ...

    def gather_statistics(self, own: list[PredictedProblem]) -> list[PredictedProblem]: ...

    def fetch(
        self, rollouts: Mapping[str, Sequence[Rollout]], order: Sequence[Problem]
    ) -> dict[str, list[Rollout]]: ...


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
    return StepBatch(problems, mine, processes.grader.sampled(processes.engine, mine, requests))


def roll_out_selected(
    step: int,
    sampler: Sampler,
    processes: Processes,
    builder: RequestBuilder,
    config: Config,
    controls: Controls,
) -> ShapedBatch:
    """First what decides who is solved, and how; then, for the problems that are not gated, their solutions.

    Every process knows all that is decided by, so all of them decide alike; solutions are shared out anew afterwards.
    """
    timings = StepMetrics()
    with timed(timings, "time/meta_rollout" if controls.metas_first else "time/selection"):
        selection = _Selection.of(step, sampler, processes, builder, config, controls)
        solve = selection.solve
        if controls.shapes and not selection.with_metas:
            solve = _predict(step, [one.problem for one in solve], processes, builder, controls)
    problems = [one.problem for one in solve]
    plans: dict[str, SolutionPlan] = {}
    with timed(timings, "time/solution_rollout"):
        if controls.metas_first:
            # A cut solution counts as wrong: cutting what measures the gate would make its flags come true.
            measuring = selection.flagged - selection.let_through
            plans = {
                one.problem.id: plan_solutions(one, step, controls.plan_settings, in_full=one.problem.id in measuring)
                for one in solve
            }
            mine, rollouts = _solve_as_planned(step, solve, plans, processes, builder, config)
        else:
            together = roll_out_problems(step, problems, processes, builder, config)
            mine, rollouts = together.mine, together.rollouts
    return ShapedBatch(
        problems,
        mine,
        rollouts,
        selection.gated,
        plans,
        audited=frozenset(id for one in selection.draws for id in one.decision.audited),
        let_through=selection.let_through,
        flagged=selection.flagged,
        evidence=selection.evidence.by_problem,
        prompts_read=selection.evidence.prompts_read,
        uncounted_tokens=selection.evidence.uncounted_tokens,
        seconds=timings.flatten(),
    )


def _solve_as_planned(
    step: int,
    solve: Sequence[PredictedProblem],
    plans: Mapping[str, SolutionPlan],
    processes: Processes,
    builder: RequestBuilder,
    config: Config,
) -> tuple[list[Problem], list[list[Rollout]]]:
    """This process's problems, and their solutions and metas."""
    limit = config.rollout.max_solution_tokens
    order = dealt(solve, limit, len(processes.gather_objects([None])))
    mine = processes.share(order)
    parts = [part for problem in mine for part in solution_parts(plans[problem.id], limit)]
    requests = [part_request(part, builder, step) for part in parts]
    solutions = merge_parts(parts, processes.grader.sampled(processes.engine, mine, requests), limit)
    # Metas are judged and trained on beside the solutions, so they follow the problem to who solves it.
    metas = processes.fetch({one.problem.id: one.metas for one in solve}, order)
    groups = (group for problem in mine for group in (solutions[problem.id], metas[problem.id]))
    # A problem that was judged by kept predictions has no metas.
    return mine, [group for group in groups if group]


@dataclass(frozen=True)
class _Evidence:
    """Numbers by problem id, and what they cost."""

    by_problem: Evidence = field(default_factory=dict)
    prompts_read: tuple[int, ...] = ()
    uncounted_tokens: int = 0

    def __add__(self, other: _Evidence) -> _Evidence:
        return _Evidence(
            {**self.by_problem, **other.by_problem},
            self.prompts_read + other.prompts_read,
            self.uncounted_tokens + other.uncounted_tokens,
        )


@dataclass(frozen=True)
class _Selection:
    """The problems to solve, the gated ones, and what was said of each draw."""

    solve: list[PredictedProblem]
    gated: list[PredictedProblem]
    draws: list[Selected]
    evidence: _Evidence
    with_metas: bool

    @classmethod
    def of(
        cls,
        step: int,
        sampler: Sampler,
        processes: Processes,
        builder: RequestBuilder,
        config: Config,
        controls: Controls,
    ) -> _Selection:
        """Draw problems until the batch is full, or as often as the controls say."""
        judges_without = controls.selector is not None and controls.selector.needs != "metas"
        with_metas = controls.metas_first and not judges_without
        found = cls([], [], [], _Evidence(), with_metas)
        evidence = found.evidence
        places = sampler.batch_size
        for acts in controls.rounds:
            seen = {one.problem.id for one in (*found.solve, *found.gated)}
            count = min(controls.candidates(places), len(sampler) - len(seen))
            if not count:
                break
            problems = sampler.next_batch(count, beside=seen)
            if with_metas:
                candidates = _predict(step, problems, processes, builder, controls)
            else:
                candidates = [PredictedProblem(problem, (), ()) for problem in problems]
            own = _evidence(step, problems, processes, builder, config, controls)
            selected = controls.select(candidates, own.by_problem, step, min(places, count), acts=acts)
            evidence += own
            withheld = set(selected.decision.gated)
            found.draws.append(selected)
            found.solve.extend(one for one in candidates if one.problem.id not in withheld)
            found.gated.extend(one for one in candidates if one.problem.id in withheld)
            places -= count - len(withheld)
            if places <= 0:
                break
        return cls(found.solve, found.gated, found.draws, evidence, with_metas)

    @property
    def flagged(self) -> frozenset[str]:
        return frozenset(id for one in self.draws for id in one.flagged)

    @property
    def let_through(self) -> frozenset[str]:
        return frozenset(id for one in self.draws for id in one.decision.let_through)


def _evidence(
    step: int,
    problems: Sequence[Problem],
    processes: Processes,
    builder: RequestBuilder,
    config: Config,
    controls: Controls,
) -> _Evidence:
    """What the selection method judges ``problems`` by beside metas, on every process."""
    needs = controls.selector.needs if controls.selector is not None else "nothing"
    if needs == "prompts":
        return _read_prompts(problems, processes, builder, controls)
    if needs == "solutions" and controls.selects:
        return _solve_beforehand(step, problems, processes, builder, config)
    return _Evidence()


def _read_prompts(
    problems: Sequence[Problem], processes: Processes, builder: RequestBuilder, controls: Controls
) -> _Evidence:
    """The policy's hidden states of the solution prompts."""
    if controls.read_prompts is None:
        raise ValueError("a selection method reads prompts, and the controls were given nothing that reads them")
    mine = processes.share(problems)
    prompts = [builder.prompt_ids(problem, "solution") for problem in mine]
    passes = max(processes.gather_objects([len(mine)]))
    states = controls.read_prompts(prompts, passes)
    own = [(problem.id, state, len(prompt)) for problem, state, prompt in zip(mine, states, prompts, strict=True)]
    read = {id: (state, length) for id, state, length in processes.gather_objects(own)}
    return _Evidence(
        {problem.id: read[problem.id][0] for problem in problems},
        prompts_read=tuple(read[problem.id][1] for problem in problems),
    )


def _solve_beforehand(
    step: int, problems: Sequence[Problem], processes: Processes, builder: RequestBuilder, config: Config
) -> _Evidence:
    """The rewards of the solutions that these problems would have, and the tokens that finding out took."""
    mine = processes.share(problems)
    requests = builder.requests(mine, step=step, num_solutions=config.algorithm.num_solutions, num_metas=0)
    groups = processes.grader.grade(mine, processes.grader.sampled(processes.engine, mine, requests))
    own = [
        (
            group.problem.id,
            [verdict.reward for verdict in group.verdicts],
            sum(len(one.token_ids) for one in group.solutions),
        )
        for group in groups
    ]
    found = {id: (rewards, tokens) for id, rewards, tokens in processes.gather_objects(own)}
    return _Evidence(
        {problem.id: found[problem.id][0] for problem in problems},
        uncounted_tokens=sum(tokens for _, tokens in found.values()),
    )


def _predict(
    step: int, problems: Sequence[Problem], processes: Processes, builder: RequestBuilder, controls: Controls
) -> list[PredictedProblem]:
    """The M metas of ``problems`` and what they predict, on every process, in their order.

    The tokens of metas stay where they were sampled. Predictions that the controls have kept are used again.
    """
    kept = {problem.id: controls.kept_predictions(step, problem.id) for problem in problems}
    mine = processes.share([problem for problem in problems if not kept[problem.id]])
    requests = builder.requests(mine, step=step, num_solutions=0, num_metas=controls.num_metas)
    samples = processes.engine.generate(requests)
    own = [
        PredictedProblem(problem, tuple(metas), tuple(processes.grader.predictions(metas)))
        for problem, metas in zip(mine, samples, strict=True)
    ]
    found = {one.problem.id: one for one in processes.gather_statistics(own)}
    return [
        PredictedProblem(problem, (), kept[problem.id]) if kept[problem.id] else found[problem.id]
        for problem in problems
    ]
