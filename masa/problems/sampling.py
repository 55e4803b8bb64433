"""The order in which a run sees its problems: reproducible, resumable, each problem once per epoch."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from masa.problems.problem import Problem
from masa.problems.seeds import derive_seed


class ProblemSampler:
    """Batches of problems from shuffled epochs.

    The order of an epoch follows from ``(seed, epoch)`` and the problems' ids alone, so the order in which the problems
    were listed does not matter. A batch may run across the end of an epoch; a problem that it already holds is then
    put back to the front of the new epoch, so that no batch holds a problem twice and every epoch still shows every
    problem once.

    Raises:
        ValueError: fewer problems than one batch needs, or two problems with one id.
    """

    def __init__(self, problems: Sequence[Problem], batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, at least 1 needed")
        if len(problems) < batch_size:
            raise ValueError(
                f"{len(problems)} problems cannot fill a batch of {batch_size}: give at least {batch_size} problems, "
                "or a smaller batch"
            )
        self._problems = {problem.id: problem for problem in problems}
        if len(self._problems) < len(problems):
            raise ValueError(f"two problems share the id {_first_repeated_id(problems)!r}; ids must be unique")
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.position = 0
        self._deferred: deque[str] = deque()
        self._order = self._epoch_order(0)

    def __len__(self) -> int:
        return len(self._problems)

    @property
    def epochs_seen(self) -> float:
        """Epochs drawn so far, as a fraction."""
        return self.epoch + (self.position - len(self._deferred)) / len(self)

    def next_batch(self, n: int | None = None, *, beside: Collection[str] = ()) -> list[Problem]:
        """The next ``n`` problems (default: the batch size), all different, and none of the ids ``beside``.

        Raises:
            ValueError: ``n`` below 1 or above the number of problems that are left.
        """
        n = self.batch_size if n is None else n
        taken = {id: self._problems[id] for id in beside}
        left = len(self) - len(taken)
        if not 1 <= n <= left:
            raise ValueError(f"a batch of {n} was asked for; with {left} problems, 1 to {left} is possible")
        batch = dict(taken)
        while len(batch) < n + len(taken):
            drawn = self._draw(batch)
            batch[drawn] = self._problems[drawn]
        return list(batch.values())[len(taken) :]

    def put_back(self, problems: Sequence[Problem]) -> None:
        """Problems that were drawn and not used: they are drawn next, in their order."""
        self._deferred.extendleft(problem.id for problem in reversed(problems))

    def state_dict(self) -> dict[str, Any]:
        """Everything that ``load_state_dict`` needs to go on exactly here; plain JSON values."""
        return {
            "seed": self.seed,
            "epoch": self.epoch,
            "position": self.position,
            "deferred": list(self._deferred),
            "num_problems": len(self),
            "fingerprint": self._fingerprint(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was taken.

        Raises:
            ValueError: the state is of other problems or of another seed.
        """
        if state["num_problems"] != len(self) or state["fingerprint"] != self._fingerprint():
            raise ValueError(
                f"the saved sampler drew from {state['num_problems']} problems, this one from {len(self)} with other "
                "ids: a run resumes only on the problems it was started with"
            )
        if state["seed"] != self.seed:
            raise ValueError(f"the saved sampler's seed is {state['seed']}, this one's {self.seed}")
        self.epoch = int(state["epoch"])
        self.position = int(state["position"])
        self._deferred = deque(state["deferred"])
        self._order = self._epoch_order(self.epoch)

    def _draw(self, batch: Mapping[str, Problem]) -> str:
        # What waits in `_deferred` is in `batch` only where that holds problems of an earlier draw (`beside`).
        waiting = next((id for id in self._deferred if id not in batch), None)
        if waiting is not None:
            self._deferred.remove(waiting)
            return waiting
        while True:
            if self.position == len(self._order):
                self.epoch += 1
                self.position = 0
                self._order = self._epoch_order(self.epoch)
            drawn = self._order[self.position]
            self.position += 1
            if drawn not in batch:
                return drawn
            self._deferred.append(drawn)

    def _epoch_order(self, epoch: int) -> list[str]:
        return sorted(self._problems, key=lambda id: (derive_seed(self.seed, "problem order", epoch, id), id))

    def _fingerprint(self) -> str:
        digest = blake2b(digest_size=8)
        for id in sorted(self._problems):
            digest.update(id.encode("utf-8", "surrogatepass") + b"\0")
        return digest.hexdigest()


def _first_repeated_id(problems: Sequence[Problem]) -> str:
    seen: set[str] = set()
    for problem in problems:
        if problem.id in seen:
            return problem.id
        seen.add(problem.id)
    raise AssertionError("no id is repeated")
