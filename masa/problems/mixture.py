"""Training problems from several sources: how much of each batch comes from which."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from masa.problems.problem import Problem
from masa.problems.sampling import ProblemSampler


class MixedSampler:
    """Batches in which each part of the problems has its share, whatever the parts' sizes.

    Each part goes through shuffled epochs of its own (`ProblemSampler`). What a part is owed is carried from batch to
    batch, so that its share of the problems drawn is its weight over the sum of weights, to within one problem; where a
    part has no problem left that a batch does not hold yet, the others stand in and the part is owed nothing for it.

    Raises:
        ValueError: no parts, a part without problems, a weight that is not positive, fewer problems than one batch
            needs, or two problems with one id.
    """

    def __init__(self, parts: Sequence[tuple[Sequence[Problem], float]], batch_size: int, seed: int) -> None:
        if not parts or not all(problems and weight > 0 for problems, weight in parts):
            raise ValueError("a mixture needs parts that each have problems and a positive weight")
        total = sum(weight for _, weight in parts)
        ids = [problem.id for problems, _ in parts for problem in problems]
        if len(set(ids)) < len(ids):
            raise ValueError("two problems of a mixture share an id; ids must be unique")
        if not 1 <= batch_size <= len(ids):
            raise ValueError(f"{len(ids)} problems cannot fill a batch of {batch_size}")
        self.batch_size = batch_size
        self._samplers = [ProblemSampler(problems, 1, seed) for problems, _ in parts]
        self._ids = [{problem.id for problem in problems} for problems, _ in parts]
        self._shares = [weight / total for _, weight in parts]
        self._owed = [0.0] * len(parts)

    def __len__(self) -> int:
        return sum(map(len, self._samplers))

    @property
    def epochs_seen(self) -> float:
        """Problems drawn so far over the number of problems."""
        return sum(one.epochs_seen * len(one) for one in self._samplers) / len(self)

    def next_batch(self, n: int | None = None, *, beside: Collection[str] = ()) -> list[Problem]:
        """The next ``n`` problems (default: the batch size), all different, and none of the ids ``beside``.

        Raises:
            ValueError: ``n`` below 1 or above the number of problems that are left.
        """
        n = self.batch_size if n is None else n
        left = [len(ids.difference(beside)) for ids in self._ids]
        if not 1 <= n <= sum(left):
            raise ValueError(f"a batch of {n} was asked for; 1 to {sum(left)} is possible")
        counts = [0] * len(left)
        for _ in range(n):
            self._owed = [owed + share for owed, share in zip(self._owed, self._shares, strict=True)]
            open_parts = [part for part in range(len(left)) if counts[part] < left[part]]
            chosen = max(open_parts, key=lambda part: (self._owed[part], -part))
            counts[chosen] += 1
            self._owed[chosen] -= 1.0
            # A part that could not be drawn from is owed one problem at most.
            self._owed = [min(owed, 1.0) for owed in self._owed]
        batch: list[Problem] = []
        for sampler, ids, count in zip(self._samplers, self._ids, counts, strict=True):
            if count:
                batch += sampler.next_batch(count, beside=ids.intersection(beside))
        return batch

    def put_back(self, problems: Sequence[Problem]) -> None:
        """Problems that were drawn and not used: each part draws its own next, in their order, and is owed them."""
        for part, (sampler, ids) in enumerate(zip(self._samplers, self._ids, strict=True)):
            own = [problem for problem in problems if problem.id in ids]
            sampler.put_back(own)
            self._owed[part] += len(own) - self._shares[part] * len(problems)

    def state_dict(self) -> dict[str, Any]:
        """Everything that ``load_state_dict`` needs to go on exactly here; plain JSON values."""
        return {"parts": [one.state_dict() for one in self._samplers], "owed": list(self._owed)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was taken.

        Raises:
            ValueError: the state is of other sources, of other problems or of another seed.
        """
        if len(state.get("parts", ())) != len(self._samplers):
            raise ValueError(
                f"the saved sampler drew from {len(state.get('parts', ())) or 'one'} source(s), this one from "
                f"{len(self._samplers)}: a run resumes only on the problems it was started with"
            )
        for sampler, part in zip(self._samplers, state["parts"], strict=True):
            sampler.load_state_dict(part)
        self._owed = [float(owed) for owed in state["owed"]]


Sampler = ProblemSampler | MixedSampler
"""What a run draws its problems from: the interface of both is the same."""
