"""Selection by what the solutions turn out to be: the most that any method could know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from masa.controls.gating import Judgement
from masa.controls.selection.selector import Evidence, Need, Stateless

if TYPE_CHECKING:
    from masa.controls.plan import PredictedProblem


class OracleSelector(Stateless):
    """Flags exactly the problems whose G solutions have equal rewards.

    ``evidence`` holds those rewards: each candidate is solved beforehand, with the seeds that its solutions would have.
    """

    needs: Need = "solutions"
    ranks = False

    def judge(self, step: int, candidates: Sequence[PredictedProblem], evidence: Evidence) -> dict[str, Judgement]:
        return {one.problem.id: _judge(evidence[one.problem.id]) for one in candidates}


def _judge(rewards: Sequence[float]) -> Judgement:
    if len(set(rewards)) > 1:
        return Judgement("open")
    return Judgement("trivial" if rewards[0] > 0 else "unsolvable")
