"""Confidence intervals by bootstrap over problems, and paired comparisons by sign-flip permutation.

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
    """Mean of ``a - b`` over the same problems, its interval, and the two-sided permutation p-value."""

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


def permutation_p_value(
    differences: ArrayLike, *, resamples: int = RESAMPLES, seed: int | np.random.Generator = 0
) -> float:
    """Two-sided p-value that the mean of paired ``differences`` is zero, by flipping their signs.

    Exact (all sign patterns) for up to 14 differences that are not zero, else from ``resamples`` random patterns with
    the observed one counted, as `scipy.stats.permutation_test(permutation_type="samples")`. NaN without differences.
    """
    array = np.asarray(differences, dtype=np.float64)
    if not len(array):
        return math.nan
    moved = array[array != 0]  # a zero is the same with either sign
    if not len(moved):
        return 1.0
    observed = abs(moved.sum())
    # Sums that are equal but for rounding count as equal.
    threshold = observed - 1e-12 * np.abs(moved).sum()
    if len(moved) <= _EXACT_SIGN_FLIPS:
        patterns = (np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved))) & 1
        return float((np.abs((1 - 2 * patterns) @ moved) >= threshold).mean())
    rng = np.random.default_rng(seed)
    extreme = 0
    for indices in _sign_batches(len(moved), resamples, rng):
        extreme += int((np.abs(indices @ moved) >= threshold).sum())
    return (extreme + 1) / (resamples + 1)


def _sign_batches(size: int, resamples: int, rng: np.random.Generator) -> Iterator[NDArray[np.int8]]:
    batch = max(1, _BATCH_ENTRIES // size)
    for start in range(0, resamples, batch):
        draws = rng.integers(0, 2, (min(batch, resamples - start), size), dtype=np.int8)
        yield (1 - 2 * draws).astype(np.int8)


def paired_difference(
    a: Sequence[float] | Floats,
    b: Sequence[float] | Floats,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> PairedDifference:
    """Compare two models on the same problems: ``a[i]`` and ``b[i]`` are their values on problem ``i``.

    Raises:
        ValueError: lists of different length, or empty ones.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"a paired comparison needs values of the same problems, found {len(first)} and {len(second)}")
    differences = first - second
    estimate = bootstrap(mean_of(differences), len(differences), resamples=resamples, level=level, seed=seed)
    return PairedDifference(
        estimate, permutation_p_value(differences, resamples=resamples, seed=seed), len(differences)
    )
