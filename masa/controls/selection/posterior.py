"""Selection by a Beta posterior of each problem's pass rate: MoPPS (Qu et al. 2025, arXiv 2507.04632)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from masa.controls.gating import Judgement
from masa.controls.selection.selector import Evidence, Need, Outcome
from masa.problems.seeds import derive_seed

if TYPE_CHECKING:
    from masa.controls.plan import PredictedProblem

# Of a problem that was never solved: all pass rates are alike.
PRIOR = (1.0, 1.0)


def updated(posterior: tuple[float, float], correct: int, total: int, discount: float) -> tuple[float, float]:
    """The Beta posterior after ``correct`` of ``total`` solutions, earlier ones discounted (arXiv 2507.04632, eq. 9).

    alpha' = discount alpha + (1 - discount) alpha_0 + correct, beta' likewise with the incorrect ones; the prior
    (alpha_0, beta_0) is (1, 1).
    """
    alpha, beta = posterior
    kept = 1.0 - discount
    return (
        discount * alpha + kept * PRIOR[0] + correct,
        discount * beta + kept * PRIOR[1] + (total - correct),
    )


class PosteriorSelector:
    """Keeps the problems whose pass rate, drawn from its posterior (Thompson sampling), is nearest to the target.

    A draw depends on (run seed, step, problem) alone.
    """

    needs: Need = "nothing"
    ranks = True

    def __init__(self, discount: float, target: float, run_seed: int) -> None:
        self._discount = discount
        self._target = target
        self._seed = run_seed
        self._posteriors: dict[str, tuple[float, float]] = {}

    def judge(self, step: int, candidates: Sequence[PredictedProblem], evidence: Evidence) -> dict[str, Judgement]:
        return {one.problem.id: Judgement("open", (self._distance(step, one.problem.id), 0.0)) for one in candidates}

    def observe(self, step: int, outcomes: Sequence[Outcome], evidence: Evidence) -> dict[str, float]:
        for one in outcomes:
            before = self._posteriors.get(one.problem, PRIOR)
            self._posteriors[one.problem] = updated(before, one.correct, one.total, self._discount)
        return {"control/posterior_problems": float(len(self._posteriors))}

    def state_dict(self) -> dict[str, Any]:
        return {"posteriors": {id: list(one) for id, one in self._posteriors.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._posteriors = {id: (float(alpha), float(beta)) for id, (alpha, beta) in state["posteriors"].items()}

    def _distance(self, step: int, id: str) -> float:
        draw = random.Random(derive_seed(self._seed, step, id, "selection by posterior"))
        return abs(draw.betavariate(*self._posteriors.get(id, PRIOR)) - self._target)
