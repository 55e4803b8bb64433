"""Figures of the paper's second version: paired gains, the cutoff's standardised error, calibration over training."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from masa.reporting.analyses import (
    Bin,
    Change,
    binned,
    calibration_windows,
    changes,
    held_out_changes,
    standardised_errors,
)
from masa.reporting.curves import curve
from masa.reporting.figure import HoverPoint, Panel, ReportFigure
from masa.reporting.groups import RunGroup
from masa.reporting.line_panel import TITLE_CHARACTERS, Line, line_panel, line_rows
from masa.tracking.figure_style import BLACK, FONT, GREY, VERMILION, style

# Fewer pairs of steps, or solutions of a kind, say nothing.
_FEWEST = 20
_FAR = 4.0
_HEADROOM = 1.3
_SHADE = 0.55


def paired_figure(groups: Sequence[RunGroup]) -> ReportFigure:
    """Gain in pass rate of the same problem between two steps, against the change of r_meta and the steps between."""
    panels: list[Panel] = []
    rows: list[dict[str, Any]] = []
    kinds: tuple[tuple[str, Callable[[Change], float]], ...] = (
        ("change of r_meta", lambda one: one.r_meta),
        ("steps between", lambda one: float(one.steps)),
    )
    for group in groups:
        for problems, found in _changes(group).items():
            if len(found) < _FEWEST:
                continue
            for against, by in kinds:
                bins = binned(found, by)
                rows += [
                    {"group": group.label, "problems": problems, "against": against, "center": one.center,
                     "gain": one.gain.mean, "low": one.gain.low, "high": one.gain.high, "pairs": one.count}
                    for one in bins
                ]  # fmt: skip
                panels.append(_gains(group, f"{group.label}, {problems} problems", bins, against, len(found)))
    return ReportFigure(
        "paired",
        "The same problem at two steps",
        "Gain in pass rate of a problem between two steps, against the change of its metas' reward and against the "
        "number of steps between: of training problems two steps in a row that solved it, of held-out problems every "
        "two evaluations, which share their states, so that their intervals are too narrow. Dots are means of bins of "
        "about equal size, bars 95 % intervals by Student's t over pairs, all seeds together. A problem that was easy "
        "by luck at the first of two steps is harder at the second, whatever was learned: only what differs between "
        "bins can be read.",
        panels,
        rows,
        columns=2,
    )


def cutoff_error_figure(groups: Sequence[RunGroup]) -> ReportFigure:
    """How far solutions run beyond their predicted length, in standard deviations of the predictions."""
    panels: list[Panel] = []
    rows: list[dict[str, Any]] = []
    for group in groups:
        errors: dict[str, list[float]] = {"correct": [], "wrong": []}
        for run in group.runs:
            for name, found in standardised_errors(run.predictions).items():
                errors[name] += found
        if min(len(found) for found in errors.values()) < _FEWEST:
            continue
        rows += [
            {"group": group.label, "solution": name, "error": one} for name, all_ in errors.items() for one in all_
        ]
        panels.append(_errors(group, errors))
    return ReportFigure(
        "cutoff_error",
        "Lengths against their predictions",
        "(Length - mean predicted length) / standard deviation of the predictions, of correct and of wrong solutions; "
        "problems whose metas agree are left out. Early cutoff saves where wrong solutions lie to the right of correct "
        "ones. Values beyond 4 are counted at the edge. A solution that the cutoff or the response limit ended counts "
        "with the tokens that it had by then.",
        panels,
        rows,
        columns=2,
    )


def calibration_figure(groups: Sequence[RunGroup]) -> ReportFigure:
    """Expected calibration error of the predicted pass rates over training."""
    lines = []
    for group in groups:
        runs = tuple(replace(run, metrics=rows) for run in group.runs if (rows := calibration_windows(run)))
        if runs:
            found = curve(replace(group, runs=runs), "calibration")
            lines.append(Line(group.label, group.color, found, series=group.key))
    title = "Calibration of predicted pass rates"
    return ReportFigure(
        "calibration",
        "Calibration over training",
        "Expected calibration error of the predicted pass rates in each twelfth of the run: the mean distance between "
        "a predicted pass rate and what problems with that prediction had. It falls where predictions become right on "
        "average, and also where they do not tell one problem from another. Problems that a gate left out "
        "are not in it.",
        [line_panel(lines, title, "expected calibration error", "step", rate=True)] if lines else [],
        [row for line in lines for row in line_rows(line)],
    )


def _changes(group: RunGroup) -> dict[str, list[Change]]:
    """The pairs of all runs of a group, by kind of problem."""
    return {
        "training": [one for run in group.runs for one in changes(run.predictions)],
        "held-out": [one for run in group.runs for one in held_out_changes(run.held_out_by_step)],
    }


def _gains(group: RunGroup, title: str, bins: Sequence[Bin], against: str, pairs: int) -> Panel:
    def draw(axes: Axes) -> None:
        style(axes, textwrap.fill(title, TITLE_CHARACTERS), against, "gain in pass rate")
        axes.axhline(0, color=GREY, linewidth=0.8)
        for one in bins:
            axes.plot((one.center, one.center), (one.gain.low, one.gain.high), color=group.color, linewidth=1.2)
        axes.plot([one.center for one in bins], [one.gain.mean for one in bins], "o", color=group.color, markersize=5)

    hover = [
        HoverPoint(
            one.center, one.gain.mean, f"{against} {one.center:.2g}: gain {one.gain.mean:+.2f}, {one.count} pairs"
        )
        for one in bins
    ]
    said = f"{title}: gain in pass rate against {against}, {pairs} pairs in {len(bins)} bins"
    return Panel(draw, said, hover=hover, series=group.key)


def _errors(group: RunGroup, errors: dict[str, list[float]]) -> Panel:
    def draw(axes: Axes) -> None:
        style(
            axes,
            textwrap.fill(group.label, TITLE_CHARACTERS),
            "standardised error of the predicted length",
            "share of solutions",
        )
        edges = np.linspace(-_FAR, _FAR, 33)
        for name, color in (("correct", group.color), ("wrong", VERMILION if group.color != VERMILION else BLACK)):
            values = np.clip(errors[name], -_FAR, _FAR)
            weights = np.full(len(values), 1 / len(values))
            label = f"{name} (median {np.median(values):+.1f})"
            axes.hist(values, edges.tolist(), weights=weights, color=color, alpha=_SHADE, label=label)
        # Room for the legend above the highest bar.
        axes.set_ylim(top=_HEADROOM * axes.get_ylim()[1])
        axes.legend(fontsize=FONT - 0.5, frameon=False, loc="upper left")

    medians = ", ".join(f"{name} {np.median(found):+.1f} ({len(found)})" for name, found in errors.items())
    return Panel(draw, f"{group.label}: medians of the standardised error: {medians}", series=group.key)
