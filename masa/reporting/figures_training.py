"""Figures over training: accuracy and its cost, predicted and actual values, rewards, gating (docs/report.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator

from masa.reporting.curves import Against, Curve, curve
from masa.reporting.figure import Panel, ReportFigure
from masa.reporting.groups import RunGroup
from masa.tracking import keys
from masa.tracking.figure_style import GREY, EndLabel, label_ends, note, style

_X_LABELS: Mapping[Against, str] = {
    "step": "training step",
    "tokens": "tokens generated",
    "seconds": "seconds of training",
}
_NARROWEST = 0.2
GATED_SHARE = "control/gated_share"


@dataclass(frozen=True)
class Line:
    """One curve and how it is drawn."""

    label: str
    color: str
    curve: Curve
    dashed: bool = False
    markers: bool = False


def accuracy_figure(groups: Sequence[RunGroup]) -> ReportFigure:
    """Held-out accuracy against step, generated tokens and seconds (figure 4 of the paper)."""
    trained = [group for group in groups if group.trained]
    panels, rows = [], []
    for against in _X_LABELS:
        lines = [
            Line(group.short, group.color, curve(group, keys.HELD_OUT_ACCURACY, against), markers=True)
            for group in trained
        ]
        rows += [row for line in lines for row in _rows(line, against=against)]
        if any(len(line.curve) for line in lines):
            panels.append(_panel(lines, f"Accuracy by {against}", "held-out pass@1", against, rate=True))
    return ReportFigure(
        "accuracy",
        "Accuracy and what it costs",
        "Held-out accuracy (pass@1) against training steps, all generated tokens (meta-predictions included) and "
        "seconds of training steps. Lines are means over seeds, bands 95 % intervals by Student's t.",
        panels,
        rows,
        "No run was evaluated during training.",
    )


def alignment_figure(groups: Sequence[RunGroup]) -> ReportFigure:
    """Predicted and actual pass rate and length over training (figure 6 of the paper)."""
    panels: list[Panel] = []
    rows: list[dict[str, Any]] = []
    quantities = (
        ("pass rate", "meta/predicted_pass_rate", keys.CORRECTNESS, True),
        ("length", "meta/predicted_length", "rollout/correct_length", False),
    )
    for group in (group for group in groups if group.trained):
        for name, predicted, actual, rate in quantities:
            lines = [
                Line("predicted", group.color, curve(group, predicted, smoothed=True), dashed=True),
                Line("actual", group.color, curve(group, actual, smoothed=True)),
            ]
            if not len(lines[0].curve):
                continue
            rows += [row for line in lines for row in _rows(line, group=group.label, quantity=name)]
            y_label = f"mean {name}" if rate else "mean tokens"
            panels.append(_panel(lines, f"{group.short}: {name}", y_label, "step", rate=rate))
    return ReportFigure(
        "predicted_and_actual",
        "Predicted and actual values over training",
        "Mean predicted pass rate beside the mean pass rate of the solutions, and mean predicted length beside the "
        "mean length of the correct solutions. The closer the two lines, the better the policy knows itself.",
        panels,
        rows,
        "No run makes meta-predictions.",
        columns=2,
    )


def rewards_figure(groups: Sequence[RunGroup]) -> ReportFigure:
    """Correctness of the rollouts and the three self-alignment rewards over training."""
    trained = [group for group in groups if group.trained]
    named = (
        ("correctness", keys.CORRECTNESS),
        ("r_length", keys.R_LENGTH),
        ("r_difficulty", keys.R_DIFFICULTY),
        ("r_notion", keys.R_NOTION),
    )
    panels, rows = [], []
    for name, key in named:
        lines = [Line(group.short, group.color, curve(group, key, smoothed=True)) for group in trained]
        lines = [line for line in lines if len(line.curve)]
        rows += [row for line in lines for row in _rows(line, reward=name)]
        if lines:
            panels.append(_panel(lines, name, "mean per step", "step", rate=True))
    return ReportFigure(
        "rewards",
        "Rewards",
        "Correctness of the training rollouts, and the rewards of the meta-predictions. Curves are moving means over a "
        "twelfth of the run.",
        panels,
        rows,
        "The runs hold no rewards.",
        columns=2,
    )


def gating_figure(groups: Sequence[RunGroup]) -> ReportFigure:
    """Share of problems gated per step, with the gate's running precision (figure 5 of the paper)."""
    panels, rows = [], []
    named = (
        ("Problems gated", "share of problems", GATED_SHARE),
        ("Precision of the gate", "precision (audited)", "control/gate_precision"),
        ("Solutions cut", "share of solutions", "control/cut_share"),
    )
    for title, y_label, key in named:
        lines = [
            Line(group.short, group.color, found)
            for group in groups
            if len(found := curve(group, key, smoothed=key != "control/gate_precision"))
        ]
        rows += [row for line in lines for row in _rows(line, quantity=title)]
        if lines:
            panels.append(_panel(lines, title, y_label, "step", rate=True))
    return ReportFigure(
        "gating",
        "Gating and cutoff",
        "Share of problems for which predictive gating generated no solution, the precision that its audited problems "
        "show, and the share of solutions that ended at their early cutoff.",
        panels,
        rows,
        "No run has predictive gating or early cutoff switched on.",
    )


def _panel(lines: Sequence[Line], title: str, y_label: str, against: Against, *, rate: bool) -> Panel:
    def draw(axes: Axes) -> None:
        style(axes, title, _X_LABELS[against], y_label)
        shown = [line for line in lines if len(line.curve)]
        if not shown:
            note(axes, "not measured in these runs")
            return
        for line in shown:
            _draw(axes, line)
        if rate:
            _unit_interval(axes, shown)
        else:
            axes.set_ylim(0, 1.1 * max(float(np.nanmax(line.curve.mean)) for line in shown))
        if against != "step":
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=against == "step"))
        label_ends(axes, [EndLabel(float(line.curve.mean[-1]), line.label, line.color) for line in shown])

    said = "; ".join(f"{line.label} ends at {line.curve.mean[-1]:.2f}" for line in lines if len(line.curve))
    return Panel(draw, f"{title} against {_X_LABELS[against]}: {said}")


def _draw(axes: Axes, line: Line) -> None:
    found = line.curve
    if found.seeds > 1 and not np.isnan(found.low).all():
        axes.fill_between(found.x, found.low, found.high, color=line.color, alpha=0.15, linewidth=0)
    axes.plot(
        found.x,
        found.mean,
        color=line.color,
        linewidth=1.8,
        linestyle=(0, (3, 2)) if line.dashed else "-",
        marker="o" if line.markers or len(found) == 1 else None,
        markersize=4,
        markeredgecolor="white",
        markeredgewidth=0.6,
    )


def _unit_interval(axes: Axes, lines: Sequence[Line]) -> None:
    """From 0 to 1, or closer where all lines stay in a narrow band; never beyond what a rate can be."""
    means = np.concatenate([line.curve.mean for line in lines])
    bands = np.concatenate([side for line in lines for side in (line.curve.low, line.curve.high)])
    values = np.concatenate([means, bands[~np.isnan(bands)]])
    low, high = max(0.0, float(values.min())), min(1.0, float(values.max()))
    # A line that hardly moves must not look like one that does.
    margin = max(0.02, 0.08 * (high - low), (_NARROWEST - (high - low)) / 2)
    axes.set_ylim(max(-0.02, low - margin), min(1.02, high + margin))
    if low - margin <= 0:
        axes.axhline(0, color=GREY, linewidth=0.6)


def _rows(line: Line, **named: str) -> list[dict[str, Any]]:
    found = line.curve
    columns = zip(found.steps, found.x, found.mean, found.low, found.high, strict=True)
    return [
        {**named, "line": line.label, "step": int(step), "x": x, "mean": mean, "low": low, "high": high,
         "seeds": found.seeds}
        for step, x, mean, low, high in columns
    ]  # fmt: skip
