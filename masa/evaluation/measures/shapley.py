"""Shapley shares of explained variance (Lipovetsky and Conklin 2001), as in the paper's figure of meta components."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def r_squared(features: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Share of the variance of ``target [rows]`` that a linear fit on ``features [rows, columns]`` explains.

    NaN where the target does not vary.
    """
    deviations = target - target.mean()
    total = float((deviations**2).sum())
    # Rounding leaves a constant target with a variance of about 1e-33.
    if total <= 1e-20 * max(1.0, float((target**2).sum())):
        return math.nan
    centred = features - features.mean(axis=0)
    coefficients, *_ = np.linalg.lstsq(centred, deviations, rcond=None)
    return float(1 - ((deviations - centred @ coefficients) ** 2).sum() / total)


def shapley_r_squared(features: Mapping[str, ArrayLike], target: ArrayLike) -> dict[str, float]:
    """What each feature contributes to R^2: its gain, averaged over all orders in which features can enter.

    The contributions add up to the R^2 of the full model. Rows with a NaN anywhere are left out; every contribution is
    NaN where fewer rows are left than the full model has coefficients plus one, or the target does not vary.
    """
    names = list(features)
    columns = np.stack([np.asarray(features[name], dtype=np.float64) for name in names], axis=1)
    values = np.asarray(target, dtype=np.float64)
    known = ~(np.isnan(columns).any(axis=1) | np.isnan(values))
    columns, values = columns[known], values[known]
    if len(values) < len(names) + 2:
        return dict.fromkeys(names, math.nan)
    explained = {
        subset: r_squared(columns[:, list(subset)], values) if subset else 0.0
        for size in range(len(names) + 1)
        for subset in combinations(range(len(names)), size)
    }
    return {name: _contribution(index, len(names), explained) for index, name in enumerate(names)}


def shares(contributions: Mapping[str, float]) -> dict[str, float]:
    """Contributions divided by their sum; NaN where nothing is explained."""
    total = sum(contributions.values())
    return {name: value / total if total > 0 else math.nan for name, value in contributions.items()}


def _contribution(index: int, count: int, explained: Mapping[tuple[int, ...], float]) -> float:
    others = [other for other in range(count) if other != index]
    total = 0.0
    for size in range(count):
        weight = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
        for subset in combinations(others, size):
            total += weight * (explained[_with(subset, index)] - explained[subset])
    return total


def _with(subset: Sequence[int], index: int) -> tuple[int, ...]:
    return tuple(sorted((*subset, index)))
