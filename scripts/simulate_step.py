"""Seconds of a training step on many GPUs, by a heap of events: walls or streams, controls, stragglers put aside.

    python scripts/simulate_step.py [--gpus 8,64,512] [--steps 6] [--seed 0] [--rows 64]

*Walls*: all metas, then all solutions, then all verdicts, then the update; problems are dealt to GPUs by number, and
all samples of a problem stay on its GPU. *Streams*: each problem goes its own way, samples go to the GPU that has
least to do, and each solution is verified when it ends; the update alone waits for all. *Partial*: a step ends when
nine tenths of its solutions are done; what is left goes on first in the next step, which draws fewer problems for it.

An engine with b sequences gives each of them one token in ``token_seconds + b * row_seconds``. The numbers below are
arithmetic for an 8B model in bfloat16 from the data sheet of an H100 (16 GB of weights, 147 KB of cache a token and
sequences half grown at 3.3 TB/s, 40 % of 989 TFLOP/s in the update), not measurements. Reading prompts, sending
weights and failures take no time. Lengths are the paper's means with a heavy tail: log-normal factors of the problem
and of the sample, up to a limit.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import statistics
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

Call = Callable[[], None]


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
class Machine:
    """What it runs on: engines of one GPU each, verifier workers on the hosts of eight."""

    gpus: int = 8
    rows: int = 64
    token_seconds: float = 0.008
    row_seconds: float = 0.00018
    workers_per_gpu: int = 2
    update_seconds_per_token: float = 6 * 8.2e9 / (0.4 * 989e12)


@dataclass(frozen=True)
class Plan:
    """How a step is laid out; ``partial`` is the share of solutions that ends it."""

    streams: bool
    controls: bool
    partial: float = 1.0

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


@dataclass
class Clock:
    """Calls at their times, the earliest first; those of one time in the order in which they were asked for."""

    now: float = 0.0
    _heap: list[tuple[float, int, Call]] = field(default_factory=list)
    _serial: itertools.count[int] = field(default_factory=itertools.count)

    def at(self, time: float, call: Call) -> None:
        heapq.heappush(self._heap, (time, next(self._serial), call))

    def run(self, done: Callable[[], bool]) -> None:
        while self._heap and not done():
            self.now, _, call = heapq.heappop(self._heap)
            call()


class Engine:
    """A GPU that samples up to ``rows`` sequences at a time, all at one speed, and keeps the others waiting."""

    def __init__(self, clock: Clock, machine: Machine) -> None:
        self._clock = clock
        self._machine = machine
        self._running: list[tuple[float, int, Call]] = []  # by the count of tokens at which they end
        self._waiting: deque[tuple[float, Call]] = deque()
        self._serial = itertools.count()
        self._made = 0.0  # tokens that a sequence which had run from the beginning would have
        self._last = 0.0
        self._epoch = 0
        self.busy = 0.0
        self.sequence_seconds = 0.0

    @property
    def load(self) -> int:
        return len(self._running) + len(self._waiting)

    def submit(self, tokens: float, done: Call) -> None:
        self._advance()
        self._waiting.append((tokens, done))
        self._go_on()

    def put_aside(self) -> list[float]:
        """Stop everything; the tokens that are left of each sequence."""
        self._advance()
        left = [end - self._made for end, _, _ in sorted(self._running)] + [tokens for tokens, _ in self._waiting]
        self._running.clear()
        self._waiting.clear()
        self._epoch += 1
        return left

    def _token_seconds(self) -> float:
        return self._machine.token_seconds + len(self._running) * self._machine.row_seconds

    def _advance(self) -> None:
        passed = self._clock.now - self._last
        self._last = self._clock.now
        if self._running:
            self.busy += passed
            self.sequence_seconds += passed * len(self._running)
            self._made += passed / self._token_seconds()

    def _go_on(self) -> None:
        while self._waiting and len(self._running) < self._machine.rows:
            tokens, done = self._waiting.popleft()
            heapq.heappush(self._running, (self._made + tokens, next(self._serial), done))
        self._epoch += 1
        if self._running:
            left = max(0.0, self._running[0][0] - self._made)
            self._clock.at(self._clock.now + left * self._token_seconds(), partial(self._end, self._epoch))

    def _end(self, epoch: int) -> None:
        if epoch != self._epoch:
            return  # the speed has changed since
        self._advance()
        ended = [heapq.heappop(self._running)[2]]
        while self._running and self._running[0][0] <= self._made + 1e-6:
            ended.append(heapq.heappop(self._running)[2])
        self._go_on()
        for done in ended:
            done()


class Verifier:
    """Workers that take one answer after the other."""

    def __init__(self, clock: Clock, workers: int) -> None:
        self._clock = clock
        self._free = [0.0] * workers

    def submit(self, seconds: float, done: Call) -> None:
        start = max(self._clock.now, heapq.heappop(self._free))
        heapq.heappush(self._free, start + seconds)
        self._clock.at(start + seconds, done)


@dataclass(frozen=True)
class Sampled:
    """One problem's lengths, and the seconds that its verdicts take; no solutions where it is gated."""

    metas: tuple[float, ...]
    solutions: tuple[float, ...]
    verdicts: tuple[float, ...]


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


class Run:
    """One step under way: what is to be done when something has ended."""

    def __init__(
        self, job: Job, machine: Machine, plan: Plan, problems: Sequence[Sampled], carried: Sequence[float]
    ) -> None:
        self.job, self.machine, self.plan, self.problems = job, machine, plan, problems
        self.clock = Clock()
        self.engines = [Engine(self.clock, machine) for _ in range(machine.gpus)]
        self.verifier = Verifier(self.clock, machine.workers_per_gpu * machine.gpus)
        self._carried = carried
        self.sampled_at = 0.0
        self.open_metas = sum(len(one.metas) for one in problems)
        self.open_solutions = self.solutions = sum(len(one.solutions) for one in problems) + len(carried)
        self.open_verdicts = 0
        self._unverified: list[float] = []

    def begin(self) -> None:
        for tokens in self._carried:
            self._send(0, tokens, partial(self._solution_ended, self.job.verdict_seconds))
        for number, problem in enumerate(self.problems):
            left = [len(problem.metas)]
            for tokens in problem.metas:
                self._send(number, tokens, partial(self._meta_ended, number, left))
        if not self.plan.controls:
            for number in range(len(self.problems)):
                self._solve(number)

    def _send(self, number: int, tokens: float, done: Call) -> None:
        if not self.plan.streams:
            self.engines[number % len(self.engines)].submit(tokens, done)
            return
        least = min(self.engines, key=lambda engine: engine.load)
        least.submit(tokens, done)

    def _meta_ended(self, number: int, left: list[int]) -> None:
        left[0] -= 1
        self.open_metas -= 1
        self.sampled_at = self.clock.now
        if not self.plan.controls:
            self._flush()
        elif self.plan.streams:
            if not left[0]:
                self._solve(number)
        elif not self.open_metas:
            for one in range(len(self.problems)):
                self._solve(one)

    def _solve(self, number: int) -> None:
        problem = self.problems[number]
        for tokens, seconds in zip(problem.solutions, problem.verdicts, strict=True):
            self._send(number, tokens, partial(self._solution_ended, seconds))

    def _solution_ended(self, seconds: float) -> None:
        self.open_solutions -= 1
        self.sampled_at = self.clock.now
        self._unverified.append(seconds)
        self._flush()

    def _flush(self) -> None:
        """Verify what may be verified by now: at once, or when nothing is sampled any more."""
        if self.plan.streams or not (self.open_solutions or self.open_metas):
            self.open_verdicts += len(self._unverified)
            for seconds in self._unverified:
                self.verifier.submit(seconds, self._verified)
            self._unverified = []

    def _verified(self) -> None:
        self.open_verdicts -= 1

    def is_sampled(self) -> bool:
        allowed = self.solutions - round(self.plan.partial * self.solutions)
        return not self.open_metas and self.open_solutions <= allowed

    def is_done(self) -> bool:
        return self.is_sampled() and not (self.open_verdicts or self._unverified)


def simulate(job: Job, machine: Machine, plan: Plan, *, steps: int, seed: int) -> Step:
    """The mean of ``steps`` steps one after the other; with partial, but for the first, which carries nothing in."""
    found: list[Step] = []
    carried: list[float] = []
    for step in range(steps + int(plan.partial < 1)):
        problems = draw(job, plan.controls, seed + step)
        of_each = sum(len(one.solutions) for one in problems) / len(problems)
        problems = problems[: len(problems) - round(len(carried) / of_each)]
        tokens = sum(sum((*one.metas, *one.solutions)) for one in problems)
        run = Run(job, machine, plan, problems, carried)
        run.begin()
        run.clock.run(run.is_sampled)
        carried = [left for engine in run.engines for left in engine.put_aside()]
        sampling = run.clock.now
        run.clock.run(run.is_done)
        update = machine.update_seconds_per_token * tokens / machine.gpus
        seconds = run.clock.now + update
        busy = sum(engine.busy for engine in run.engines) / machine.gpus + update
        in_flight = sum(engine.sequence_seconds for engine in run.engines) / machine.gpus / sampling
        found.append(Step(seconds, sampling, 1 - busy / seconds, in_flight, round(tokens)))
    counted = found[-steps:]
    fields = ("seconds", "sampling", "idle", "in_flight")
    means = {name: statistics.fmean(getattr(one, name) for one in counted) for name in fields}
    return Step(**means, tokens=round(statistics.fmean(one.tokens for one in counted)))


PLANS = (
    Plan(streams=False, controls=False),
    Plan(streams=True, controls=False),
    Plan(streams=False, controls=True),
    Plan(streams=True, controls=True),
    Plan(streams=True, controls=True, partial=0.9),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gpus", default="8,64,512", help="numbers of GPUs, with commas between them")
    parser.add_argument("--steps", type=int, default=6, help="steps that are averaged")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=64, help="sequences that a GPU has room for at once")
    options = parser.parse_args()
    print("| GPUs | plan | step, s | of it sampling, s | idle | at once of a GPU | million tokens | thousands a s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for gpus in (int(one) for one in options.gpus.split(",")):
        for plan in PLANS:
            one = simulate(Job(), Machine(gpus, options.rows), plan, steps=options.steps, seed=options.seed)
            times = f"{one.seconds:,.0f} | {one.sampling:,.0f} | {one.idle:.0%} | {one.in_flight:.1f}"
            tokens = f"{one.tokens / 1e6:.1f} | {one.tokens / one.seconds / 1e3:.0f}"
            print(f"| {gpus} | {plan.name} | {times} | {tokens} |")


if __name__ == "__main__":
    main()
