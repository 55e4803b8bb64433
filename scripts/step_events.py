"""What a simulated step runs on, as a heap of events: engines that sample, and workers that verify.

An engine with b sequences, which read C tokens of their caches, gives each of them one token in
``token_seconds + b * row_seconds + C * cache_seconds``, and then reads b tokens more.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

Call = Callable[[], None]


@dataclass(frozen=True)
class Machine:
    """What it runs on: engines of one GPU each, verifier workers on the hosts of eight.

    ``pads``: engines read all prompts in rows of one length, and sequences as `PaddedEngine` says.
    """

    gpus: int = 8
    rows: int = 64
    token_seconds: float = 0.008
    row_seconds: float = 0.0
    cache_seconds: float = 147e3 / 3.3e12
    workers_per_gpu: int = 2
    read_seconds_per_token: float = 2 * 8.2e9 / (0.4 * 989e12)
    seconds_per_sequence: float = 0.0
    update_seconds_per_token: float = 6 * 8.2e9 / (0.4 * 989e12)
    pads: bool = False

    def read_seconds(self, lengths: Sequence[float]) -> float:
        """Seconds in which the engines read prompts of these lengths."""
        tokens = len(lengths) * max(lengths, default=0.0) if self.pads else sum(lengths)
        return self.read_seconds_per_token * tokens / self.gpus


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


@dataclass(order=True)
class Row:
    """A sequence that an engine samples: the count of tokens at which it ends, and how long it is then, prompt and all.

    ``goes_on``: some of it had been drawn before.
    """

    end: float
    serial: int
    length: float = field(compare=False)
    goes_on: bool = field(compare=False)
    done: Call = field(compare=False)

    def length_at(self, made: float) -> float:
        """How long it is when the engine has made so many tokens."""
        return self.length - (self.end - made)


class Engine:
    """A GPU that samples up to ``rows`` sequences at a time, all at one speed, and keeps the others waiting."""

    def __init__(self, clock: Clock, machine: Machine) -> None:
        self._clock = clock
        self._machine = machine
        self._running: list[Row] = []  # a heap: what ends first
        self._waiting: deque[tuple[float, Row]] = deque()  # tokens that are to be made
        self._serial = itertools.count()
        self._made = 0.0  # tokens that a sequence which had run from the beginning would have
        self._last = 0.0
        self._pace = 0.0  # seconds for the next token, and how much more for each token after it
        self._slowing = 0.0
        self._epoch = 0
        self.busy = 0.0
        self.sequence_seconds = 0.0

    @property
    def load(self) -> int:
        return len(self._running) + len(self._waiting)

    def submit(
        self, tokens: float, done: Call, serial: int | None = None, *, prompt: float = 0.0, drawn: float = 0.0
    ) -> None:
        """Sample so many tokens behind those of the prompt and those that were drawn before."""
        self._advance()
        serial = next(self._serial) if serial is None else serial
        self._waiting.append((tokens, Row(0.0, serial, prompt + drawn + tokens, drawn > 0, done)))
        self._go_on()

    def stop(self) -> list[tuple[float, int]]:
        """Stop everything; the tokens that are left of each sequence, and its serial number."""
        self._advance()
        left = [(row.end - self._made, row.serial) for row in sorted(self._running)]
        left += [(tokens, row.serial) for tokens, row in self._waiting]
        self._running.clear()
        self._waiting.clear()
        self._epoch += 1
        return left

    def began(self, row: Row) -> None:
        """``row`` is sampled from now on."""

    def ended(self, row: Row) -> None:
        """``row`` is sampled no more."""

    def cache_read(self) -> float:
        """Tokens of their caches that the sequences read for their next tokens: each its own."""
        return sum(row.length_at(self._made) for row in self._running)

    def _advance(self) -> None:
        passed = self._clock.now - self._last
        self._last = self._clock.now
        if self._running and passed:
            self.busy += passed
            self.sequence_seconds += passed * len(self._running)
            # Of x tokens: pace * x + slowing * x**2 / 2 seconds.
            tokens = 2 * passed / (self._pace + math.sqrt(self._pace**2 + 2 * self._slowing * passed))
            self._made += tokens
            self._pace += tokens * self._slowing

    def _go_on(self) -> None:
        while self._waiting and len(self._running) < self._machine.rows:
            tokens, row = self._waiting.popleft()
            row.end = self._made + tokens
            heapq.heappush(self._running, row)
            self.began(row)
        self._epoch += 1
        if self._running:
            count, machine = len(self._running), self._machine
            self._slowing = count * machine.cache_seconds
            self._pace = machine.token_seconds + count * machine.row_seconds
            self._pace += machine.cache_seconds * self.cache_read()
            left = max(0.0, self._running[0].end - self._made)
            seconds = left * self._pace + left**2 * self._slowing / 2
            self._clock.at(self._clock.now + seconds, partial(self._end, self._epoch))

    def _end(self, epoch: int) -> None:
        if epoch != self._epoch:
            return  # the speed has changed since
        self._advance()
        ended = [heapq.heappop(self._running)]
        while self._running and self._running[0].end <= self._made + 1e-6:
            ended.append(heapq.heappop(self._running))
        for row in ended:
            self.ended(row)
        self._go_on()
        for row in ended:
            row.done()


class Verifier:
    """Workers that take one answer after the other."""

    def __init__(self, clock: Clock, workers: int) -> None:
        self._clock = clock
        self._free = [0.0] * workers

    def submit(self, seconds: float, done: Call) -> None:
        start = max(self._clock.now, heapq.heappop(self._free))
        heapq.heappush(self._free, start + seconds)
        self._clock.at(start + seconds, done)
