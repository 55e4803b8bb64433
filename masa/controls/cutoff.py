"""Early cutoff: token budgets from predicted lengths, and whether what they cut would have been wrong."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from masa.config.controls import CutoffSection
from masa.controls.intervals import Estimate, f1_of_counts, proportion
from masa.controls.own.shaping import OwnBudget
from masa.problems import Problem
from masa.rewards.meta_prediction import MetaPrediction

_AGGREGATES: Mapping[str, Callable[[Sequence[int]], float]] = {
    "mean": statistics.fmean,
    "median": statistics.median,
    "max": max,
}


def token_budget(lengths: Sequence[int | None], section: CutoffSection, limit: int) -> int:
    """``factor`` times the aggregated prediction, never below the floor nor above the limit, in tokens.

    Where no length was predicted, the limit.
    """
    parsed = [length for length in lengths if length is not None]
    if not parsed:
        return limit
    wanted = section.factor * _AGGREGATES[section.aggregate](parsed)
    return limit if wanted >= limit else max(section.floor, math.ceil(wanted))


def exceeds_budget(length: int, truncated: bool, budget: int, limit: int) -> bool:
    """Whether ``budget`` would have cut a solution that ran to the response limit."""
    return budget < limit and (length > budget or (truncated and length >= budget))


@dataclass(frozen=True)
class CutoffEvidence:
    """Audited solutions of one step, by whether the budget would have cut them and whether they were wrong."""

    cut_wrong: int
    cut_right: int
    kept_wrong: int
    kept_right: int

    @property
    def total(self) -> int:
        return self.cut_wrong + self.cut_right + self.kept_wrong + self.kept_right


@dataclass(frozen=True)
class CutoffReading:
    """Precision: the share of cut solutions that would have been wrong. Recall: the share of wrong ones that are cut.

    ``lost`` is the share of right solutions that are cut.
    """

    audits: int
    precision: Estimate
    recall: Estimate
    f1: Estimate
    lost: Estimate


class EarlyCutoff:
    """The running record of audited solutions; these ran to the response limit whatever their budget.

    ``own`` says how many tokens a problem's solutions may have, in place of the predicted lengths.
    """

    def __init__(self, section: CutoffSection, own: OwnBudget | None = None) -> None:
        self.section = section
        self.own = own
        self._evidence: list[CutoffEvidence] = []

    def budget(self, problem: Problem, predictions: Sequence[MetaPrediction], limit: int) -> int:
        """The token budget of a problem's solutions, from the floor to the response limit."""
        if self.own is None:
            return token_budget([one.length for one in predictions], self.section, limit)
        wanted = self.own(problem, predictions)
        return limit if wanted is None or wanted >= limit else max(self.section.floor, wanted)

    def observe(self, evidence: CutoffEvidence) -> None:
        """Take in a step's evidence and forget what is older than the window."""
        self._evidence.append(evidence)
        while sum(one.total for one in self._evidence[1:]) >= self.section.window:
            self._evidence.pop(0)

    def reading(self) -> CutoffReading:
        """Over the newest audited solutions, with Wilson intervals."""
        cut_wrong, cut_right, kept_wrong, kept_right = (
            sum(getattr(one, name) for one in self._evidence)
            for name in ("cut_wrong", "cut_right", "kept_wrong", "kept_right")
        )
        confidence = self.section.confidence
        return CutoffReading(
            audits=cut_wrong + cut_right + kept_wrong + kept_right,
            precision=proportion(cut_wrong, cut_wrong + cut_right, confidence),
            recall=proportion(cut_wrong, cut_wrong + kept_wrong, confidence),
            f1=f1_of_counts(cut_wrong, cut_right, kept_wrong, confidence),
            lost=proportion(cut_right, cut_right + kept_right, confidence),
        )

    def state_dict(self) -> dict[str, Any]:
        return {"evidence": [asdict(one) for one in self._evidence]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._evidence = [CutoffEvidence(**one) for one in state["evidence"]]
