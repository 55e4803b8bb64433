"""What goes with accuracy: Shapley parts of R² of each meta component over a run's steps, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from masa.evaluation.measures.shapley import shapley_r_squared, shares
from masa.reporting.curves import Spread, spread
from masa.reporting.groups import RunGroup
from masa.reporting.notices import FEW_SEEDS
from masa.reporting.runs import Run
from masa.tracking import keys
from masa.tracking.figure_data import smooth

COMPONENTS = {
    "notion": keys.R_NOTION,
    "difficulty": keys.R_DIFFICULTY,
    "length": keys.R_LENGTH,
    "step": "step",
}
_FEWEST_STEPS = 30
_BLOCK_RESAMPLES = 200


@dataclass(frozen=True)
class Contributions:
    """Each component's part of R² over one run's steps; ``columns`` and ``correctness`` are what was fitted, smoothed.

    ``shares`` and ``total`` (R²) have intervals over blocks of steps, resampled when they are first asked for.
    """

    parts: Mapping[str, float]
    columns: Mapping[str, np.ndarray]
    correctness: np.ndarray
    window: int

    @cached_property
    def shares(self) -> Mapping[str, Spread]:
        own, resampled = shares(self.parts), [shares(one) for one in self._resampled]
        return {name: _interval(own[name], [one[name] for one in resampled]) for name in own}

    @cached_property
    def total(self) -> Spread:
        return _interval(self.r_squared, [sum(one.values()) for one in self._resampled])

    @property
    def r_squared(self) -> float:
        return sum(self.parts.values())

    @cached_property
    def _resampled(self) -> list[dict[str, float]]:
        again = (
            shapley_r_squared({name: one[steps] for name, one in self.columns.items()}, self.correctness[steps])
            for steps in _blocks(len(self.correctness), 2 * self.window)
        )
        return [one for one in again if not any(math.isnan(value) for value in one.values())]


def contributions(run: Run) -> Contributions | None:
    """Shapley parts of R² over one run's steps.

    None where there are fewer than 30 steps with metas, nothing to explain, or nothing to explain it by.
    """
    rows = [row for row in run.metrics if row.get(keys.CORRECTNESS) is not None and row.get(keys.R_META) is not None]
    if len(rows) < _FEWEST_STEPS:
        return None
    window = len(rows) // 12 | 1
    columns = {name: _moving([_number(row.get(key)) for row in rows], window) for name, key in COMPONENTS.items()}
    correctness = _moving([_number(row[keys.CORRECTNESS]) for row in rows], window)
    parts = shapley_r_squared(columns, correctness)
    if any(math.isnan(value) for value in parts.values()):
        return None
    return Contributions(parts, columns, correctness, window)


def _blocks(steps: int, length: int) -> Iterator[np.ndarray]:
    """Resamples of the steps by blocks of neighbours: moving means of neighbouring steps are not independent."""
    rng = np.random.default_rng(0)
    count = -(-steps // length)
    for _ in range(_BLOCK_RESAMPLES):
        starts = rng.integers(0, steps - length + 1, count)
        yield (starts[:, None] + np.arange(length)).ravel()[:steps]


def _interval(value: float, drawn: Sequence[float]) -> Spread:
    low, high = np.quantile(drawn, (0.025, 0.975)) if drawn else (math.nan, math.nan)
    return Spread(value, float(low), float(high), 1)


def over_runs(group: RunGroup, found: Sequence[Contributions]) -> tuple[dict[str, Spread], Spread]:
    """Shares and R² of a group: intervals over seeds where there are enough, else those of its first run's steps."""
    own = [shares(one.parts) for one in found]
    over_seeds = {name: spread([one[name] for one in own]) for name in COMPONENTS}
    explained = spread([one.r_squared for one in found])
    if len(found) >= FEW_SEEDS:
        return over_seeds, explained
    first = found[0]
    return {
        name: replace(over_seeds[name], low=first.shares[name].low, high=first.shares[name].high) for name in COMPONENTS
    }, replace(explained, low=first.total.low, high=first.total.high)


def _moving(values: Sequence[float], window: int) -> np.ndarray:
    return smooth(np.array(values, dtype=np.float64), window)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
