"""Figures over training: accuracy and its cost, predicted and actual values, rewards, gating (docs/report.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from masa.reporting.curves import Against, curve, epoch_ends, progress
from masa.reporting.figure import Panel, ReportFigure
from masa.reporting.groups import RunGroup
from masa.reporting.line_panel import X_LABELS, Line, line_of, line_panel, line_rows
from masa.reporting.notices import other_problems
from masa.tracking import keys

# More ticks than these say nothing on a line.
_MOST_EPOCHS = 12
GATED_SHARE = "control/gated_share"


def accuracy_figure(groups: Sequence[RunGroup]) -> ReportFigure:
    """Held-out accuracy against step, generated tokens and seconds (figure 4 of the paper)."""
    trained = [group for group in groups if group.trained]
    panels, rows = [], []
    for against in X_LABELS:
        lines = [
            replace(
                line_of(group, curve(group, keys.HELD_OUT_ACCURACY, against), markers=True),
                ticks=_epochs(group, against),
            )
            for group in trained
        ]
        rows += [row for line in lines for row in line_rows(line, against=against)]
        if any(len(line.curve) for line in lines):
            panels.append(line_panel(lines, f"Accuracy by {against}", "held-out pass@1", against, rate=True))
    return ReportFigure(
        "accuracy",
        "Accuracy and what it costs",
        "Held-out accuracy (pass@1) against training steps, all generated tokens (meta-predictions included) and "
        "seconds of training steps. Lines are means over seeds, bands 95 % intervals by Student's t; of a single run "
        "the band is a bootstrap interval over problems. Where seeds are too few for a band, or it would fill the "
        f"panel, thin lines show each run. Upright ticks mark the ends of epochs. {other_problems(groups)}",
        panels,
        rows,
    )


def _epochs(group: RunGroup, against: Against) -> tuple[float, ...]:
    """Where the epochs of a group's runs ended on the x axis, as means over the runs that ended them; few alone."""
    per_run = [(epoch_ends(run), progress(run.metrics, against)) for run in group.runs]
    most = min(len(ends) for ends, _ in per_run)
    if most > _MOST_EPOCHS:
        return ()
    return tuple(fmean(places[ends[number]] for ends, places in per_run) for number in range(most))


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
                Line("predicted", group.color, curve(group, predicted, smoothed=True), dashed=True, series=group.key),
                Line("actual", group.color, curve(group, actual, smoothed=True), series=group.key),
            ]
            if not len(lines[0].curve):
                continue
            rows += [row for line in lines for row in line_rows(line, group=group.label, quantity=name)]
            y_label = f"mean {name}" if rate else "mean tokens"
            panels.append(line_panel(lines, f"{group.label}: {name}", y_label, "step", rate=rate, series=group.key))
    return ReportFigure(
        "predicted_and_actual",
        "Predicted and actual values over training",
        "Mean predicted pass rate and mean pass rate of the solutions, mean predicted length and "
        "mean length of the correct solutions. Lines that meet show that predictions are right on average. They do not "
        "show that the policy tells one problem from another: a constant could do as well, which is what "
        "“Predictions against baselines” compares.",
        panels,
        rows,
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
        lines = [line_of(group, curve(group, key, smoothed=True)) for group in trained]
        lines = [line for line in lines if len(line.curve)]
        rows += [row for line in lines for row in line_rows(line, reward=name)]
        if lines:
            panels.append(line_panel(lines, name, "mean per step", "step", rate=True))
    return ReportFigure(
        "rewards",
        "Rewards",
        "Correctness of the training rollouts, and the rewards of the meta-predictions. Curves are moving means over a "
        "twelfth of the run.",
        panels,
        rows,
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
            line_of(group, found)
            for group in groups
            if len(found := curve(group, key, smoothed=key != "control/gate_precision"))
        ]
        rows += [row for line in lines for row in line_rows(line, quantity=title)]
        if lines:
            panels.append(line_panel(lines, title, y_label, "step", rate=True))
    return ReportFigure(
        "gating",
        "Gating and cutoff",
        "Share of problems for which predictive gating generated no solution, the precision that its audited problems "
        "show, and the share of solutions that ended at their early cutoff.",
        panels,
        rows,
    )
