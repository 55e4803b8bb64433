"""Panels over training steps: rewards, their components, lengths."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from masa.tracking import keys
from masa.tracking.figure_data import RunData, series, smooth
from masa.tracking.figure_style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    VERMILION,
    EndLabel,
    label_ends,
    note,
    style,
    style_steps,
)

# Key, label, colour.
Line = tuple[str, str, str]
_REWARDS: tuple[Line, ...] = (
    (keys.CORRECTNESS, "correctness", BLUE),
    (keys.R_META, "r_meta", VERMILION),
)
_COMPONENTS: tuple[Line, ...] = (
    (keys.R_LENGTH, "r_length", ORANGE),
    (keys.R_DIFFICULTY, "r_difficulty", GREEN),
    (keys.R_NOTION, "r_notion", PURPLE),
)
_LENGTHS: tuple[Line, ...] = (
    (keys.SOLUTION_LENGTH, "solutions", BLUE),
    (keys.META_LENGTH, "metas", VERMILION),
)


def draw_rewards(axes: Axes, run: RunData) -> None:
    """Mean correctness and mean r_meta per step, and held-out accuracy where it was measured."""
    labels = _draw_lines(axes, run, _REWARDS)
    steps, accuracy = series(run.metrics, keys.HELD_OUT_ACCURACY)
    if len(steps):
        axes.plot(
            steps,
            accuracy,
            color=BLACK,
            linewidth=1.0,
            linestyle=(0, (2, 2)),
            marker="o",
            markersize=4.5,
            markeredgecolor="white",
            markeredgewidth=0.7,
            zorder=5,
        )
        labels.append(EndLabel(float(accuracy[-1]), "held-out", BLACK))
    _finish(axes, run, labels, "Rewards and held-out accuracy", "mean per step", unit_interval=True)


def draw_components(axes: Axes, run: RunData) -> None:
    """Mean r_length, r_difficulty and r_notion per step."""
    labels = _draw_lines(axes, run, _COMPONENTS)
    _finish(axes, run, labels, "Meta-alignment by component", "mean reward per step", unit_interval=True)


def draw_lengths(axes: Axes, run: RunData) -> None:
    """Mean length of solutions and metas per step, in tokens."""
    labels = _draw_lines(axes, run, _LENGTHS)
    _finish(axes, run, labels, "Response length", "mean length (tokens)", unit_interval=False)


def _draw_lines(axes: Axes, run: RunData, lines: Sequence[Line]) -> list[EndLabel]:
    labels = []
    for key, text, color in lines:
        steps, values = series(run.metrics, key)
        if not len(steps):
            continue
        window = len(steps) // 12 | 1
        if window >= 3:
            axes.plot(steps, values, color=color, linewidth=0.7, alpha=0.3)
            values = smooth(values, window)
        axes.plot(steps, values, color=color, linewidth=1.8, marker="o" if len(steps) == 1 else None, markersize=5)
        labels.append(EndLabel(float(values[-1]), text, color))
    return labels


def _finish(
    axes: Axes, run: RunData, labels: Sequence[EndLabel], title: str, y_label: str, *, unit_interval: bool
) -> None:
    style(axes, title, "training step", y_label)
    if unit_interval:
        axes.set_ylim(-0.02, 1.02)
    elif labels:
        axes.set_ylim(0, 1.1 * axes.dataLim.y1)
    steps = [row["step"] for row in run.metrics]
    if steps:
        style_steps(axes, min(steps), max(steps))
    if labels:
        label_ends(axes, labels)
    else:
        note(axes, "not measured in this run")
