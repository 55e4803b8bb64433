"""Curves over training: one value a step and run, as the mean over a group's seeds with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from masa.evaluation.measures.statistics import bootstrap, mean_of
from masa.reporting.groups import RunGroup
from masa.reporting.runs import Run
from masa.tracking import keys
from masa.tracking.figure_data import series, smooth
from masa.tracking.windows import even_windows

Floats = NDArray[np.float64]
Against = Literal["step", "tokens", "seconds"]
_WINDOWS = 12
_RESAMPLES = 999


@dataclass(frozen=True)
class Curve:
    """Mean over seeds at each point, and its 95 % interval.

    ``low`` and ``high`` are an interval over seeds by Student's t. Of a single run they are a bootstrap interval over
    held-out problems where the curve is its accuracy, else NaN. ``members`` holds each run's own values.
    """

    steps: Floats
    x: Floats
    mean: Floats
    low: Floats
    high: Floats
    seeds: int
    members: tuple[Floats, ...] = ()

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Spread:
    """A mean over seeds and its 95 % interval by Student's t; NaN bounds for a single seed."""

    mean: float
    low: float
    high: float
    seeds: int


def spread(values: Sequence[float]) -> Spread:
    """Mean and t interval of one value a seed; NaN values are left out."""
    known = np.array([value for value in values if not math.isnan(value)])
    if not len(known):
        return Spread(math.nan, math.nan, math.nan, 0)
    mean = float(known.mean())
    if len(known) < 2:
        return Spread(mean, math.nan, math.nan, 1)
    half = _t_quantile(len(known) - 1) * float(known.std(ddof=1)) / math.sqrt(len(known))
    return Spread(mean, mean - half, mean + half, len(known))


def curve(group: RunGroup, key: str, against: Against = "step", *, smoothed: bool = False) -> Curve:
    """The group's curve of a metric, at the steps at which every run that measured it has a value.

    ``smoothed`` takes a centred moving mean over a twelfth of each run first. ``against`` chooses x: the step, the
    tokens generated up to it, or the seconds of training up to it; seeds differ in those, so x is their mean, too.
    """
    per_run: list[dict[float, tuple[float, float]]] = []
    for run in group.runs:
        steps, values = series(run.metrics, key)
        if not len(steps):
            continue
        if smoothed and (window := len(steps) // 12 | 1) >= 3:
            values = smooth(values, window)
        positions = progress(run.metrics, against)
        per_run.append({s: (positions[int(s)], v) for s, v in zip(steps.tolist(), values.tolist(), strict=True)})
    if not per_run:
        empty = np.array([])
        return Curve(empty, empty, empty, empty, empty, 0)
    shared = sorted(set.intersection(*(set(points) for points in per_run)))
    spreads = [spread([points[step][1] for points in per_run]) for step in shared]
    if len(per_run) == 1 and key == keys.HELD_OUT_ACCURACY:
        run = next(one for one in group.runs if len(series(one.metrics, key)[0]))
        spreads = [over_problems(run, int(step), one.mean) for step, one in zip(shared, spreads, strict=True)]
    return Curve(
        steps=np.array(shared),
        x=np.array([np.mean([points[step][0] for points in per_run]) for step in shared]),
        mean=np.array([one.mean for one in spreads]),
        low=np.array([one.low for one in spreads]),
        high=np.array([one.high for one in spreads]),
        seeds=len(per_run),
        members=tuple(np.array([points[step][1] for step in shared]) for points in per_run),
    )


def over_problems(run: Run, step: int, accuracy: float) -> Spread:
    """A run's held-out accuracy after ``step`` with its bootstrap interval over problems, where they were kept."""
    outcomes = run.held_out_by_step.get(step, ())
    if len(outcomes) < 2:
        return Spread(accuracy, math.nan, math.nan, 1)
    found = bootstrap(mean_of([one.pass_rate for one in outcomes]), len(outcomes), resamples=_RESAMPLES)
    return Spread(accuracy, found.low, found.high, 1)


def epoch_ends(run: Run) -> list[int]:
    """The steps in which a run had drawn all its training problems once, twice and so on, as a sum over steps."""
    size = run.environment.get("training_problems")
    if not size:
        return []
    ends: list[int] = []
    drawn = 0.0
    for row in run.metrics:
        drawn += row.get("cost/problems_drawn") or 0.0
        while drawn >= size * (len(ends) + 1):
            ends.append(int(row["step"]))
    return ends


def progress(rows: Sequence[Mapping[str, Any]], against: Against) -> dict[int, float]:
    """What had been spent when each step was done."""
    if against == "step":
        return {int(row["step"]): float(row["step"]) for row in rows}
    return spent(rows, keys.TOKENS_GENERATED if against == "tokens" else keys.STEP_SECONDS)


def spent(rows: Sequence[Mapping[str, Any]], key: str) -> dict[int, float]:
    """The sum of a metric up to each step."""
    sums, total = {}, 0.0
    for row in rows:
        total += row.get(key) or 0.0
        sums[int(row["step"])] = total
    return sums


def twelfths(steps: Sequence[int]) -> list[Sequence[int]]:
    """Steps in twelve windows whose lengths differ by one at most; as many windows as steps where those are fewer."""
    return even_windows(steps, _WINDOWS)


def total(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    """Sum of a metric over a run; NaN where the run has no value of it."""
    found = [row[key] for row in rows if row.get(key) is not None]
    return math.fsum(found) if found else math.nan


def mean_over(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    """Mean of a metric over the training steps that have it; NaN where none has."""
    found = [row[key] for row in rows if row["step"] > 0 and row.get(key) is not None]
    return math.fsum(found) / len(found) if found else math.nan


def reached(rows: Sequence[Mapping[str, Any]], accuracy: float, against: Against) -> float:
    """What had been spent when held-out accuracy first was at least ``accuracy``; NaN where it never was."""
    positions = progress(rows, against)
    for row in rows:
        value = row.get(keys.HELD_OUT_ACCURACY)
        if value is not None and value >= accuracy:
            return positions[int(row["step"])]
    return math.nan


def value_before(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    """A metric before the first training step (step 0); NaN where it was not measured then."""
    steps, values = series(rows, key)
    return float(values[0]) if len(steps) and steps[0] == 0 else math.nan


def last_value(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    """The last finite value of a metric once training began; NaN where it was only measured before the first step."""
    steps, values = series(rows, key)
    return float(values[-1]) if len(steps) and steps[-1] > 0 else math.nan


def last_step_with(rows: Sequence[Mapping[str, Any]], key: str) -> int:
    """The last step with a finite value of a metric; 0 without one."""
    steps, _ = series(rows, key)
    return int(steps[-1]) if len(steps) else 0


def _t_quantile(degrees: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, degrees))
