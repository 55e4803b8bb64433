"""A step of training on simulated engines and verifiers (`step_events.py`), and the update behind them.

`scripts/simulate_step.py` asks it about many GPUs, `scripts/measure_step.py` compares it with a run that was measured.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

from step_events import Clock, Engine, Machine, Verifier
from step_padding import PaddedEngine


@dataclass(frozen=True)
class Job:
    """What a step samples, in tokens and seconds."""

    problems: int = 128
    solutions: int = 16
    metas: int = 8
    solution_tokens: float = 6251.0
    meta_tokens: float = 2293.0
    limit: int = 16384
    problem_spread: float = 0.4
    sample_spread: float = 0.4
    gated: float = 0.37
    cutoff: float = 2.0
    verdict_seconds: float = 0.2
    hanging: float = 0.01
    hanging_seconds: float = 5.0


@dataclass(frozen=True)
class Plan:
    """How a step is laid out; ``partial`` is the share of the problems in flight that ends it."""

    streams: bool
    controls: bool
    partial: float = 1.0
    max_age: int = 2

    @property
    def name(self) -> str:
        parts = ["streams" if self.streams else "walls", "controls" if self.controls else "no controls"]
        return ", ".join(parts + ([f"partial {self.partial:g}"] if self.partial < 1 else []))


@dataclass(frozen=True)
class Step:
    """``idle``: the share of GPU time without a sequence or an update; ``in_flight``: sequences at once, of a GPU."""

    seconds: float
    sampling: float
    idle: float
    in_flight: float
    tokens: int


@dataclass(frozen=True)
class Sampled:
    """One problem's lengths, and the seconds that its verdicts take; no solutions where it is gated."""

    metas: tuple[float, ...]
    solutions: tuple[float, ...]
    verdicts: tuple[float, ...]
    meta_prompt: float = 0.0
    solution_prompt: float = 0.0


def draw(job: Job, controls: bool, seed: int) -> list[Sampled]:
    """A step's problems. The same seed gives the same lengths whatever the controls then leave out or cut."""
    scale = mean_scale(job)
    found = []
    for number in range(job.problems):
        generator = random.Random(f"{seed}/{number}")
        problem = generator.lognormvariate(0.0, job.problem_spread)
        factors = [generator.lognormvariate(0.0, job.sample_spread) for _ in range(job.solutions + job.metas)]
        solutions = [min(job.limit, job.solution_tokens * scale * problem * one) for one in factors[: job.solutions]]
        metas = [min(job.limit, job.meta_tokens * scale * one) for one in factors[job.solutions :]]
        verdicts = [job.hanging_seconds if generator.random() < job.hanging else job.verdict_seconds for _ in solutions]
        gated = generator.random() < job.gated
        if controls:
            predicted = job.solution_tokens * scale * problem
            solutions = [] if gated else [min(one, job.cutoff * predicted) for one in solutions]
        found.append(Sampled(tuple(metas), tuple(solutions), tuple(verdicts[: len(solutions)])))
    return found


@cache
def mean_scale(job: Job) -> float:
    """What the mean length is to be multiplied by so that lengths have that mean after factors and limit."""
    generator = random.Random(0)
    spread = (job.problem_spread**2 + job.sample_spread**2) ** 0.5
    factors = [generator.lognormvariate(0.0, spread) for _ in range(20000)]
    low, high = 0.1, 2.0
    for _ in range(40):
        middle = (low + high) / 2
        mean = statistics.fmean(min(job.limit, job.solution_tokens * middle * one) for one in factors)
        low, high = (middle, high) if mean < job.solution_tokens else (low, middle)
    return low


@dataclass(frozen=True)
class Part:
    """What is left of a sample, in tokens, beside those that were drawn; ``verdict``: the seconds of a solution's."""

    tokens: float
    verdict: float | None = None
    drawn: float = 0.0


@dataclass
class Flight:
    """A problem in flight, and what is left of its metas and solutions."""

    sampled: Sampled
    step: int
    parts: list[Part]

    @classmethod
    def of(cls, sampled: Sampled, step: int) -> Flight:
        solutions = zip(sampled.solutions, sampled.verdicts, strict=True)
        return cls(sampled, step, [*map(Part, sampled.metas), *(Part(*one) for one in solutions)])

    @property
    def metas(self) -> list[Part]:
        return [one for one in self.parts if one.verdict is None]

    @property
    def solutions(self) -> list[Part]:
        return [one for one in self.parts if one.verdict is not None]

    @property
    def tokens(self) -> float:
        return sum((*self.sampled.metas, *self.sampled.solutions))

    def prompt(self, part: Part) -> float:
        """Tokens of the prompt of one of the parts."""
        return self.sampled.meta_prompt if part.verdict is None else self.sampled.solution_prompt

    @property
    def to_read(self) -> list[float]:
        """Lengths of what engines read: of a sample that goes on its prompt and tokens, other prompts once each."""
        going_on = [self.prompt(one) + one.drawn for one in self.parts if one.drawn]
        fresh = {one.verdict is None: self.prompt(one) for one in self.parts if not one.drawn}
        return [*going_on, *fresh.values()]


class Run:
    """One step under way: what is to be done when something has ended.

    Args:
        wanted: how many of the flights the step trains on.
        overdue: the flights that it waits for in any case.
    """

    def __init__(
        self,
        job: Job,
        machine: Machine,
        plan: Plan,
        flights: Sequence[Flight],
        wanted: int,
        overdue: Sequence[Flight] = (),
    ) -> None:
        self.job, self.machine, self.plan, self.flights, self.wanted = job, machine, plan, flights, wanted
        self.clock = Clock()
        engine = PaddedEngine if machine.pads else Engine
        self.engines = [engine(self.clock, machine) for _ in range(machine.gpus)]
        self.verifier = Verifier(self.clock, machine.workers_per_gpu * machine.gpus)
        self.sampled_at = 0.0
        self.whole: list[int] = []
        self.open_metas = sum(len(one.metas) for one in flights)
        self.open_verdicts = 0
        self._overdue = {number for number, one in enumerate(flights) if any(one is other for other in overdue)}
        self._left = [len(one.parts) for one in flights]
        self._left_metas = [len(one.metas) for one in flights]
        self._unverified: list[float] = []
        self._sent: dict[int, tuple[int, Part]] = {}  # by its serial: the flight, and what is left of the sample

    def begin(self) -> None:
        for number, flight in enumerate(self.flights):
            for part in flight.metas:
                self._send(number, part)
            if not self._left[number]:
                self.whole.append(number)
        for number in range(len(self.flights)):
            if not self.plan.controls:
                self._solve(number)

    def put_aside(self) -> None:
        """Stop all sampling; flights hold what is left of them."""
        for flight in self.flights:
            flight.parts = []
        for engine in self.engines:
            for tokens, serial in engine.stop():
                number, part = self._sent[serial]
                drawn = part.drawn + part.tokens - tokens
                self.flights[number].parts.append(replace(part, tokens=tokens, drawn=drawn))

    def _send(self, number: int, part: Part) -> None:
        engine = self.engines[number % len(self.engines)]
        if self.plan.streams:
            engine = min(self.engines, key=lambda engine: engine.load)
        serial = len(self._sent)
        self._sent[serial] = number, part
        prompt = self.flights[number].prompt(part)
        engine.submit(part.tokens, partial(self._ended, serial), serial, prompt=prompt, drawn=part.drawn)

    def _ended(self, serial: int) -> None:
        number, part = self._sent[serial]
        self.sampled_at = self.clock.now
        self._left[number] -= 1
        if part.verdict is None:
            self.open_metas -= 1
            self._left_metas[number] -= 1
            self._meta_ended(number)
        else:
            self._unverified.append(part.verdict)
        if not self._left[number]:
            self.whole.append(number)
        self._flush()

    def _meta_ended(self, number: int) -> None:
        if self.plan.controls and self.plan.streams:
            if not self._left_metas[number]:
                self._solve(number)
        elif self.plan.controls and not self.open_metas:
            for one in range(len(self.flights)):
                self._solve(one)

    def _solve(self, number: int) -> None:
        for part in self.flights[number].solutions:
            self._send(number, part)

    def _flush(self) -> None:
        """Verify what may be verified by now: at once, or when nothing is sampled any more."""
        if self.plan.streams or not any(self._left):
            self.open_verdicts += len(self._unverified)
            for seconds in self._unverified:
                self.verifier.submit(seconds, self._verified)
            self._unverified = []

    def _verified(self) -> None:
        self.open_verdicts -= 1

    def is_sampled(self) -> bool:
        return len(self.whole) >= self.wanted and self._overdue <= set(self.whole)

    def is_done(self) -> bool:
        return self.is_sampled() and not (self.open_verdicts or self._unverified)


def simulate(job: Job, machine: Machine, plan: Plan, *, steps: int, seed: int) -> Step:
    """The mean of ``steps`` steps one after the other; with partial, but for the first, which carries nothing in."""
    found: list[Step] = []
    waiting: list[Flight] = []
    in_flight = math.ceil(job.problems / plan.partial - 1e-9)
    for step in range(steps + int(plan.partial < 1)):
        fresh = draw(replace(job, problems=in_flight - len(waiting)), plan.controls, seed + step)
        flights = [*waiting, *(Flight.of(one, step) for one in fresh)]
        overdue = [one for one in waiting if step - one.step >= plan.max_age]
        one, waiting = simulate_step(job, machine, plan, flights, overdue)
        found.append(one)
    counted = found[-steps:]
    fields = ("seconds", "sampling", "idle", "in_flight")
    means = {name: statistics.fmean(getattr(one, name) for one in counted) for name in fields}
    return Step(**means, tokens=round(statistics.fmean(one.tokens for one in counted)))


def simulate_step(
    job: Job, machine: Machine, plan: Plan, flights: Sequence[Flight], overdue: Sequence[Flight] = ()
) -> tuple[Step, list[Flight]]:
    """One step, and what it leaves to the next one."""
    reading = machine.read_seconds([length for one in flights for length in one.to_read])
    reading += machine.seconds_per_sequence * sum(len(one.parts) for one in flights) / machine.gpus
    run = Run(job, machine, plan, flights, min(job.problems, len(flights)), overdue)
    run.begin()
    run.clock.run(run.is_sampled)
    run.put_aside()
    sampling = reading + run.clock.now
    run.clock.run(run.is_done)
    count = max(run.wanted, len(overdue))
    chosen = sorted(run.whole, key=lambda number: (flights[number].step, number))[:count]
    tokens = sum(flights[number].tokens for number in chosen)
    update = machine.update_seconds_per_token * tokens / machine.gpus
    seconds = reading + run.clock.now + update
    busy = reading + sum(engine.busy for engine in run.engines) / machine.gpus + update
    in_flight = sum(engine.sequence_seconds for engine in run.engines) / machine.gpus / sampling
    left = [one for number, one in enumerate(flights) if number not in set(chosen)]
    return Step(seconds, sampling, 1 - busy / seconds, in_flight, round(tokens)), left
