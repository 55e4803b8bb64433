"""Confidence intervals by bootstrap over problems, and paired comparisons by the sign-flip permutation test.

A statistic is a function of problem indices: it takes an integer array ``[resamples, size]`` and gives one value a row.
So one set of resamples serves every metric of a benchmark, also those that are no mean of per-problem numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Statistic = Callable[[Indices], Floats]
IntervalMethod = Literal["bca", "percentile"]

RESAMPLES = 9999
LEVEL = 0.95
# Index entries drawn at a time; bounds memory whatever the number of problems.
_BATCH_ENTRIES = 4_000_000
_EXACT_SIGN_FLIPS = 14


@dataclass(frozen=True)
class Estimate:
    """A value, its confidence interval and standard error; NaN where none can be made (fewer than 2 problems)."""

    value: float
    low: float = math.nan
    high: float = math.nan
    error: float = math.nan

    def row(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high, "error": self.error}


@dataclass(frozen=True)
class PairedDifference:
    """Mean of ``a - b`` over the same problems, with interval and two-sided p-value of one permutation test."""

    difference: Estimate
    p_value: float
    problems: int


def resample_indices(size: int, resamples: int, rng: np.random.Generator) -> Iterator[Indices]:
    """``resamples`` draws of ``size`` indices with replacement, in batches of ``[batch, size]``."""
    batch = max(1, _BATCH_ENTRIES // max(size, 1))
    for start in range(0, resamples, batch):
        yield rng.integers(0, size, (min(batch, resamples - start), size))


def bootstrap(
    statistic: Statistic,
    size: int,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    method: IntervalMethod = "bca",
    seed: int | np.random.Generator = 0,
) -> Estimate:
    """The statistic of all ``size`` problems and its bootstrap interval.

    ``bca`` is bias-corrected and accelerated (Efron 1987; Efron and Tibshirani 1993, chapter 14), as
    `scipy.stats.bootstrap` computes it on the same resamples. Where the statistic is the same in all resamples, both
    bounds are its value; resamples in which it is not defined (NaN) are left out.

    Raises:
        ValueError: no problem at all, or a level outside (0, 1).
    """
    if size < 1:
        raise ValueError(f"a bootstrap needs at least one problem, found {size}")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, a number between 0 and 1 needed")
    value = float(statistic(np.arange(size)[None])[0])
    if size < 2 or math.isnan(value):
        return Estimate(value)
    rng = np.random.default_rng(seed)
    drawn = np.concatenate([statistic(indices) for indices in resample_indices(size, resamples, rng)])
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return Estimate(value)
    if np.ptp(drawn) == 0 and drawn[0] == value:
        return Estimate(value, value, value, 0.0)
    tail = (1 - level) / 2
    quantiles = (tail, 1 - tail) if method == "percentile" else _bca_quantiles(statistic, size, value, drawn, tail)
    low, high = np.quantile(drawn, quantiles)
    error = float(drawn.std(ddof=1)) if len(drawn) > 1 else math.nan
    return Estimate(value, float(low), float(high), error)


def _bca_quantiles(statistic: Statistic, size: int, value: float, drawn: Floats, tail: float) -> tuple[float, float]:
    """Which quantiles of the resamples bound the interval: shifted by bias and acceleration (Efron 1987)."""
    from scipy.special import ndtr, ndtri

    below = ((drawn < value).sum() + (drawn <= value).sum()) / (2 * len(drawn))
    bias = float(ndtri(below))
    left_out = np.concatenate([statistic(indices) for indices in _leave_one_out(size)])
    spread = left_out[~np.isnan(left_out)].mean() - left_out[~np.isnan(left_out)] if len(left_out) else left_out
    denominator = float((spread**2).sum()) ** 1.5
    acceleration = float((spread**3).sum()) / (6 * denominator) if denominator > 0 else 0.0
    if not math.isfinite(bias):
        return tail, 1 - tail
    bounds = []
    for z in (float(ndtri(tail)), -float(ndtri(tail))):
        shifted = bias + z
        bounds.append(float(ndtr(bias + shifted / (1 - acceleration * shifted))))
    return bounds[0], bounds[1]


def _leave_one_out(size: int) -> Iterator[Indices]:
    batch = max(1, _BATCH_ENTRIES // size)
    everyone = np.arange(size - 1)
    for start in range(0, size, batch):
        left_out = np.arange(start, min(start + batch, size))[:, None]
        yield everyone[None] + (everyone[None] >= left_out)


def mean_of(values: ArrayLike) -> Statistic:
    """The mean of per-problem values as a statistic; problems whose value is NaN do not count."""
    array = np.asarray(values, dtype=np.float64)
    if not np.isnan(array).any():
        return lambda indices: array[indices].mean(axis=1)
    known = ~np.isnan(array)
    filled = np.where(known, array, 0.0)

    def mean_of_known(indices: Indices) -> Floats:
        counts = known[indices].sum(axis=1)
        sums = filled[indices].sum(axis=1)
        return np.divide(sums, counts, out=np.full(len(indices), np.nan), where=counts > 0)

    return mean_of_known


def ratio_of(numerators: ArrayLike, denominators: ArrayLike) -> Statistic:
    """Sum of per-problem numerators over sum of denominators, as a statistic; NaN where the latter is 0."""
    above, below = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)

    def ratio(indices: Indices) -> Floats:
        total = below[indices].sum(axis=1)
        return np.divide(above[indices].sum(axis=1), total, out=np.full(len(indices), np.nan), where=total > 0)

    return ratio


@dataclass(frozen=True)
class SignFlips:
    """Means of the differences on the two sides of each sign pattern: those it flips, and those it leaves.

    The sign-flip test of ``mean = delta`` finds a pattern at least as extreme as what was observed where one of its
    two sides has a mean beyond ``delta``, so ``lowest`` and ``highest`` of the two sides, one entry a pattern, hold
    the p-value of every ``delta``. A pattern with an empty side is always as extreme: infinite on both.
    """

    lowest: Floats
    highest: Floats
    mean: float
    tolerance: float
    exact: bool

    def p_value(self, delta: float) -> float:
        """Two-sided p-value that the mean is ``delta``; with random patterns the observed one counts as well."""
        if abs(delta - self.mean) <= self.tolerance:
            return 1.0
        # Means that are equal but for rounding count as equal.
        beyond = self.lowest <= delta + self.tolerance if delta < self.mean else self.highest >= delta - self.tolerance
        extra = 0 if self.exact else 1
        return float((beyond.sum() + extra) / (len(beyond) + extra))

    def interval(self, level: float) -> tuple[float, float]:
        """All ``delta`` that the test does not reject at ``1 - level``; NaN where it can reject none."""
        extra = 0 if self.exact else 1
        # The first pattern count whose p-value is above 1 - level.
        rank = math.floor((1 - level) * (len(self.lowest) + extra) + 1e-9) + 1 - extra
        if rank > len(self.lowest):
            return math.nan, math.nan
        low = float(np.sort(self.lowest)[rank - 1])
        high = float(np.sort(self.highest)[len(self.highest) - rank])
        if not (math.isfinite(low) and math.isfinite(high)):
            return math.nan, math.nan
        # A bound that is zero but for rounding would contradict the p-value.
        return (0.0 if abs(low) <= self.tolerance else low), (0.0 if abs(high) <= self.tolerance else high)


def sign_flips(differences: Floats, *, resamples: int, seed: int | np.random.Generator = 0) -> SignFlips:
    """The sign patterns of the paired test: all of them for up to 14 differences, else ``resamples`` random ones.

    With random patterns the observed one is counted, as `scipy.stats.permutation_test(permutation_type="samples")`.
    """
    size = len(differences)
    exact = size <= _EXACT_SIGN_FLIPS
    total = float(differences.sum())
    lowest, highest = [], []
    for flipped in _flip_batches(size, None if exact else resamples, np.random.default_rng(seed)):
        count, summed = flipped.sum(axis=1, dtype=np.int64), flipped @ differences
        with np.errstate(divide="ignore", invalid="ignore"):
            sides = np.stack([summed / count, (total - summed) / (size - count)])
        whole = (count == 0) | (count == size)
        lowest.append(np.where(whole, -np.inf, sides.min(axis=0)))
        highest.append(np.where(whole, np.inf, sides.max(axis=0)))
    tolerance = 1e-12 * float(np.abs(differences).sum())
    return SignFlips(np.concatenate(lowest), np.concatenate(highest), total / size, tolerance, exact)


def _flip_batches(size: int, resamples: int | None, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Which differences each pattern flips, as 0 and 1 in batches of ``[batch, size]``."""
    if resamples is None:
        yield ((np.arange(2**size)[:, None] >> np.arange(size)) & 1).astype(np.float64)
        return
    batch = max(1, _BATCH_ENTRIES // size)
    for start in range(0, resamples, batch):
        yield rng.integers(0, 2, (min(batch, resamples - start), size), dtype=np.int8).astype(np.float64)


def paired_difference(
    a: Sequence[float] | Floats,
    b: Sequence[float] | Floats,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> PairedDifference:
    """Compare two models on the same problems: ``a[i]`` and ``b[i]`` are their values on problem ``i``.

    Interval and p-value come from the same sign-flip test: the interval holds the differences that the test does not
    reject (Hartigan 1969), so that it leaves out zero exactly where the p-value is at most ``1 - level``. It is NaN
    for fewer than six problems, where no difference could be rejected at 95 %.

    Raises:
        ValueError: lists of different length, or empty ones.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"a paired comparison needs values of the same problems, found {len(first)} and {len(second)}")
    if not len(first):
        raise ValueError("a paired comparison needs at least one problem, found 0")
    differences = first - second
    flips = sign_flips(differences, resamples=resamples, seed=seed)
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan
    estimate = Estimate(flips.mean, *flips.interval(level), error)
    return PairedDifference(estimate, flips.p_value(0.0), len(differences))
