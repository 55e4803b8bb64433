"""Runs the ways of many slots over one stream of an engine: each goes on when its own samples have ended.

Verdicts are looked at when as many further rollouts have ended as ``lag`` says, or when the engine has nothing left to
do: moments that the engine's output names, not the clock. Between them the verifier has time while others are sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from masa.flow.flow import Samples, Waits
from masa.rollout.engine import Finished, RolloutError, RolloutRequest, RolloutStream
from masa.rollout.stream import Collected


@dataclass(frozen=True)
class Waiting:
    """A way, and the samples that it waits for."""

    way: Waits[None]
    collected: Collected


class Schedule:
    """Ways over one ``stream``.

    Args:
        stream: an engine's, open.
        ended: is told of each rollout.
        lag: rollouts that end between a way's wish to look at verdicts and its turn.
    """

    def __init__(self, stream: RolloutStream, ended: Callable[[Finished], None], lag: int) -> None:
        self._stream = stream
        self._ended = ended
        self._lag = lag
        self._count = 0
        self._places: dict[int, tuple[Waiting, int]] = {}
        self._looking: list[tuple[int, Waits[None]]] = []  # the earliest moment first

    def run(self, ways: Sequence[Waits[None]], enough: Callable[[], bool] = lambda: False) -> list[Waiting]:
        """Until all ways have come to their ends, or until it is ``enough``, which is asked when something has ended.

        Returns:
            the ways that wait then, with what was drawn of their samples.

        Raises:
            RolloutError: the stream gives nothing more, and something was asked for that has not come.
        """
        self._go_on([(way, None) for way in ways])
        while not enough():
            self._look()
            finished = self._stream.take()
            if not finished and self._places:
                raise RolloutError(f"the engine's stream ended, and {len(self._places)} requests have not")
            if not finished and not self._looking:
                return []
            self._go_on(
                [(one.way, one.collected.whole()) for one in map(self._add, finished) if not one.collected.missing]
            )

        return self._stop()

    def _stop(self) -> list[Waiting]:
        """Have nothing more sampled."""
        for one in self._stream.cancel(list(self._places)):
            waiting, place = self._places[one.number]
            waiting.collected.note(place, one.rollout)
        stopped = {id(waiting): waiting for waiting, _ in self._places.values()}
        self._places = {}
        return list(stopped.values())

    def _add(self, one: Finished) -> Waiting:
        """Note a rollout; whoever waits for it."""
        self._ended(one)
        self._count += 1
        waiting, place = self._places[one.number]
        if waiting.collected.add(place, one.rollout):
            del self._places[one.number]
        return waiting

    def _look(self) -> None:
        """Let those go on whose turn to look at verdicts has come: all of them where nothing is being sampled."""
        while self._looking and (not self._places or self._looking[0][0] <= self._count):
            due = [way for moment, way in self._looking if not self._places or moment <= self._count]
            self._looking = self._looking[len(due) :]
            self._go_on([(way, []) for way in due])

    def _go_on(self, ways: Sequence[tuple[Waits[None], Samples | None]]) -> None:
        """Give ways what they have waited for, and submit what they ask for: solutions before metas."""
        asked: list[tuple[RolloutRequest, Waiting, int]] = []
        for way, samples in ways:
            try:
                requests = next(way) if samples is None else way.send(samples)
            except StopIteration:
                continue
            if not requests:
                self._looking.append((self._count + self._lag, way))
                continue
            waiting = Waiting(way, Collected(requests))
            asked += [(request, waiting, place) for place, request in enumerate(requests)]
        asked.sort(key=lambda one: one[0].path != "solution")
        numbers = self._stream.submit([request for request, _, _ in asked])
        self._places |= {number: (waiting, place) for number, (_, waiting, place) in zip(numbers, asked, strict=True)}
