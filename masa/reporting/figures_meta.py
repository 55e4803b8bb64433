"""Figures of meta-awareness: predicted against actual, and what each meta component contributes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from matplotlib.axes import Axes

from masa.reporting.baselines import PREDICTORS, windows
from masa.reporting.contributions import contributions, over_runs
from masa.reporting.curves import Spread, curve
from masa.reporting.figure import Panel, ReportFigure
from masa.reporting.groups import RunGroup
from masa.reporting.line_panel import Line, line_panel, line_rows
from masa.tracking.figure_data import RunData, length_pairs, pass_rate_pairs, tenths
from masa.tracking.figure_predictions import When, draw_pass_rates, draw_predicted_lengths
from masa.tracking.figure_style import BLACK, FONT, GREY, style

_SQUARE = 2.75
_TITLE_CHARACTERS = 32
_BARS_HEIGHT = 2.3


def predictions_figure(groups: Sequence[RunGroup]) -> ReportFigure:
    """Predicted against actual pass rate and length, before and after (figure 1 of the paper)."""
    panels: list[Panel] = []
    rows: list[dict[str, Any]] = []
    kinds: tuple[tuple[str, Callable[[Axes, RunData, When], None], Callable[..., Any]], ...] = (
        ("pass rate", draw_pass_rates, pass_rate_pairs),
        ("length", draw_predicted_lengths, length_pairs),
    )
    for group in groups:
        data = RunData([], [row for run in group.runs for row in run.predictions])
        if not data.predictions:
            continue
        first, last = tenths(data.predictions)
        periods: tuple[tuple[When, list[int]], ...] = (("first", first), ("last", last if last != first else []))
        for name, draw, pairs_of in kinds:
            for when, steps in periods:
                pairs = pairs_of(data.predictions, steps)
                panels.append(
                    Panel(
                        _labelled(draw, data, when, group.label),
                        f"{group.label}, {when} tenth of the steps: predicted against actual {name}, "
                        f"{len(pairs)} predictions, correlation {pairs.correlation:.2f}",
                        _SQUARE,
                        _SQUARE,
                        series=group.key,
                    )
                )
                rows += [
                    {"group": group.label, "period": when, "quantity": name, "actual": actual, "predicted": predicted,
                     "low": low, "high": high}
                    for actual, predicted, low, high in zip(
                        pairs.actual, pairs.predicted, pairs.low, pairs.high, strict=True
                    )
                ]  # fmt: skip
    return ReportFigure(
        "predicted_vs_actual",
        "Predicted against actual",
        "Every dot is a meta-prediction of the first or the last tenth of the steps, all seeds together. Pass rates: "
        "the area of a dot counts predictions, the line is their mean. Lengths: blue predictions lie between the "
        "shortest and the longest correct solution, which is what r_length rewards. r is Pearson's correlation.",
        panels,
        rows,
        columns=4,
    )


def baselines_figure(groups: Sequence[RunGroup]) -> ReportFigure:
    """Predicted pass rates beside a constant and the problem's own history (`masa.reporting.baselines`)."""
    panels: list[Panel] = []
    rows: list[dict[str, Any]] = []
    for group in (group for group in groups if group.trained):
        runs = tuple(replace(run, metrics=windows(run)) for run in group.runs)
        measured = replace(group, runs=tuple(run for run in runs if run.metrics))
        if not measured.runs:
            continue
        for what, key, rate in (("mean absolute error", "error", True), ("correlation r", "r", False)):
            colors = zip(PREDICTORS, (group.color, GREY, BLACK), strict=True)
            lines = [
                Line(name, color, curve(measured, f"{key}_{name}"), dashed=name == "constant", series=group.key)
                for name, color in colors
            ]
            lines = [line for line in lines if len(line.curve)]
            if lines:
                rows += [row for line in lines for row in line_rows(line, group=group.label, quantity=what)]
                panels.append(line_panel(lines, f"{group.label}: {what}", what, "step", rate=rate, series=group.key))
    return ReportFigure(
        "baselines",
        "Predictions against baselines",
        "Error and correlation of the predicted pass rates in each twelfth of the run. The constant predicts the mean "
        "pass rate of all earlier steps; the history predicts the problem's own pass rate when it was last solved, and "
        "the constant where it was not. Predictions that are no better than both show no knowledge of the problem. "
        "Problems that a gate left out are not in it.",
        panels,
        rows,
        columns=2,
    )


def contributions_figure(groups: Sequence[RunGroup]) -> ReportFigure:
    """Shapley shares of explained variance (docs/report.md): what goes with accuracy."""
    panels, rows = [], []
    for group in groups:
        found = [one for run in group.runs if (one := contributions(run)) is not None]
        if not found:
            continue
        by_component, explained = over_runs(group, found)
        rows += [
            {"group": group.label, "component": name, "share": one.mean, "low": one.low, "high": one.high,
             "r_squared": explained.mean, "r_squared_low": explained.low, "r_squared_high": explained.high,
             "seeds": one.seeds}
            for name, one in by_component.items()
        ]  # fmt: skip
        said = ", ".join(f"{name} {one.mean:.0%}" for name, one in by_component.items())
        panels.append(
            Panel(
                _bars(group, by_component, explained),
                f"{group.label}: shares of explained variance: {said}",
                height=_BARS_HEIGHT,
                series=group.key,
            )
        )
    return ReportFigure(
        "contributions",
        "What goes with accuracy",
        "Shapley shares of R² when the mean correctness of each step is fitted by r_notion, r_difficulty, r_length and "
        "the step itself, all as moving means over a twelfth of the run. Lines and brackets are 95 % intervals: over "
        "seeds by Student's t from three seeds on, else by a bootstrap over blocks of steps. R² of moving means is "
        "high for any two quantities that rise together: shares describe what moves together and prove no cause.",
        panels,
        rows,
    )


def _labelled(
    draw: Callable[[Axes, RunData, When], None], data: RunData, when: When, label: str
) -> Callable[[Axes], None]:
    def draw_labelled(axes: Axes) -> None:
        draw(axes, data, when)
        has_subtitle = any(text.get_text().startswith("r ") for text in axes.texts)
        # The axes' own labels say whether rates or lengths are compared.
        period = axes.get_title(loc="left").partition(", ")[2]
        title = textwrap.fill(f"{label}, {period}", _TITLE_CHARACTERS)
        axes.set_title(title, loc="left", fontsize=FONT, fontweight="bold", color=BLACK, pad=18 if has_subtitle else 6)

    return draw_labelled


def _bars(group: RunGroup, by_component: Mapping[str, Spread], explained: Spread) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        interval = "" if math.isnan(explained.low) else f" [{max(0, explained.low):.2f}, {min(1, explained.high):.2f}]"
        title = textwrap.fill(f"{group.label} (R² = {explained.mean:.2f}{interval})", _TITLE_CHARACTERS + 12)
        style(axes, title, "share of explained variance", "")
        names = list(by_component)[::-1]
        means = [by_component[name].mean for name in names]
        axes.barh(names, means, color=group.color, alpha=0.85, height=0.62)
        for position, name in enumerate(names):
            one = by_component[name]
            if not math.isnan(one.low):
                axes.plot((max(0, one.low), min(1, one.high)), (position, position), color=BLACK, linewidth=1.2)
            right = one.mean if math.isnan(one.high) else max(one.mean, min(1.0, one.high))
            axes.text(right + 0.02, position, f"{one.mean:.0%}", va="center", fontsize=FONT, color=BLACK)
        axes.set_xlim(min(0.0, min(means) * 1.1), 1.15)
        axes.set_xticks((0, 0.25, 0.5, 0.75, 1))
        axes.grid(visible=False, axis="y")

    return draw
