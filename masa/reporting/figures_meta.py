"""Figures of meta-awareness: predicted against actual, and what each meta component contributes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from masa.evaluation.shapley import shapley_r_squared, shares
from masa.reporting.curves import Spread, spread
from masa.reporting.figure import Panel, ReportFigure
from masa.reporting.groups import RunGroup
from masa.reporting.runs import Run
from masa.tracking import keys
from masa.tracking.figure_data import RunData, length_pairs, pass_rate_pairs, tenths
from masa.tracking.figure_predictions import When, draw_pass_rates, draw_predicted_lengths
from masa.tracking.figure_style import BLACK, FONT, style

_SQUARE = 2.75
_TITLE_CHARACTERS = 32
_BARS_HEIGHT = 2.3
_COMPONENTS = {
    "notion": keys.R_NOTION,
    "difficulty": keys.R_DIFFICULTY,
    "length": keys.R_LENGTH,
    "step": "step",
}


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
                        _labelled(draw, data, when, group.short),
                        f"{group.label}, {when} tenth of the steps: predicted against actual {name}, "
                        f"{len(pairs)} predictions, correlation {pairs.correlation:.2f}",
                        _SQUARE,
                        _SQUARE,
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
        "No run makes meta-predictions.",
        columns=4,
    )


def contributions_figure(groups: Sequence[RunGroup]) -> ReportFigure:
    """Shapley shares of explained variance (docs/report.md): what goes with accuracy."""
    panels, rows = [], []
    for group in groups:
        found = [one for run in group.runs if (one := contributions(run)) is not None]
        if not found:
            continue
        by_component = {name: spread([shares(one)[name] for one in found]) for name in _COMPONENTS}
        explained = spread([sum(one.values()) for one in found])
        rows += [
            {"group": group.label, "component": name, "share": one.mean, "low": one.low, "high": one.high,
             "r_squared": explained.mean, "seeds": one.seeds}
            for name, one in by_component.items()
        ]  # fmt: skip
        said = ", ".join(f"{name} {one.mean:.0%}" for name, one in by_component.items())
        panels.append(
            Panel(
                _bars(group, by_component, explained),
                f"{group.label}: shares of explained variance: {said}",
                height=_BARS_HEIGHT,
            )
        )
    return ReportFigure(
        "contributions",
        "What goes with accuracy",
        "Shapley shares of R² when the mean correctness of each step is fitted by r_notion, r_difficulty, r_length and "
        "the step itself, all as moving means over a twelfth of the run. Shares describe what moves together; they do "
        "not prove a cause.",
        panels,
        rows,
        "No run has enough steps with meta-predictions.",
    )


def contributions(run: Run) -> dict[str, float] | None:
    """Each component's part of R^2 over one run's steps; None where there is nothing to explain or to explain it by."""
    rows = [row for row in run.metrics if row.get(keys.CORRECTNESS) is not None and row.get(keys.R_META) is not None]
    window = len(rows) // 12 | 1
    columns = {name: _moving([_number(row.get(key)) for row in rows], window) for name, key in _COMPONENTS.items()}
    found = shapley_r_squared(columns, _moving([_number(row[keys.CORRECTNESS]) for row in rows], window))
    return None if any(math.isnan(value) for value in found.values()) else found


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
        style(axes, f"{group.short} (R² = {explained.mean:.2f})", "share of explained variance", "")
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


def _moving(values: Sequence[float], window: int) -> np.ndarray:
    from masa.tracking.figure_data import smooth

    return smooth(np.array(values, dtype=np.float64), window)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
