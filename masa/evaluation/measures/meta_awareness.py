"""How well a model knows itself: predicted against actual pass rate, length and notions (docs/evaluation.md)."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np

from masa.config.controls import ControlsSection, CutoffSection, GatingSection
from masa.controls.cutoff import exceeds_budget, token_budget
from masa.controls.gating import judge
from masa.evaluation.measures.outcomes import Outcome
from masa.evaluation.measures.statistics import Floats, Indices, Statistic, ratio_of

Aggregate = Literal["mean", "median", "max"]
_GATING, _CUTOFF = GatingSection(), CutoffSection()


@dataclass(frozen=True)
class ControlThresholds:
    """At which thresholds predictive gating and early cutoff are judged (docs/controls.md).

    They are the thresholds of a run's gate and cutoff, by default those of a run that sets none; the training's own
    functions decide which problem is gated and which solution cut.

    Raises:
        ValueError: a threshold out of its range.
    """

    agreement: float = _GATING.max_std
    trivial: float = _GATING.trivial
    unsolvable: float | None = _GATING.unsolvable
    min_parsed: float = _GATING.min_parsed
    cutoff_factor: float = _CUTOFF.factor
    cutoff_aggregate: Aggregate = _CUTOFF.aggregate
    cutoff_floor: int = _CUTOFF.floor

    def __post_init__(self) -> None:
        if not 0 <= (self.unsolvable or 0.0) < self.trivial <= 1:
            raise ValueError(
                f"gate thresholds are unsolvable {self.unsolvable} and trivial {self.trivial}, "
                "0 <= unsolvable < trivial <= 1 needed"
            )
        if not (self.agreement > 0 and self.cutoff_factor > 0 and self.cutoff_floor >= 1):
            raise ValueError(
                f"agreement is {self.agreement}, cutoff_factor {self.cutoff_factor} and cutoff_floor "
                f"{self.cutoff_floor}; the first two must be positive, the floor at least 1"
            )
        if not 0 <= self.min_parsed <= 1:
            raise ValueError(f"min_parsed is {self.min_parsed}, a share from 0 to 1 needed")
        if self.cutoff_aggregate not in get_args(Aggregate):
            raise ValueError(
                f"cutoff_aggregate is {self.cutoff_aggregate!r}, allowed: {', '.join(get_args(Aggregate))}"
            )

    @classmethod
    def of(cls, controls: ControlsSection) -> ControlThresholds:
        """The thresholds that a run with these controls trains at, whether it has them on or not."""
        gating, cutoff = controls.gating, controls.cutoff
        return cls(
            agreement=gating.max_std,
            trivial=gating.trivial,
            unsolvable=gating.unsolvable,
            min_parsed=gating.min_parsed,
            cutoff_factor=cutoff.factor,
            cutoff_aggregate=cutoff.aggregate,
            cutoff_floor=cutoff.floor,
        )

    @property
    def gating(self) -> GatingSection:
        """As the training's gate takes them."""
        return GatingSection(
            max_std=self.agreement, trivial=self.trivial, unsolvable=self.unsolvable, min_parsed=self.min_parsed
        )

    @property
    def cutoff(self) -> CutoffSection:
        """As the training's cutoff takes them."""
        return CutoffSection(factor=self.cutoff_factor, aggregate=self.cutoff_aggregate, floor=self.cutoff_floor)


@dataclass(frozen=True)
class Detection:
    """Counts of a yes-or-no prediction; precision, recall and F1 are NaN where nothing was predicted or is there."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def precision(self) -> float:
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float:
        return _ratio(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)

    @property
    def flagged(self) -> float:
        """Share of cases that were predicted to be positive."""
        positives = self.true_positives + self.false_positives
        return _ratio(positives, positives + self.false_negatives + self.true_negatives)

    def row(self) -> dict[str, float]:
        rates = {"precision": self.precision, "recall": self.recall, "f1": self.f1, "flagged": self.flagged}
        return {**rates, **asdict(self)}


def detection(predicted: Sequence[bool] | np.ndarray, actual: Sequence[bool] | np.ndarray) -> Detection:
    """Counts of predicted against actual, case by case."""
    said, true = np.asarray(predicted, dtype=bool), np.asarray(actual, dtype=bool)
    return Detection(
        int((said & true).sum()), int((said & ~true).sum()), int((~said & true).sum()), int((~said & ~true).sum())
    )


def gate_detection(outcomes: Sequence[Outcome], thresholds: ControlThresholds) -> Detection:
    """Would the gate have skipped the problems whose solutions all agree (pass rate 0 or 1: no learning signal)?

    The training's ``judge`` decides: of the problem's predictions, enough must be readable.
    """
    predicted = [_gated([meta.pass_rate for meta in outcome.metas], thresholds) for outcome in outcomes]
    return detection(predicted, [outcome.pass_rate in (0.0, 1.0) for outcome in outcomes])


def cutoff_detection(outcomes: Sequence[Outcome], thresholds: ControlThresholds) -> Detection:
    """Would the cutoff have stopped the solutions that are wrong? One case a solution.

    The training's ``token_budget`` gives the budget; problems without a readable length are not cut.
    """
    section = thresholds.cutoff
    predicted: list[bool] = []
    actual: list[bool] = []
    for outcome in outcomes:
        solutions = list(zip(outcome.lengths, outcome.truncated, strict=True))
        # A truncated solution is as long as the response limit; without one, no length tells of it.
        limit = max((length for length, truncated in solutions if truncated), default=sys.maxsize)
        budget = token_budget([meta.length for meta in outcome.metas], section, limit)
        predicted += [exceeds_budget(length, truncated, budget, limit) for length, truncated in solutions]
        actual += [not right for right in outcome.correct]
    return detection(predicted, actual)


def meta_statistics(outcomes: Sequence[Outcome]) -> dict[str, Statistic]:
    """The meta-awareness metrics as statistics over problems.

    Correlations compare each problem's mean prediction with its measured pass rate, or with the mean length of its
    correct solutions. Absolute errors are means over single predictions; ``length_error`` counts tokens and
    ``length_relative_error`` divides by the actual length. ``parse_rate`` is the share of complete predictions,
    ``notion_precision`` the share of right ones among all predicted notions that are not in the problem.
    """
    rates = np.array([outcome.pass_rate for outcome in outcomes])
    lengths = np.array([_mean(outcome.correct_lengths) for outcome in outcomes])
    predicted_rates = np.array([_mean(outcome.predicted_pass_rates) for outcome in outcomes])
    predicted_lengths = np.array([_mean(outcome.predicted_lengths) for outcome in outcomes])
    rate_errors = [[abs(p - o.pass_rate) for p in o.predicted_pass_rates] for o in outcomes]
    length_errors = [
        [abs(p - actual) for p in o.predicted_lengths] for o, actual in zip(outcomes, lengths, strict=True)
    ]
    metas = [outcome.metas for outcome in outcomes]
    return {
        "parse_rate": _pooled([[float(m.complete) for m in group] for group in metas]),
        "pass_rate_pearson": correlation_of(predicted_rates, rates),
        "pass_rate_spearman": correlation_of(predicted_rates, rates, ranks=True),
        "pass_rate_error": _pooled(rate_errors),
        "length_pearson": correlation_of(predicted_lengths, lengths),
        "length_spearman": correlation_of(predicted_lengths, lengths, ranks=True),
        "length_error": _pooled(length_errors),
        "length_relative_error": _pooled(
            [[error / actual for error in errors] for errors, actual in zip(length_errors, lengths, strict=True)]
        ),
        "notion_precision": ratio_of(
            [sum(m.notions_right for m in group) for group in metas],
            [sum(m.notions_kept for m in group) for group in metas],
        ),
        "r_length": _pooled([[m.r_length for m in group] for group in metas]),
        "r_difficulty": _pooled([[m.r_difficulty for m in group] for group in metas]),
        "r_notion": _pooled([[m.r_notion for m in group] for group in metas]),
        "r_meta": _pooled([[m.r_meta for m in group] for group in metas]),
    }


def calibration_curve(outcomes: Sequence[Outcome], bins: int = 8) -> list[dict[str, float]]:
    """Per bin of predicted pass rate that is not empty: mean prediction, mean actual pass rate, number of predictions.

    Bins are centred on the multiples of 1 / ``bins``, so that answers out of 8 fall in the middle of theirs.
    """
    return calibration_bins(
        [(predicted, outcome.pass_rate) for outcome in outcomes for predicted in outcome.predicted_pass_rates], bins
    )


def calibration_bins(found: Sequence[tuple[float, float]], bins: int = 8) -> list[dict[str, float]]:
    """`calibration_curve` of pairs of a predicted and an actual pass rate."""
    pairs = np.array(found).reshape(-1, 2)
    cells = np.round(pairs[:, 0] * bins).astype(int)
    return [
        {
            "predicted": float(pairs[cells == cell, 0].mean()),
            "actual": float(pairs[cells == cell, 1].mean()),
            "count": int((cells == cell).sum()),
        }
        for cell in np.unique(cells)
    ]


def calibration_error(curve: Sequence[dict[str, float]]) -> float:
    """Expected calibration error: |predicted - actual| of the bins, weighted by count; NaN for an empty curve."""
    total = sum(cell["count"] for cell in curve)
    return _ratio(sum(cell["count"] * abs(cell["predicted"] - cell["actual"]) for cell in curve), total)


def correlation_of(a: Floats, b: Floats, *, ranks: bool = False) -> Statistic:
    """Pearson's r of two per-problem lists, or Spearman's rho with ``ranks``, as a statistic.

    Problems where either value is NaN are left out; NaN for fewer than two problems or a side that does not vary.
    """
    known = ~(np.isnan(a) | np.isnan(b))
    x, y = np.where(known, a, 0.0), np.where(known, b, 0.0)

    def correlation(indices: Indices) -> Floats:
        if ranks:
            return np.array([_spearman(x[row[known[row]]], y[row[known[row]]]) for row in indices])
        weights = known[indices].astype(np.float64)
        count = np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
        dx = (x[indices] - (weights * x[indices]).sum(axis=1, keepdims=True) / count) * weights
        dy = (y[indices] - (weights * y[indices]).sum(axis=1, keepdims=True) / count) * weights
        return _normalised(dx, dy)

    return correlation


def _spearman(x: Floats, y: Floats) -> float:
    from scipy.stats import rankdata

    if len(x) < 2:
        return math.nan
    a, b = rankdata(x), rankdata(y)
    return float(_normalised((a - a.mean())[None], (b - b.mean())[None])[0])


def _normalised(dx: Floats, dy: Floats) -> Floats:
    """Correlation of rows of deviations from their means; rounding of a constant side does not count as variation."""
    above = (dx * dy).sum(axis=1)
    square_x, square_y = (dx**2).sum(axis=1), (dy**2).sum(axis=1)
    below = np.sqrt(square_x * square_y)
    varies = (square_x > 1e-20) & (square_y > 1e-20)
    return np.clip(np.divide(above, below, out=np.full(len(above), np.nan), where=varies), -1.0, 1.0)


def _pooled(groups: Sequence[Sequence[float]]) -> Statistic:
    """The mean over all values of the drawn problems, a problem with more values weighing more; NaN values left out."""
    known = [[value for value in group if not math.isnan(value)] for group in groups]
    return ratio_of([sum(group) for group in known], [len(group) for group in known])


def _gated(pass_rates: Sequence[float | None], thresholds: ControlThresholds) -> bool:
    return judge(pass_rates, thresholds.gating).flagged


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else math.nan


def _ratio(above: float, below: float) -> float:
    return above / below if below else math.nan
