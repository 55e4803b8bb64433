"""Selection by meta-predictions and the problem's own history together, each by how well it has been calibrated."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from masa.config.controls import GatingSection
from masa.controls.gating import Judgement, outlook, readable
from masa.controls.selection.pass_rates import PassRateHistory, Source
from masa.controls.selection.selector import Evidence, Need, Outcome

if TYPE_CHECKING:
    from masa.controls.plan import PredictedProblem

# A square of the smallest numbers is 0, which no worth could begin with.
_LEAST_START = 1e-12


@dataclass(frozen=True)
class Pooled:
    """A pass rate by all sources, and the standard deviation of what they say."""

    rate: float
    std: float


def pooled(sources: Sequence[Source]) -> Pooled:
    """The linear opinion pool (Stone 1961) of ``sources``, weighted by what they count.

    With weights w_i = n_i / sum n the mean is sum w_i p_i and the variance sum w_i (v_i + (p_i - mean) ** 2): that of
    the mixture, so it grows with what each source doubts and with how far the sources are apart. Weights in proportion
    to the counts are weights against the squared errors (Bates and Granger 1969), for the error of n solutions is
    p (1 - p) / n.

    Raises:
        ValueError: no source, or none that counts.
    """
    total = math.fsum(one.count for one in sources)
    if not total > 0:
        raise ValueError(f"{len(sources)} sources count {total} solutions together, more than 0 needed")
    if len(sources) == 1:
        return Pooled(sources[0].rate, math.sqrt(sources[0].variance))  # as it is, without rounding
    rate = min(1.0, max(0.0, math.fsum(one.count * one.rate for one in sources) / total))
    spread = math.fsum(one.count * (one.variance + (one.rate - rate) ** 2) for one in sources) / total
    return Pooled(rate, math.sqrt(max(0.0, spread)))


def predicted(pass_rates: Sequence[float | None], section: GatingSection) -> Source | None:
    """What M predicted pass rates say, as much as M solutions; None where too few could be read."""
    parsed = readable(pass_rates, section)
    if parsed is None:
        return None
    return Source(statistics.fmean(parsed), float(len(parsed)), statistics.pvariance(parsed))


class Worth:
    """How many solutions one of a source's own is worth, in [0, 1]: its expected squared error by its measured one.

    A source that counts n solutions should miss a pass rate p by p (1 - p) / n, squared. Of a group with s of k correct
    solutions the estimates without bias are s (k - s) / (k (k - 1)) of p (1 - p), and (rate - s / k) ** 2 less a k-th
    of that of the squared error. Both are summed over solved problems, discounted a step, and begin with one
    problem's ``start``: an unmeasured source is worth its count. To match an effective sample size by variances is the
    usual way (Morita, Thall and Mueller 2008); that it is measured from groups of solutions is this project's.
    """

    def __init__(self, discount: float, start: float) -> None:
        self._discount = discount
        self._start = start
        self._expected = 0.0
        self._measured = 0.0

    @property
    def value(self) -> float:
        return min(1.0, (self._expected + self._start) / (max(0.0, self._measured) + self._start))

    def observe(self, told: Sequence[tuple[Source, Outcome]]) -> None:
        """Compare what was said of one step's problems with their solutions; groups of one solution say nothing."""
        self._expected *= self._discount
        self._measured *= self._discount
        for source, one in told:
            if one.total < 2:
                continue
            variance = one.correct * (one.total - one.correct) / (one.total * (one.total - 1))
            self._expected += variance / source.count
            self._measured += (source.rate - one.correct / one.total) ** 2 - variance / one.total

    def state_dict(self) -> dict[str, Any]:
        return {"expected": self._expected, "measured": self._measured}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._expected, self._measured = float(state["expected"]), float(state["measured"])


class CombinedSelector:
    """Flags problems of which meta-predictions and history together say that they teach nothing.

    A problem without history is judged as by meta-predictions alone. One without readable predictions is judged by its
    history, where that is long enough for its Beta posterior, from a uniform prior, to be as narrow as the gate asks.
    """

    needs: Need = "metas"
    ranks = False

    def __init__(self, discount: float, section: GatingSection) -> None:
        self._section = section
        self._history = PassRateHistory(discount)
        # A variance at which the gate just does not see agreement.
        start = max(section.max_std**2, _LEAST_START)
        self._history_worth = Worth(discount, start)
        self._prediction_worth = Worth(discount, start)

    def judge(self, step: int, candidates: Sequence[PredictedProblem], evidence: Evidence) -> dict[str, Judgement]:
        found = {}
        for one in candidates:
            pool = self._pool(step, one.problem.id, [prediction.pass_rate for prediction in one.predictions])
            found[one.problem.id] = Judgement("open") if pool is None else outlook(pool.rate, pool.std, self._section)
        return found

    def observe(self, step: int, outcomes: Sequence[Outcome], evidence: Evidence) -> dict[str, float]:
        errors = []
        for one in outcomes:
            pool = self._pool(step, one.problem, one.predicted)
            if pool is not None:
                errors.append(abs(pool.rate - one.correct / one.total))
        known = [(self._history(step, one.problem), one) for one in outcomes]
        self._history_worth.observe([(source, one) for source, one in known if source is not None])
        told = [(predicted(one.predicted, self._section), one) for one in outcomes]
        self._prediction_worth.observe([(source, one) for source, one in told if source is not None])
        self._history.observe(step, outcomes)
        metrics = {
            "control/combined_problems": float(len(self._history)),
            "control/combined_history_worth": self._history_worth.value,
            "control/combined_prediction_worth": self._prediction_worth.value,
        }
        return {**metrics, "control/combined_error": statistics.fmean(errors)} if errors else metrics

    def state_dict(self) -> dict[str, Any]:
        return {
            "history": self._history.state_dict(),
            "history_worth": self._history_worth.state_dict(),
            "prediction_worth": self._prediction_worth.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._history.load_state_dict(state["history"])
        self._history_worth.load_state_dict(state["history_worth"])
        self._prediction_worth.load_state_dict(state["prediction_worth"])

    def _pool(self, step: int, id: str, pass_rates: Sequence[float | None]) -> Pooled | None:
        """The pass rate by what is known before step ``step``; None where that is nothing."""
        history, told = self._history(step, id), predicted(pass_rates, self._section)
        if told is None:
            return _by_history(_worth(history, self._history_worth)) if history is not None else None
        sources = [_worth(told, self._prediction_worth)]
        if history is not None:
            sources.append(_worth(history, self._history_worth))
        return pooled(sources)


def _worth(source: Source, worth: Worth) -> Source:
    return Source(source.rate, worth.value * source.count, source.variance)


def _by_history(source: Source) -> Pooled:
    """The share of correct solutions, with the standard deviation of Beta(1 + correct, 1 + incorrect)."""
    alpha, beta = 1.0 + source.count * source.rate, 1.0 + source.count * (1.0 - source.rate)
    total = alpha + beta
    return Pooled(source.rate, math.sqrt(alpha * beta / (total**2 * (total + 1.0))))
