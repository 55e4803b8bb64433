"""Proportions with confidence intervals: what audits say about a control."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True)
class Estimate:
    """A value in [0, 1] with the ends of its confidence interval; NaN and [0, 1] where nothing was observed."""

    value: float
    low: float
    high: float


UNKNOWN = Estimate(math.nan, 0.0, 1.0)


def proportion(successes: int, trials: int, confidence: float) -> Estimate:
    """``successes / trials`` with its two-sided Wilson score interval (Wilson 1927).

    Raises:
        ValueError: counts that are no proportion, or a confidence outside (0, 1).
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials are no proportion")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, a number between 0 and 1 needed")
    if trials == 0:
        return UNKNOWN
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / trials
    scale = 1 + z * z / trials
    center = (rate + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    # At 0 and at all successes one end is the rate itself; rounding must not move it past.
    return Estimate(rate, min(rate, max(0.0, center - half)), max(rate, min(1.0, center + half)))


def f1_of_counts(hits: int, false_alarms: int, misses: int, confidence: float) -> Estimate:
    """F1 = 2 TP / (2 TP + FP + FN) with an interval.

    F1 is 2J / (1 + J) of the share J = TP / (TP + FP + FN), a proportion, and rises with it; so J's Wilson interval
    becomes F1's.
    """
    share = proportion(hits, hits + false_alarms + misses, confidence)
    return Estimate(*(2 * one / (1 + one) for one in (share.value, share.low, share.high)))
