"""A step's batch, from the problems of its slots to what became of them: begun together, sampled alone, ended together.

`StepFlow.begin` and `StepFlow.finish` are called by all processes, in the main thread. `StepFlow.sample` may run in
another thread, while the policy is updated: it asks no other process anything, but for engines that several share.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from masa.config import Config
from masa.controls.batch import ShapedBatch
from masa.controls.controls import Controls
from masa.controls.dealing import dealt
from masa.controls.gating import GateDecision
from masa.controls.plan import PredictedProblem
from masa.controls.selection.selector import Evidence
from masa.flow.dynamic_sampling import DynamicSampling
from masa.flow.flow import Record, Waits, Ways
from masa.flow.partial import PATHS, Begun, PutAside, Quota
from masa.flow.schedule import Schedule
from masa.flow.slots import Slot, draw_slots, left_over
from masa.problems import Problem
from masa.problems.mixture import Sampler
from masa.rewards.early import EarlyVerdicts
from masa.rewards.grading import Grader
from masa.rollout.engine import RolloutEngine
from masa.rollout.requests import RequestBuilder
from masa.tokens.exchange import Place

One = TypeVar("One")


class Processes(Protocol):
    """What the flow needs of a session: its engine and grader, and how work is shared among processes."""

    engine: RolloutEngine
    grader: Grader
    controls: Controls
    dynamic_sampling: DynamicSampling | None

    @property
    def place(self) -> Place: ...

    def share(self, items: Sequence[One]) -> list[One]: ...

    def gather_objects(self, objects: list[Any]) -> list[Any]: ...


@dataclass(frozen=True)
class Start:
    """What a step begins with: its slots, those of this process, the controls, and what a ranking has decided."""

    step: int
    slots: list[Slot]
    mine: list[Slot]
    controls: Controls
    decides: bool
    replaces_flat: bool
    began: float
    ranked: GateDecision = field(default_factory=GateDecision)
    gated: tuple[PredictedProblem, ...] = ()
    evidence: Evidence = field(default_factory=dict)
    prompts_read: tuple[int, ...] = ()
    begun: tuple[Begun, ...] = ()
    """With stragglers that are put aside: what there is of the problem of each of ``mine``."""
    quota: Quota | None = None

    @property
    def is_open(self) -> bool:
        """Whether it depends on rollouts which problems are in the batch, or how they were sampled."""
        return self.decides or self.replaces_flat or self.quota is not None


@dataclass(frozen=True)
class Made:
    """What this process has sampled: a record of each of its slots."""

    records: list[Record]
    early: EarlyVerdicts | None
    waited: float
    seconds: Mapping[str, float]


class StepFlow:
    """Makes the batch of one step after the other.

    Args:
        sampler: what problems are drawn from.
        processes: an open session.
        steps_ahead: whether steps are sampled while controls learn from earlier ones.
        put_aside: the problems that are not waited for in their step; None: a step waits for all.
    """

    def __init__(
        self,
        sampler: Sampler,
        processes: Processes,
        builder: RequestBuilder,
        config: Config,
        *,
        steps_ahead: bool = False,
        put_aside: PutAside | None = None,
    ) -> None:
        self._sampler = sampler
        self._processes = processes
        self._builder = builder
        self._config = config
        self._steps_ahead = steps_ahead
        self._put_aside = put_aside

    def begin(self, step: int) -> Start:
        """Draw the step's problems; those that slots do not come to go back in `finish`, before the next step's."""
        began = time.perf_counter()
        controls = self._processes.controls
        if self._steps_ahead:
            controls = controls.at_this_moment()
        decides, places = controls.decides_first, self._sampler.batch_size
        if self._put_aside is not None:
            return self._begin_partial(step, controls, began, self._put_aside)
        if decides and controls.selector is not None and controls.selector.ranks:
            return self._begin_ranked(step, controls, began)
        dynamic = self._processes.dynamic_sampling
        if dynamic is not None:
            later = dynamic.later_rounds(places)
        else:
            later = [[1] * count for count in controls.gatings(step, places)] if decides else [[]] * places
        slots = draw_slots(self._sampler, places, later)
        evidence: Evidence = {}
        read: tuple[int, ...] = ()
        if decides and _reads_prompts(controls):
            evidence, read = self._read_prompts([one for slot in slots for one in slot.problems], controls)
        mine = self._share(step, slots, controls)
        return Start(
            step,
            slots,
            mine,
            controls,
            decides=decides,
            replaces_flat=dynamic is not None,
            began=began,
            evidence=evidence,
            prompts_read=read,
        )

    def sample(self, start: Start) -> Made:
        """Roll out this process's slots."""
        grader = self._processes.grader
        early = grader.open_early()
        try:
            ways = self._ways(start, early)
            # What measures a ranking is solved in full, like a flagged problem that measures a gate.
            audited = set(start.ranked.audited)
            records = [Record(slot.number, flagged=audited & {one.id for one in slot.rounds[0]}) for slot in start.mine]
            problems = {one.id: one for slot in start.mine for one in slot.problems}
            with self._processes.engine.stream() as stream:
                schedule = Schedule(
                    stream,
                    lambda one: grader.ended(early, problems, one.request, one.rollout),
                    lag=self._config.algorithm.num_solutions,
                )
                if start.quota is None:
                    schedule.run([ways.slot(slot, record) for slot, record in zip(start.mine, records, strict=True)])
                else:
                    going_on = [ways.go_on(one, record) for one, record in zip(start.begun, records, strict=True)]
                    _sample_partly(schedule, going_on, records, start.quota)
        finally:
            grader.close_early(early)
        return Made(records, early, ways.seconds_waited, _seconds(start, ways))

    def finish(self, start: Start, made: Made) -> ShapedBatch:
        """What all processes have sampled, as one batch; only rollouts stay where they were made."""
        let_through: frozenset[str] = frozenset()
        seconds = dict(made.seconds)
        records = self._gathered(start, made)
        if any(record.undecided is not None for record in records):
            began = time.perf_counter()
            let_through = self._leave_out(start, made, records)
            seconds["time/solution_rollout"] += time.perf_counter() - began
            records = self._gathered(start, made)
        dynamic = self._processes.dynamic_sampling
        if dynamic is not None and self._steps_ahead:
            dynamic.ahead.append(sum(record.informative for record in records))
        if self._put_aside is not None:
            aside = [record for record in made.records if record.aside is not None]
            self._put_aside.waiting = [record.begun for record in aside if record.begun is not None]
        taken = [record.rounds for record in records]
        self._sampler.put_back(left_over(start.slots, taken))
        mine = [problem for record in made.records for problem in record.solved]
        rollouts = {id: found for record in made.records for id, found in record.rollouts.items()}
        groups = [rollouts[problem.id][path] for path in (0, 1) for problem in mine]
        return ShapedBatch(
            [problem for record in records for problem in record.solved],
            mine,
            [group for group in groups if group],
            {id: group for record in made.records for id, group in record.graded.items()},
            made.early,
            gated=[*start.gated, *(one for record in records for one in record.gated)],
            plans={id: plan for record in records for id, plan in record.plans.items()},
            audited=frozenset(start.ranked.audited).union(*(record.audited for record in records)),
            let_through=let_through,
            flagged=self._flagged(start, records) if start.decides else None,
            evidence={**start.evidence, **{id: one for record in records for id, one in record.evidence.items()}},
            prompts_read=start.prompts_read,
            uncounted_tokens=sum(record.uncounted_tokens for record in records),
            num_metas=start.controls.num_metas,
            controls_on=start.controls.is_on,
            gate_open=start.controls.gate.is_open if start.controls.gate is not None else None,
            rounds=max(taken),
            went_on=sum(record.went_on for record in records),
            put_aside=sum(record.aside is not None for record in records),
            put_aside_tokens=sum(record.aside or 0 for record in records),
            waited=made.waited,
            seconds=seconds,
        )

    def _begin_partial(self, step: int, controls: Controls, began: float, put_aside: PutAside) -> Start:
        """What waits goes on first, and beside it as many fresh problems as keep the same number in flight."""
        algorithm = self._config.algorithm
        num_metas = algorithm.num_metas if algorithm.meta else 0
        wanted = len(self._processes.share(range(self._sampler.batch_size)))
        assigned = put_aside.deal(wanted, self._drawn_beside, self._processes.gather_objects, self._processes.place)
        begun = [
            one if isinstance(one, Begun) else Begun.at(step, one, algorithm.num_solutions, num_metas)
            for _, one in assigned
        ]
        mine = [Slot(number, ((one.problem,),)) for (number, _), one in zip(assigned, begun, strict=True)]
        quota = put_aside.quota(step, wanted)
        return Start(
            step,
            mine,
            mine,
            controls,
            decides=False,
            replaces_flat=False,
            began=began,
            begun=tuple(begun),
            quota=quota,
        )

    def _drawn_beside(self, count: int, ids: Sequence[str]) -> list[Problem]:
        """So many fresh problems, or as many as there are."""
        available = min(count, len(self._sampler) - len(ids))
        return self._sampler.next_batch(available, beside=set(ids)) if available else []

    def _begin_ranked(self, step: int, controls: Controls, began: float) -> Start:
        """The selection method ranks a draw of candidates before anything is sampled; the nearest ones get slots."""
        places = self._sampler.batch_size
        candidates = self._sampler.next_batch(min(controls.candidates(places), len(self._sampler)))
        evidence: Evidence = {}
        read: tuple[int, ...] = ()
        if _reads_prompts(controls):
            evidence, read = self._read_prompts(candidates, controls)
        # Unlike machines may round a ranking differently; the first process's holds for all.
        own = controls.rank(step, candidates, evidence, min(places, len(candidates)))
        ranked = self._processes.gather_objects([own])[0]
        withheld = set(ranked.gated)
        chosen = [problem for problem in candidates if problem.id not in withheld]
        slots = [Slot(number, ((problem,),)) for number, problem in enumerate(chosen)]
        gated = tuple(PredictedProblem(one, (), ()) for one in candidates if one.id in withheld)
        mine = self._share(step, slots, controls)
        return Start(
            step,
            slots,
            mine,
            controls,
            decides=True,
            replaces_flat=False,
            began=began,
            ranked=ranked,
            gated=gated,
            evidence=evidence,
            prompts_read=read,
        )

    def _read_prompts(self, problems: Sequence[Problem], controls: Controls) -> tuple[Evidence, tuple[int, ...]]:
        """The policy's hidden states of the solution prompts, and the prompts' lengths, on every process."""
        if controls.read_prompts is None:
            raise ValueError("a selection method reads prompts, and the controls were given nothing that reads them")
        mine = self._processes.share(problems)
        prompts = [self._builder.prompt_ids(problem, "solution") for problem in mine]
        passes = max(self._processes.gather_objects([len(mine)]))
        states = controls.read_prompts(prompts, passes)
        own = [(problem.id, state, len(prompt)) for problem, state, prompt in zip(mine, states, prompts, strict=True)]
        read = {id: (state, length) for id, state, length in self._processes.gather_objects(own)}
        return {problem.id: read[problem.id][0] for problem in problems}, tuple(
            read[problem.id][1] for problem in problems
        )

    def _share(self, step: int, slots: list[Slot], controls: Controls) -> list[Slot]:
        """This process's slots: dealt by the lengths of predictions that are known before the step, if any are."""
        first = [slot.rounds[0][0] for slot in slots]
        known = [PredictedProblem(one, (), controls.kept_predictions(step, one.id)) for one in first]
        if any(one.predictions for one in known):
            limit = self._config.rollout.max_solution_tokens
            of = dict(zip((one.id for one in first), slots, strict=True))
            slots = [of[problem.id] for problem in dealt(known, limit, self._processes.place.processes)]
        return self._processes.share(slots)

    def _ways(self, start: Start, early: EarlyVerdicts | None) -> Ways:
        return Ways(
            start.step,
            start.controls,
            self._config,
            self._builder,
            self._processes.grader,
            early,
            decides=start.decides,
            replaces_flat=start.replaces_flat,
            counts=start.replaces_flat and self._steps_ahead,
            evidence=start.evidence,
        )

    def _gathered(self, start: Start, made: Made) -> list[Record]:
        """The records of all slots in their order; those of other processes without tokens."""
        if not start.is_open:
            return [Record(slot.number, rounds=1, solved=list(slot.rounds[0])) for slot in start.slots]
        place = self._processes.place
        own = {record.number: record for record in made.records}
        if place.processes == 1:
            everyone = made.records
        else:
            everyone = self._processes.gather_objects([record.left_at(place.process) for record in made.records])
        return sorted((own.get(one.number, one) for one in everyone), key=lambda record: record.number)

    def _leave_out(self, start: Start, made: Made, records: Sequence[Record]) -> frozenset[str]:
        """Decide which flagged problems are left out, now that all judgements are known; the others are solved."""
        judgements = {id: one for record in records for id, one in record.judgements.items()}
        decision = start.controls.decide(start.step, judgements)
        gated, ways, own = set(decision.gated), self._ways(start, None), []
        for record in made.records:
            one, record.undecided = record.undecided, None
            if one is not None and one.problem.id in gated:
                record.gated.append(one)
            elif one is not None:
                own.append(ways.solve([one], record, measures=False))
        if decision.let_through:
            with self._processes.engine.stream() as stream:
                Schedule(stream, lambda one: None, lag=0).run(own)
        return frozenset(decision.let_through)

    def _flagged(self, start: Start, records: Sequence[Record]) -> frozenset[str]:
        ranked = (*start.ranked.gated, *start.ranked.audited)
        return frozenset(ranked).union(*(record.flagged for record in records))


def _sample_partly(schedule: Schedule, ways: Sequence[Waits[None]], records: Sequence[Record], quota: Quota) -> None:
    """Run ``ways`` until the quota is met: the problems that it takes are solved, what there is of others is noted."""

    def whole() -> list[Begun]:
        return [one.begun for one in records if one.begun is not None and one.begun.is_whole]

    stopped = schedule.run(ways, lambda: quota.is_met(one.problem.id for one in whole()))
    record_of = {id(way): record for way, record in zip(ways, records, strict=True)}
    for waiting in stopped:
        record = record_of[id(waiting.way)]
        assert record.begun is not None
        record.begun = record.begun.with_requests(waiting.collected.requests, waiting.collected.samples)
    chosen = {one.problem.id for one in quota.chosen(whole())}
    for record in records:
        begun = record.begun
        assert begun is not None
        if begun.problem.id in chosen:
            record.solved.append(begun.problem)
            record.rollouts[begun.problem.id] = begun.rollouts("solution"), begun.rollouts("meta")
        else:
            record.aside = sum(len(one.token_ids) for path in PATHS for one in begun.rollouts(path))


def _reads_prompts(controls: Controls) -> bool:
    return controls.selector is not None and controls.selector.needs == "prompts"


def _seconds(start: Start, ways: Ways) -> dict[str, float]:
    """Seconds of this process until the last decision, and from it to the last rollout; of a step that decides."""
    if not start.decides:
        return {}
    now = time.perf_counter()
    decided = ways.decided_at or now
    deciding = "time/meta_rollout" if start.controls.metas_first else "time/selection"
    return {deciding: decided - start.began, "time/solution_rollout": now - decided}
