"""What a simulated step runs on, as a heap of events: engines that sample, and workers that verify.

An engine with b sequences gives each of them one token in ``token_seconds + b * row_seconds``.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

Call = Callable[[], None]


@dataclass(frozen=True)
class Machine:
    """What it runs on: engines of one GPU each, verifier workers on the hosts of eight."""

    gpus: int = 8
    rows: int = 64
    token_seconds: float = 0.008
    row_seconds: float = 0.00018
    workers_per_gpu: int = 2
    read_seconds_per_token: float = 2 * 8.2e9 / (0.4 * 989e12)
    seconds_per_sequence: float = 0.0
    update_seconds_per_token: float = 6 * 8.2e9 / (0.4 * 989e12)


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
        self._waiting: deque[tuple[float, int, Call]] = deque()
        self._serial = itertools.count()
        self._made = 0.0  # tokens that a sequence which had run from the beginning would have
        self._last = 0.0
        self._epoch = 0
        self.busy = 0.0
        self.sequence_seconds = 0.0

    @property
    def load(self) -> int:
        return len(self._running) + len(self._waiting)

    def submit(self, tokens: float, done: Call, serial: int | None = None) -> None:
        self._advance()
        self._waiting.append((tokens, next(self._serial) if serial is None else serial, done))
        self._go_on()

    def stop(self) -> list[tuple[float, int]]:
        """Stop everything; the tokens that are left of each sequence, and its serial number."""
        self._advance()
        left = [(end - self._made, serial) for end, serial, _ in sorted(self._running)]
        left += [(tokens, serial) for tokens, serial, _ in self._waiting]
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
            tokens, serial, done = self._waiting.popleft()
            heapq.heappush(self._running, (self._made + tokens, serial, done))
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
