"""The way of one problem through a step, and what waits for what.

    slot -> problem -> M metas -> decision ---------> G solutions -> verdicts -> graded group -> update
              ^                    | gate, budget,     each of them begins      |                (of the whole
              |                    | hint              when it has ended        | flat            batch)
              |                    v gated                                      v (dynamic sampling)
              +--- next problem of this slot <----------------------------------+

A step's batch is a set of slots, and each goes this way on its own: its solutions are submitted to the engine when its
metas have ended, its next problem when this one has turned out to teach nothing, while the engine samples for the other
slots. All slots wait for one another in one place, the update. A solution goes to the verifier when it has ended; a
verdict that decides something is waited for at a fixed moment (`masa.flow.schedule`).

What a slot takes next, which problems are audited, every seed and every decision follow from (run seed, step, slot,
round), from the problem's own rollouts, and from the controls as they were when the step began: never from what
happened to end first. With several processes each has slots of its own, and decides for them without the others. The
last problems may be left to the next step (`masa.flow.partial`): which ones, the engine's own output says, and not
the clock.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from masa.config import Config
from masa.controls.controls import Controls
from masa.controls.gating import Judgement
from masa.controls.plan import PredictedProblem, SolutionPlan, merge_parts, part_request, plan_solutions, solution_parts
from masa.controls.selection.selector import Evidence
from masa.flow.partial import Begun
from masa.flow.slots import Slot
from masa.problems import Problem
from masa.rewards.early import EarlyVerdicts
from masa.rewards.grading import GradedGroup, Grader, is_informative
from masa.rollout.engine import Rollout, RolloutRequest
from masa.rollout.requests import RequestBuilder

Samples = list[list[Rollout]]
Result = TypeVar("Result")
Waits = Generator[Sequence[RolloutRequest], Samples, Result]
"""What waits for samples of the requests that it yields, in their order. With no requests it waits for the moment at
which verdicts are looked at."""


@dataclass
class Record:
    """What has become of one slot: ``rounds`` that it took, and its problems by what was decided.

    ``undecided`` was flagged where gated problems are left out: whether it is solved depends on all other slots.
    ``informative`` groups, of those that were graded in the flow, teach something.
    ``rollouts`` (solutions and metas of each solved problem) and ``graded`` stay with the process that made them, and
    so do the solutions ``beforehand`` that showed what a problem is worth.
    ``begun``, too: what there is of a problem that may be put aside, from an earlier step where it ``went_on``;
    ``aside`` are its tokens if it was.
    """

    number: int
    rounds: int = 0
    solved: list[Problem] = field(default_factory=list)
    gated: list[PredictedProblem] = field(default_factory=list)
    undecided: PredictedProblem | None = None
    plans: dict[str, SolutionPlan] = field(default_factory=dict)
    judgements: dict[str, Judgement] = field(default_factory=dict)
    flagged: set[str] = field(default_factory=set)
    audited: set[str] = field(default_factory=set)
    evidence: dict[str, Sequence[float]] = field(default_factory=dict)
    uncounted_tokens: int = 0
    beforehand: dict[str, list[Rollout]] = field(default_factory=dict)
    informative: int = 0
    rollouts: dict[str, tuple[list[Rollout], list[Rollout]]] = field(default_factory=dict)
    graded: dict[str, GradedGroup] = field(default_factory=dict)
    begun: Begun | None = None
    went_on: bool = False
    aside: int | None = None

    def left_at(self, process: int) -> Record:
        """What other processes know of a slot of ``process``: all but tokens."""
        undecided = None if self.undecided is None else self.undecided.left_at(process)
        gated = [one.left_at(process) for one in self.gated]
        return replace(self, undecided=undecided, gated=gated, rollouts={}, graded={}, beforehand={}, begun=None)


class Ways:
    """The ways of a step's slots on one process.

    Args:
        step: its number.
        controls: what decides, as it was when the step began.
        decides: whether anything is decided before solutions are sampled; else both prompts go out at once.
        replaces_flat: dynamic sampling: a slot goes on where none of its groups teaches anything.
        counts: and what teaches something is counted, in a slot's last round as well.
        early: has solutions verified when they end; None: they are verified when they are graded.
        evidence: what judgements need of problems beside their own rollouts, by problem id; empty where nothing is.
    """

    def __init__(
        self,
        step: int,
        controls: Controls,
        config: Config,
        builder: RequestBuilder,
        grader: Grader,
        early: EarlyVerdicts | None,
        *,
        decides: bool,
        replaces_flat: bool,
        counts: bool,
        evidence: Evidence,
    ) -> None:
        self.decided_at = 0.0
        """When the last decision was taken, by `time.perf_counter`."""
        self.seconds_waited = 0.0
        """How long sampling has stood still for verdicts."""
        self._step = step
        self._controls = controls
        self._config = config
        self._builder = builder
        self._grader = grader
        self._early = early
        self._decides = decides
        self._replaces_flat = replaces_flat
        self._counts = counts
        self._evidence = evidence
        needs = controls.selector.needs if controls.selector is not None else "metas"
        self._plans = decides and controls.metas_first
        self._judges_by_metas = self._plans and needs == "metas"
        self._judges_by_solutions = decides and needs == "solutions"

    def slot(self, slot: Slot, record: Record) -> Waits[None]:
        """The way of one slot: problem after problem, until one is solved that teaches something."""
        for number, problems in enumerate(slot.rounds, 1):
            record.rounds, is_last = number, number == len(slot.rounds)
            solve = yield from self._decide(problems, record, is_last=is_last)
            if not solve:
                continue
            yield from self.solve(solve, record)
            if not self._replaces_flat or (is_last and not self._counts):
                return
            if (yield from self._teaches(problems, record)):
                return

    def go_on(self, begun: Begun, record: Record) -> Waits[None]:
        """The way of a problem that may be put aside: what is missing of it is sampled, and nothing is decided."""
        record.rounds, record.begun, record.went_on = 1, begun, begun.step < self._step
        whole = self._whole_requests([begun.problem], begun.step)
        for request in whole:
            for one in begun.of(request.path):
                if one is not None and one.has_ended:
                    self._grader.ended(self._early, {begun.problem.id: begun.problem}, request, one)
        if missing := begun.missing(whole):
            samples = yield missing
            record.begun = begun.with_requests(missing, samples)

    def solve(self, predicted: Sequence[PredictedProblem], record: Record, *, measures: bool = True) -> Waits[None]:
        """Solutions of problems that are not gated, shaped by their predictions; and metas where there are none yet.

        With ``measures`` flagged problems are solved in full: a cut solution counts as wrong, and cutting what measures
        the gate would make its flags come true.
        """
        problems = [one.problem for one in predicted]
        if self._plans:
            if self._controls.shapes and not self._judges_by_metas:
                predicted = yield from self._predict(problems)
            solutions = yield from self._solve_as_planned(predicted, record, measures)
            metas = {one.problem.id: list(one.metas) for one in predicted}
        else:
            solutions, metas = yield from self._sample_both(problems, record)
        for problem in problems:
            record.solved.append(problem)
            record.rollouts[problem.id] = solutions[problem.id], metas.get(problem.id, [])

    def _decide(self, problems: Sequence[Problem], record: Record, *, is_last: bool) -> Waits[list[PredictedProblem]]:
        """Those of the problems that are solved."""
        if not self._decides:
            return [PredictedProblem(problem, (), ()) for problem in problems]
        if self._judges_by_metas:
            predicted = yield from self._predict(problems)
        else:
            predicted = [PredictedProblem(problem, (), ()) for problem in problems]
        solve = []
        for one in predicted:
            id = one.problem.id
            evidence: Evidence = {id: self._evidence[id]} if id in self._evidence else {}
            if self._judges_by_solutions:
                evidence = yield from self._solve_beforehand(one.problem, record)
            if not self._is_gated(one, evidence, record, is_last=is_last):
                solve.append(one)
        self.decided_at = time.perf_counter()
        return solve

    def _is_gated(self, one: PredictedProblem, evidence: Evidence, record: Record, *, is_last: bool) -> bool:
        id = one.problem.id
        judgement = self._controls.judge(self._step, one, evidence)
        if judgement is None:
            return False
        record.judgements[id] = judgement
        if not judgement.flagged:
            return False
        record.flagged.add(id)
        if not self._controls.selects:
            return False
        if self._controls.is_audited(self._step, id):
            record.audited.add(id)
            return False
        if self._controls.leaves_out:
            record.undecided = one
            return True
        if not is_last:
            record.gated.append(one)
        return not is_last

    def _predict(self, problems: Sequence[Problem]) -> Waits[list[PredictedProblem]]:
        """The M metas of ``problems`` and what they predict; predictions that the controls have kept are used again."""
        kept = {problem.id: self._controls.kept_predictions(self._step, problem.id) for problem in problems}
        asked = [problem for problem in problems if not kept[problem.id]]
        metas: dict[str, list[Rollout]] = {}
        if asked:
            count = self._controls.num_metas
            requests = self._builder.requests(asked, step=self._step, num_solutions=0, num_metas=count)
            samples = yield requests
            metas = {problem.id: group for problem, group in zip(asked, samples, strict=True)}
        return [
            PredictedProblem(problem, (), kept[problem.id])
            if kept[problem.id]
            else PredictedProblem(problem, tuple(group := metas[problem.id]), tuple(self._grader.predictions(group)))
            for problem in problems
        ]

    def _solve_as_planned(
        self, predicted: Sequence[PredictedProblem], record: Record, measures: bool
    ) -> Waits[dict[str, list[Rollout]]]:
        settings, limit = self._controls.plan_settings, self._config.rollout.max_solution_tokens
        plans = [
            plan_solutions(one, self._step, settings, in_full=measures and one.problem.id in record.flagged)
            for one in predicted
        ]
        parts = [part for plan in plans for part in solution_parts(plan, limit)]
        samples = yield [part_request(part, self._builder, self._step) for part in parts]
        record.plans.update({plan.problem.id: plan for plan in plans})
        return merge_parts(parts, samples, limit)

    def _sample_both(
        self, problems: Sequence[Problem], record: Record
    ) -> Waits[tuple[dict[str, list[Rollout]], dict[str, list[Rollout]]]]:
        """G solutions and M metas of each problem, by problem id; solutions that are there beforehand are taken."""
        found: dict[str, dict[str, list[Rollout]]] = {"solution": {}, "meta": {}}
        requests = []
        for request in self._whole_requests(problems, self._step):
            if request.path == "solution" and request.problem_id in record.beforehand:
                found["solution"][request.problem_id] = taken = record.beforehand[request.problem_id]
                # They count as what they are now.
                record.uncounted_tokens -= sum(len(one.token_ids) for one in taken)
            else:
                requests.append(request)
        samples = (yield requests) if requests else []
        for request, group in zip(requests, samples, strict=True):
            found[request.path][request.problem_id] = group
        return found["solution"], found["meta"]

    def _whole_requests(self, problems: Sequence[Problem], step: int) -> list[RolloutRequest]:
        """G solutions and M metas of each problem, with the seeds of ``step``."""
        algorithm = self._config.algorithm
        return self._builder.requests(
            problems,
            step=step,
            num_solutions=algorithm.num_solutions,
            num_metas=algorithm.num_metas if algorithm.meta else 0,
        )

    def _solve_beforehand(self, problem: Problem, record: Record) -> Waits[dict[str, list[float]]]:
        """The rewards of the solutions that a problem would have; what finding out took is counted apart."""
        count = self._config.algorithm.num_solutions
        samples = yield self._builder.requests([problem], step=self._step, num_solutions=count, num_metas=0)
        (group,) = self._grade([problem], samples)
        record.beforehand[problem.id] = list(group.solutions)
        record.evidence[problem.id] = rewards = list(group.solution_rewards)
        record.uncounted_tokens += sum(len(one.token_ids) for one in group.solutions)
        return {problem.id: rewards}

    def _teaches(self, problems: Sequence[Problem], record: Record) -> Waits[bool]:
        """Whether one of the groups has solutions of different rewards."""
        yield ()
        groups = self._grade(problems, [group for one in problems for group in record.rollouts[one.id] if group])
        record.graded.update({group.problem.id: group for group in groups})
        informative = sum(map(is_informative, groups))
        record.informative += informative
        return informative > 0

    def _grade(self, problems: Sequence[Problem], rollouts: Sequence[Sequence[Rollout]]) -> list[GradedGroup]:
        started = time.perf_counter()
        groups = self._grader.grade(problems, rollouts, early=self._early)
        self.seconds_waited += time.perf_counter() - started
        return groups
