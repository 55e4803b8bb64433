"""Stragglers: problems whose last solutions are not waited for in their step, and go on in the next one.

A step has more problems in flight than it trains on. It ends when enough of them have all their solutions and metas;
what the others have is put aside, and sampled on in the next step, under its weights. A problem is trained on whole, in
one step: advantages compare all of its solutions, and a group without its longest ones would be another group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import ceil
from typing import Any

from masa.controls.batch import ShapedBatch
from masa.problems import Problem
from masa.rollout.engine import Rollout, RolloutPath, RolloutRequest
from masa.rollout.waiting import Waiting
from masa.tokens.exchange import Place

PATHS: tuple[RolloutPath, ...] = ("solution", "meta")
Samples = tuple[Rollout | None, ...]
Draw = Callable[[int, Sequence[str]], Sequence[Problem]]
Gather = Callable[[list[Any]], list[Any]]


@dataclass(frozen=True)
class Begun:
    """What there is of a problem: each sample whole, put aside, or None where nothing of it has been drawn.

    ``step`` is the one that began it, whose seeds its samples have.
    """

    step: int
    problem: Problem
    solutions: Samples
    metas: Samples

    @classmethod
    def at(cls, step: int, problem: Problem, num_solutions: int, num_metas: int) -> Begun:
        """A problem of which nothing has been sampled."""
        return cls(step, problem, (None,) * num_solutions, (None,) * num_metas)

    def of(self, path: RolloutPath) -> Samples:
        """The samples of one path."""
        return self.solutions if path == "solution" else self.metas

    def rollouts(self, path: RolloutPath) -> list[Rollout]:
        """What there is of the samples of one path, whole or not."""
        return [one for one in self.of(path) if one is not None]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return not any(map(_is_missing, (*self.solutions, *self.metas)))

    def missing(self, requests: Iterable[RolloutRequest]) -> list[RolloutRequest]:
        """Of the problem's whole requests, those samples that have not ended; nothing where none is left."""
        found = []
        for request in requests:
            left = self._left(request.path)
            if left:
                samples = self.of(request.path)
                begun = tuple(samples[index] for index in left)
                seeds = tuple(request.seeds[index] for index in left)
                found.append(replace(request, seeds=seeds, begun=begun if any(begun) else ()))
        return found

    def with_requests(self, missing: Sequence[RolloutRequest], samples: Sequence[Sequence[Rollout | None]]) -> Begun:
        """With what has come of the samples of the requests that `missing` gave."""
        found = self
        for request, own in zip(missing, samples, strict=True):
            filled = list(self.of(request.path))
            for index, one in zip(self._left(request.path), own, strict=True):
                filled[index] = None if one is None else replace(one, index=index)
            if request.path == "solution":
                found = replace(found, solutions=tuple(filled))
            else:
                found = replace(found, metas=tuple(filled))
        return found

    def _left(self, path: RolloutPath) -> list[int]:
        return [index for index, one in enumerate(self.of(path)) if _is_missing(one)]


@dataclass(frozen=True)
class Quota:
    """When a process's part of a step ends: ``wanted`` problems are whole, and all that may not wait any longer.

    ``overdue`` are the ids of the latter.
    """

    wanted: int
    overdue: frozenset[str]

    def is_met(self, whole: Iterable[str]) -> bool:
        """Whether the step may end, given the ids of the problems that are whole."""
        found = set(whole)
        return len(found) >= self.wanted and self.overdue <= found

    def chosen(self, whole: Sequence[Begun]) -> list[Begun]:
        """Those of them that the step trains on: the oldest first, and all that are overdue."""
        oldest = sorted(whole, key=lambda one: one.step)
        count = max(self.wanted, sum(one.problem.id in self.overdue for one in oldest))
        return oldest[:count]


class PutAside:
    """How many problems a step has in flight, and those that wait for the next one. Each process has its own.

    Args:
        share: the share of the problems in flight that ends a step.
        max_age: a problem is trained on at most so many steps after the one that began it.
    """

    def __init__(self, share: float, max_age: int) -> None:
        self._share = share
        self._max_age = max_age
        self.waiting: list[Begun] = []
        """In the order in which they go on."""

    def in_flight(self, wanted: int) -> int:
        """How many problems are to be in flight where so many are trained on."""
        return ceil(wanted / self._share - 1e-9)

    def quota(self, step: int, wanted: int) -> Quota:
        """When the step ends; what waits is already in it."""
        overdue = (one.problem.id for one in self.waiting if step - one.step >= self._max_age)
        return Quota(wanted, frozenset(overdue))

    def deal(self, wanted: int, draw: Draw, gather: Gather, place: Place) -> list[tuple[int, Begun | Problem]]:
        """What this process has in flight, each with the number of its slot: what waits, and then fresh problems.

        Args:
            wanted: how many problems this process trains on.
            draw: so many fresh problems, or as many as there are, beside those with the ids.
            gather: the objects of all processes.
            place: which process this is.
        """
        ids = [one.problem.id for one in self.waiting]
        everyone = gather([(ids, max(0, self.in_flight(wanted) - len(ids)))])
        fresh = iter(draw(sum(count for _, count in everyone), [id for theirs, _ in everyone for id in theirs]))
        dealt: list[list[Problem]] = [[] for _ in everyone]
        for number in range(max(count for _, count in everyone)):
            for theirs, (_, count) in zip(dealt, everyone, strict=True):
                if number < count:
                    theirs += islice(fresh, 1)
        before = zip(everyone[: place.process], dealt, strict=False)
        first = sum(len(theirs) + len(new) for (theirs, _), new in before)
        return list(enumerate([*self.waiting, *dealt[place.process]], first))

    def state(self) -> Waiting:
        """What waits, for a checkpoint; of each problem its solutions come before its metas."""
        layout = [
            {
                "step": one.step,
                "problem": one.problem.id,
                "solutions": [sample is not None for sample in one.solutions],
                "metas": [sample is not None for sample in one.metas],
            }
            for one in self.waiting
        ]
        samples = [sample for one in self.waiting for sample in (*one.solutions, *one.metas)]
        return Waiting(layout, [sample for sample in samples if sample is not None])

    def restore(self, states: Sequence[Waiting], problems: Iterable[Problem], place: Place) -> None:
        """Let wait what waited in the ``states`` of all processes.

        Each process has its own again; where there were more or fewer of them, it is shared out.
        """
        by_id = {problem.id: problem for problem in problems}
        loaded = [_loaded(state, by_id) for state in states]
        if len(loaded) == place.processes:
            self.waiting = loaded[place.process]
        else:
            self.waiting = [one for of_one in loaded for one in of_one][place.process :: place.processes]


def put_aside_metrics(batch: ShapedBatch) -> dict[str, float]:
    """How many problems of a step had begun before, and how many, with how many tokens, are left to the next one."""
    return {
        "rollout/went_on": float(batch.went_on),
        "rollout/put_aside": float(batch.put_aside),
        "rollout/put_aside_tokens": float(batch.put_aside_tokens),
    }


def _loaded(state: Waiting, by_id: Mapping[str, Problem]) -> list[Begun]:
    rollouts = iter(state.rollouts)
    return [
        Begun(
            int(one["step"]),
            by_id[one["problem"]],
            _filled(one["solutions"], rollouts),
            _filled(one["metas"], rollouts),
        )
        for one in state.layout
    ]


def _filled(there: Sequence[bool], rollouts: Any) -> Samples:
    return tuple(next(islice(rollouts, 1)) if one else None for one in there)


def _is_missing(sample: Rollout | None) -> bool:
    return sample is None or not sample.has_ended
