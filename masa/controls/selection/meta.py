"""Selection by meta-predictions: predictive gating (MASA, arXiv 2510.03259, section on MASA-efficient)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from masa.config.controls import GatingSection
from masa.controls.gating import Judgement, judge
from masa.controls.selection.selector import Evidence, Need, Stateless

if TYPE_CHECKING:
    from masa.controls.plan import PredictedProblem


class MetaSelector(Stateless):
    """Flags problems whose M predicted pass rates agree on an extreme (`masa.controls.gating.judge`)."""

    needs: Need = "metas"
    ranks = False

    def __init__(self, section: GatingSection) -> None:
        self._section = section

    def judge(self, step: int, candidates: Sequence[PredictedProblem], evidence: Evidence) -> dict[str, Judgement]:
        return {
            one.problem.id: judge([prediction.pass_rate for prediction in one.predictions], self._section)
            for one in candidates
        }
