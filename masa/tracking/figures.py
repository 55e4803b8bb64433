"""The pictures of a run, drawn from its directory alone."""

from __future__ import annotations

from pathlib import Path

from masa.tracking.figure_curves import draw_components, draw_lengths, draw_rewards
from masa.tracking.figure_data import RunData, read_run
from masa.tracking.figure_predictions import draw_comparison, draw_pass_rates, draw_predicted_lengths
from masa.tracking.figure_style import new_figure, save
from masa.tracking.run_directory import RunDirectory


def draw_figures(run_dir: str | Path) -> list[Path]:
    """Draw ``figures/*.png`` of a run directory and return their paths; of a run without metrics, none.

    Always ``reward_curves.png`` and ``overview.png``; ``reward_components.png`` and ``predicted_vs_actual.png`` only
    where the run had metas.

    Raises:
        ValueError: a line in the middle of a file of rows is no JSON object.
    """
    run = read_run(run_dir)
    if not run.metrics:
        return []
    folder = RunDirectory(run_dir).figures
    paths = [_reward_curves(run, folder / "reward_curves.png")]
    if run.predictions:
        paths.append(_reward_components(run, folder / "reward_components.png"))
        paths.append(_predicted_vs_actual(run, folder / "predicted_vs_actual.png"))
    paths.append(_overview(run, folder / "overview.png"))
    return paths


def _reward_curves(run: RunData, path: Path) -> Path:
    figure = new_figure(6.4, 3.4)
    draw_rewards(figure.add_subplot(), run)
    return save(figure, path)


def _reward_components(run: RunData, path: Path) -> Path:
    figure = new_figure(6.4, 3.4)
    draw_components(figure.add_subplot(), run)
    return save(figure, path)


def _predicted_vs_actual(run: RunData, path: Path) -> Path:
    figure = new_figure(6.4, 6.6)
    panels = figure.subplots(2, 2)
    draw_comparison(panels[0], run, draw_pass_rates)
    draw_comparison(panels[1], run, draw_predicted_lengths)
    return save(figure, path)


def _overview(run: RunData, path: Path) -> Path:
    if not run.predictions:
        figure = new_figure(10.0, 3.2)
        rewards, lengths = figure.subplots(1, 2)
        draw_rewards(rewards, run)
        draw_lengths(lengths, run)
        return save(figure, path)
    figure = new_figure(10.0, 5.6)
    grid = figure.add_gridspec(2, 1, height_ratios=(1, 1.02))
    upper, lower = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    rewards, components = upper.subplots(1, 2)
    draw_rewards(rewards, run)
    draw_components(components, run)
    panels = lower.subplots(1, 4)
    draw_comparison(panels[:2], run, draw_pass_rates)
    draw_comparison(panels[2:], run, draw_predicted_lengths)
    return save(figure, path)
