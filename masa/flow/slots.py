"""The slots of a step: which problems each of them may take, known before anything is sampled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from masa.problems import Problem
from masa.problems.mixture import Sampler


@dataclass(frozen=True)
class Slot:
    """One place in a step's batch, and its problems in rounds.

    The problems of a round are taken where those of the round before taught nothing: gated, or with equal rewards.
    """

    number: int
    rounds: tuple[tuple[Problem, ...], ...]

    @property
    def problems(self) -> list[Problem]:
        """Those of all rounds."""
        return [problem for several in self.rounds for problem in several]


def draw_slots(sampler: Sampler, count: int, later_rounds: Sequence[Sequence[int]]) -> list[Slot]:
    """``count`` slots with a problem each, all different; ``later_rounds[slot]`` are the sizes of its further rounds.

    Problems are drawn round by round, in each of them slot by slot; where there are no more, rounds are smaller or
    missing. What a step leaves over goes back to the sampler (`left_over`).
    """
    first = sampler.next_batch(count)
    order = [
        (number, slot)
        for number in range(max(map(len, later_rounds), default=0))
        for slot, sizes in enumerate(later_rounds)
        if number < len(sizes)
        for _ in range(sizes[number])
    ]
    available = min(len(order), len(sampler) - count)
    drawn = iter(sampler.next_batch(available, beside={one.id for one in first}) if available else [])
    found: dict[tuple[int, int], list[Problem]] = {}
    for place in order[:available]:
        found.setdefault(place, []).append(next(drawn))
    rounds = [
        [(problem,), *(tuple(found[number, slot]) for number in range(len(sizes)) if (number, slot) in found)]
        for slot, (problem, sizes) in enumerate(zip(first, later_rounds, strict=True))
    ]
    return [Slot(number, tuple(of_slot)) for number, of_slot in enumerate(rounds)]


def left_over(slots: Iterable[Slot], taken: Sequence[int]) -> list[Problem]:
    """The problems of rounds that no slot has come to, in the order of drawing; ``taken[slot]`` rounds are used."""
    rounds = [
        (number, slot.number, problems)
        for slot in slots
        for number, problems in enumerate(slot.rounds)
        if number >= taken[slot.number]
    ]
    return [problem for _, _, problems in sorted(rounds, key=lambda one: one[:2]) for problem in problems]
