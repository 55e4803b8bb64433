"""What the solutions of a problem have said of its pass rate so far: a Beta posterior, discounted over updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masa.controls.selection.selector import Outcome

# A history that amounts to less than this many solutions says nothing.
LEAST = 1.0


@dataclass(frozen=True)
class Source:
    """What one source says of a pass rate: ``rate``, by as many solutions as ``count``, with variance ``variance``."""

    rate: float
    count: float
    variance: float


class PassRateHistory:
    """Correct and all solutions of each problem, each weighted ``discount`` ** (updates since it was sampled).

    These are the counts of discounted Thompson sampling (Raj and Kalyani 2017, arXiv 1707.09727), whose Beta posterior
    has the parameters ``prior + correct`` and ``prior + incorrect``: the policy moves with every update, whether the
    problem was among its rows or not.
    """

    def __init__(self, discount: float) -> None:
        self._discount = discount
        self._counts: dict[str, tuple[float, float, int]] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def __call__(self, step: int, problem: str) -> Source | None:
        """The history of a problem before step ``step``; None where it amounts to less than one solution."""
        correct, total = self._at(step, problem)
        if total < LEAST:
            return None
        rate = min(1.0, correct / total)
        return Source(rate, total, rate * (1.0 - rate) / (total + 1.0))

    def observe(self, step: int, outcomes: Sequence[Outcome]) -> None:
        """Add the solutions of step ``step``."""
        for one in outcomes:
            correct, total = self._at(step, one.problem)
            self._counts[one.problem] = (correct + one.correct, total + one.total, step)

    def state_dict(self) -> dict[str, Any]:
        return {id: list(counts) for id, counts in self._counts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._counts = {id: (float(right), float(all), int(step)) for id, (right, all, step) in state.items()}

    def _at(self, step: int, problem: str) -> tuple[float, float]:
        correct, total, then = self._counts.get(problem, (0.0, 0.0, step))
        kept = self._discount ** (step - then)
        return kept * correct, kept * total
