"""Selection by meta-predictions that ranks: the problems whose predicted pass rate is nearest to a target."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from masa.controls.gating import Judgement
from masa.controls.selection.selector import Evidence, Need, Stateless

if TYPE_CHECKING:
    from masa.controls.plan import PredictedProblem

# Of a problem whose predictions cannot be read: no pass rate is farther from any target.
UNREADABLE = 1.0


class MetaRankSelector(Stateless):
    """Keeps the problems whose mean predicted pass rate is nearest to the target.

    What PCL (arXiv 2510.01135) does with a value head, with meta-predictions in its place: the predicted difficulty
    also says which of the problems that are not flat teach most, which a gate for extremes does not ask.
    """

    needs: Need = "metas"
    ranks = True

    def __init__(self, target: float) -> None:
        self._target = target

    def judge(self, step: int, candidates: Sequence[PredictedProblem], evidence: Evidence) -> dict[str, Judgement]:
        return {one.problem.id: Judgement("open", (self._distance(one), 0.0)) for one in candidates}

    def _distance(self, candidate: PredictedProblem) -> float:
        rates = [one.pass_rate for one in candidate.predictions if one.pass_rate is not None]
        return abs(fmean(rates) - self._target) if rates else UNREADABLE
