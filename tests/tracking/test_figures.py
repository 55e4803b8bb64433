from __future__ import annotations

import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from masa.tracking.figure_data import length_pairs, pass_rate_pairs, series, smooth, tenths
from masa.tracking.figure_predictions import bubbles
from masa.tracking.figure_style import spread
from masa.tracking.figures import draw_figures
from masa.tracking.run_directory import RunDirectory

PNG = b"\x89PNG\r\n\x1a\n"
ALL = ["reward_curves.png", "reward_components.png", "predicted_vs_actual.png", "overview.png"]


@pytest.mark.parametrize(("steps", "pass_rate"), [(1, 0.5), (2, 0.5), (30, 0.5), (3, 0.0)])
def test_a_run_of_any_length_gets_all_figures(make_run, steps: int, pass_rate: float) -> None:
    directory = make_run(steps, pass_rate=pass_rate)
    paths = draw_figures(directory.path)
    assert [path.name for path in paths] == ALL
    assert all(path.parent == directory.figures and path.read_bytes().startswith(PNG) for path in paths)
    assert {path.name for path in directory.figures.iterdir()} == set(ALL)


def test_a_run_without_metas_gets_the_figures_it_has_data_for(make_run) -> None:
    paths = draw_figures(make_run(5, metas=False).path)
    assert [path.name for path in paths] == ["reward_curves.png", "overview.png"]


def test_a_run_of_which_only_nulls_were_measured_is_drawn(make_run) -> None:
    directory = make_run(0)
    directory.append_metrics(1, {"reward/correctness": math.nan, "reward/r_meta": math.nan})
    assert len(draw_figures(directory.path)) == 2


def test_a_directory_without_metrics_gets_no_figures(tmp_path: Path) -> None:
    assert draw_figures(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_still_writing_a_line_is_drawn(make_run) -> None:
    directory: RunDirectory = make_run(3)
    with directory.metrics.open("ab") as file:
        file.write(b'{"step": 4, "rew')
    assert len(draw_figures(directory.path)) == 4


def test_predictions_that_are_absurd_or_unparsed_are_drawn(make_run) -> None:
    directory: RunDirectory = make_run(2)
    row = b'{"step": 3, "problem": "x", "pass_rate": null, "correct_lengths": [], "predicted_pass_rate": [null, 1], '
    directory.predictions.open("ab").write(row + b'"predicted_length": [0, 1000000000000]}\n')
    directory.predictions.open("ab").write(
        b'{"step": 4, "problem": "x", "pass_rate": 1, "correct_lengths": [3], "predicted_pass_rate": [null, 1], '
        b'"predicted_length": [0, 1000000000000]}\n'
    )
    assert len(draw_figures(directory.path)) == 4


def test_drawing_leaves_the_state_of_pyplot_alone(make_run) -> None:
    directory = make_run(2)
    program = (
        "import sys; from masa.tracking.figures import draw_figures\n"
        f"draw_figures({str(directory.path)!r}); assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_importing_the_room_loads_neither_rich_nor_matplotlib_nor_wandb_nor_torch() -> None:
    program = (
        "import sys, masa.tracking\n"
        "print([name for name in ('rich', 'matplotlib', 'wandb', 'torch', 'numpy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


ROWS = [
    {
        "step": 1,
        "pass_rate": 0.5,
        "correct_lengths": [10, 20],
        "predicted_pass_rate": [0.25, None, 0.5],
        "predicted_length": [10, None, 21],
    },
    {
        "step": 1,
        "pass_rate": 0.0,
        "correct_lengths": [],
        "predicted_pass_rate": [1.0, None, None],
        "predicted_length": [7, None, None],
    },
    {
        "step": 2,
        "pass_rate": None,
        "correct_lengths": [],
        "predicted_pass_rate": [1.0],
        "predicted_length": [8],
    },
]


def test_pass_rate_pairs_are_those_of_parsed_metas_on_measured_problems() -> None:
    pairs = pass_rate_pairs(ROWS, [1, 2])
    assert pairs.actual.tolist() == [0.5, 0.5, 0.0]
    assert pairs.predicted.tolist() == [0.25, 0.5, 1.0]


def test_length_pairs_are_in_range_from_the_shortest_to_the_longest_correct_solution_inclusive() -> None:
    pairs = length_pairs(ROWS, [1, 2])
    assert pairs.actual.tolist() == [15.0, 15.0]
    assert pairs.predicted.tolist() == [10.0, 21.0]
    assert pairs.inside.tolist() == [True, False]


def test_a_correlation_worked_by_hand_and_undefined_ones() -> None:
    # Actual 0.5, 0.5, 0 and predicted 0.25, 0.5, 1: sum of products -5/24, sums of squares 1/6 and 7/24.
    assert pass_rate_pairs(ROWS, [1]).correlation == pytest.approx(-5 / 24 / math.sqrt(1 / 6 * 7 / 24))
    assert math.isnan(length_pairs(ROWS, [1]).correlation)
    assert math.isnan(length_pairs(ROWS, [2]).correlation)


def test_a_tenth_of_the_steps_is_at_least_one_and_counts_a_step_once() -> None:
    assert tenths([{"step": s} for s in (1, 1, 2, 2)]) == ([1], [2])
    assert tenths([{"step": s} for s in range(1, 26)]) == ([1, 2], [24, 25])
    assert tenths([]) == ([], [])


def test_a_series_skips_rows_without_a_finite_value() -> None:
    rows = [{"step": 0, "eval/accuracy": 0.5}, {"step": 1}, {"step": 2, "eval/accuracy": None}]
    steps, values = series(rows, "eval/accuracy")
    assert (steps.tolist(), values.tolist()) == ([0.0], [0.5])


def test_smoothing_averages_a_centred_window_and_fewer_values_at_the_ends() -> None:
    assert smooth(np.array([1.0, 2.0, 6.0, 4.0]), 3).tolist() == [1.5, 3.0, 4.0, 5.0]


def test_bubbles_count_equal_pairs() -> None:
    x, y, counts = bubbles(pass_rate_pairs([ROWS[0], ROWS[0]], [1]))
    assert sorted(zip(x.tolist(), y.tolist(), counts.tolist(), strict=True)) == [(0.5, 0.25, 2.0), (0.5, 0.5, 2.0)]


def test_labels_far_apart_stay_and_close_ones_part_around_their_middle() -> None:
    assert spread([0.1, 0.5, 0.9], 0.1, 0, 1) == pytest.approx([0.1, 0.5, 0.9])
    assert spread([0.5, 0.52], 0.1, 0, 1) == pytest.approx([0.46, 0.56])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_labels_never_overlap_and_stay_on_the_panel(positions: list[float]) -> None:
    placed = spread(sorted(positions), 0.1, 0.0, 1.0)
    assert len(placed) == len(positions)
    assert all(upper - lower >= 0.1 - 1e-9 for lower, upper in pairwise(placed))
    assert placed[0] >= -1e-9
    assert placed[-1] <= 1 + 1e-9
