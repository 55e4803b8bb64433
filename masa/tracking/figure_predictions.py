"""Panels of what metas predicted against what solutions showed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from masa.tracking.figure_data import Floats, Pairs, RunData, length_pairs, pass_rate_pairs, tenths
from masa.tracking.figure_style import BLUE, GREY, ORANGE, note, set_title, style

When = Literal["first", "last"]
_MOST_POINTS = 3000
_MOST_CELLS = 300
_LARGEST_BUBBLE = 150.0


def draw_comparison(panels: Sequence[Axes], run: RunData, draw: Callable[[Axes, RunData, When], None]) -> None:
    """One kind of panel twice, first and last tenth of the steps, side by side with one label for both y axes."""
    before, after = panels
    draw(before, run, "first")
    draw(after, run, "last")
    after.set_ylabel("")


def draw_pass_rates(axes: Axes, run: RunData, when: When) -> None:
    """Predicted against measured pass rate in the first or last tenth of the steps; area counts predictions."""
    steps = _steps(run, when)
    pairs = pass_rate_pairs(run.predictions, steps)
    title = _title("Pass rate", when, steps)
    style(axes, title, "measured pass rate", "predicted pass rate")
    axes.set(xlim=(-0.07, 1.07), ylim=(-0.07, 1.07), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.set_box_aspect(1)
    if not _has_points(axes, pairs, when, steps, "no parsed prediction"):
        return
    axes.plot((0, 1), (0, 1), color=GREY, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    x, y, counts = bubbles(pairs)
    axes.scatter(
        x, y, s=_LARGEST_BUBBLE * counts / counts.max(), color=BLUE, alpha=0.55, edgecolors="white", linewidths=0.5
    )
    actual, mean = mean_by_actual(pairs)
    explained = ""
    if len(actual) > 1:
        axes.plot(actual, mean, color=ORANGE, linewidth=1.8, zorder=4)
        explained = "; line: mean prediction"
    set_title(axes, title, f"{_correlation(pairs)}{explained}")


def draw_predicted_lengths(axes: Axes, run: RunData, when: When) -> None:
    """Predicted length against the mean length of correct solutions in the first or last tenth of the steps.

    Predictions between the shortest and the longest correct solution, which r_length rewards, stand out in colour.
    Both tenths share one scale.
    """
    steps = _steps(run, when)
    pairs = length_pairs(run.predictions, steps)
    title = _title("Length", when, steps)
    style(axes, title, "mean correct length (tokens)", "predicted length (tokens)")
    axes.set_box_aspect(1)
    _length_scale(axes, run)
    if not _has_points(axes, pairs, when, steps, "no correct solution"):
        return
    limits = axes.get_xlim()
    axes.plot(limits, limits, color=GREY, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    shown = _subset(len(pairs))
    inside = pairs.inside
    size, alpha = (14.0, 0.55) if len(shown) < 400 else (8.0, 0.3)
    for chosen, color in ((shown[~inside[shown]], GREY), (shown[inside[shown]], BLUE)):
        axes.scatter(pairs.actual[chosen], pairs.predicted[chosen], s=size, color=color, alpha=alpha, linewidths=0)
    set_title(axes, title, f"{_correlation(pairs)}; {inside.mean():.0%} in range (blue)")


def bubbles(pairs: Pairs) -> tuple[Floats, Floats, Floats]:
    """Actual, predicted and count of each distinct pair; on a grid of sixteenths where there would be too many."""
    points = np.stack([pairs.actual, pairs.predicted], axis=1)
    cells, counts = np.unique(points, axis=0, return_counts=True)
    if len(cells) > _MOST_CELLS:
        cells, counts = np.unique(np.round(points * 16) / 16, axis=0, return_counts=True)
    return cells[:, 0], cells[:, 1], counts.astype(float)


def mean_by_actual(pairs: Pairs) -> tuple[Floats, Floats]:
    """The mean prediction in each eighth of the actual pass rate, at the mean actual rate there."""
    eighth = np.round(pairs.actual * 8)
    cells = [eighth == cell for cell in np.unique(eighth)]
    return np.array([pairs.actual[cell].mean() for cell in cells]), np.array([pairs.predicted[c].mean() for c in cells])


def _steps(run: RunData, when: When) -> list[int]:
    first, last = tenths(run.predictions)
    if when == "first":
        return first
    # A run of one step has no later step to compare with.
    return last if last != first else []


def _title(what: str, when: When, steps: Sequence[int]) -> str:
    if not steps:
        return f"{what}, {when} steps"
    return f"{what}, step {steps[0]}" if len(steps) == 1 else f"{what}, steps {steps[0]}–{steps[-1]}"


def _has_points(axes: Axes, pairs: Pairs, when: When, steps: Sequence[int], missing: str) -> bool:
    if len(pairs):
        return True
    note(axes, "no later step yet" if when == "last" and not steps else missing)
    return False


def _length_scale(axes: Axes, run: RunData) -> None:
    both = [length_pairs(run.predictions, _steps(run, when)) for when in ("first", "last")]
    values = np.concatenate([side for pairs in both for side in (pairs.actual, pairs.predicted)])
    values = values[values > 0]
    if not len(values):
        return
    # A single absurd prediction must not squeeze all others into a corner.
    low, high = float(np.quantile(values, 0.002)), float(np.quantile(values, 0.998))
    if high / low > 20:
        axes.set_xscale("log")
        axes.set_yscale("log")
        limits = (low / 1.3, high * 1.3)
    else:
        margin = max((high - low) * 0.08, 1.0)
        limits = (max(0.0, low - margin), high + margin)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.set(xlim=limits, ylim=limits)


def _subset(count: int) -> np.ndarray:
    indices = np.arange(count)
    if count > _MOST_POINTS:
        indices = np.sort(np.random.default_rng(0).choice(indices, _MOST_POINTS, replace=False))
    return indices


def _correlation(pairs: Pairs) -> str:
    return "r undefined" if math.isnan(pairs.correlation) else f"r = {pairs.correlation:.2f}"
