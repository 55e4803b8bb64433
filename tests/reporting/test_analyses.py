"""The analyses of the paper's second version, by hand and on runs whose answer is known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from synthetic_runs import make_run

from masa.evaluation.measures.outcomes import MetaOutcome, Outcome
from masa.reporting.analyses import binned, calibration_windows, changes, held_out_changes, standardised_errors
from masa.reporting.equal_budgets import accuracy_at, equal_budgets_table
from masa.reporting.figures_analysis import calibration_figure, cutoff_error_figure, paired_figure
from masa.reporting.groups import RunGroup, group_runs
from masa.reporting.page import write_report
from masa.reporting.runs import Run, read_run_directory
from masa.tracking import jsonl


def _row(step: int, problem: str, rate: float | None, r_meta: float | None = 0.5, **more: Any) -> dict[str, Any]:
    row = {"step": step, "problem": problem, "pass_rate": rate, "r_meta": r_meta, "correct_lengths": []}
    return {**row, "predicted_pass_rate": [rate], "predicted_length": [None], "wrong_lengths": [], **more}


def test_a_problem_is_compared_with_itself_at_the_last_step_that_solved_it() -> None:
    rows = [
        _row(1, "a", 0.25, 0.1),
        _row(2, "b", 0.5, 0.2),
        _row(5, "a", None),
        _row(9, "a", 0.75, 0.4),
        _row(11, "a", 0.5, None),
        _row(12, "a", 0.5, 0.6),
    ]
    found = changes(rows)
    assert [(one.gain, one.steps) for one in found] == [(0.5, 8), (-0.25, 3)]
    assert [one.r_meta for one in found] == [pytest.approx(0.3), pytest.approx(0.2)]


def _held_out(problem: str, correct: tuple[bool, ...], *r_meta: float) -> Outcome:
    metas = tuple(MetaOutcome(0.5, 8, True, 0, 0, 0.0, 0.0, 0.0, one) for one in r_meta)
    return Outcome(problem, "s", correct, (None,) * 2, (8, 8), (False, False), metas)


def test_a_held_out_problem_is_compared_with_itself_at_every_two_evaluations_with_metas() -> None:
    by_step = {
        0: [_held_out("a", (False, False), 0.0, 0.2), _held_out("b", (True, True), 0.5)],
        20: [_held_out("a", (True, False), 0.4), _held_out("b", (True, False))],
        40: [_held_out("a", (True, True), 0.3, 0.5)],
    }
    found = held_out_changes(by_step)
    assert [(one.gain, one.steps) for one in found] == [(0.5, 20), (1.0, 40), (0.5, 20)]
    assert [one.r_meta for one in found] == [pytest.approx(0.3), pytest.approx(0.3), pytest.approx(0.0)]


def test_a_run_of_one_epoch_shows_the_gains_of_its_held_out_problems() -> None:
    by_step = {step: [_held_out(f"p{n}", (True, n > step), n / 30) for n in range(12)] for step in (0, 5, 10)}
    group = RunGroup("MASA", "#0072B2", (replace(_run([]), held_out_by_step=by_step),), key="group-0")
    figure = paired_figure([group])
    assert [panel.alt.split(":")[0] for panel in figure.panels] == ["MASA, held-out problems"] * 2
    assert {row["pairs"] for row in figure.rows if row["against"] == "steps between"} == {24, 12}


def test_rows_of_earlier_versions_give_no_pairs_and_no_errors() -> None:
    row = {"step": 1, "problem": "a", "pass_rate": 0.5, "correct_lengths": [3], "predicted_length": [2, 4]}
    assert changes([row, {**row, "step": 2}]) == []
    assert standardised_errors([row]) == {"correct": [], "wrong": []}


def test_bins_hold_about_equally_many_pairs_and_never_part_equal_values() -> None:
    found = changes([_row(step, "a", step % 2, step / 100) for step in range(1, 42)])
    assert [one.count for one in binned(found, lambda one: float(one.steps))] == [40]
    by_gain = binned(found, lambda one: one.gain)
    assert [(one.center, one.gain.mean, one.count) for one in by_gain] == [(-1, -1, 20), (1, 1, 20)]
    assert binned([], lambda one: one.gain) == []


def test_standardised_errors_are_in_standard_deviations_of_the_predictions() -> None:
    lengths = {"correct_lengths": [10, 14], "wrong_lengths": [22], "predicted_length": [8, 12, None]}
    rows = [
        _row(1, "a", 0.5, **lengths),
        _row(1, "equal predictions", 0.5, correct_lengths=[9], wrong_lengths=[9], predicted_length=[8, 8]),
        _row(1, "never solved", None, wrong_lengths=[9], predicted_length=[8, 12]),
    ]
    deviation = math.sqrt(8)
    assert standardised_errors(rows) == {
        "correct": [0.0, pytest.approx(4 / deviation)],
        "wrong": [pytest.approx(12 / deviation)],
    }


def _run(rows: list[dict[str, Any]]) -> Run:
    return Run(Path("run"), {}, metrics=[{"step": 1}], predictions=rows)


def test_calibration_is_the_mean_distance_of_predictions_from_what_came_of_them() -> None:
    rows = [_row(1, "a", 0.5, predicted_pass_rate=[0.75, None]), _row(1, "b", 1.0, predicted_pass_rate=[0.75, 0.5])]
    # The two of 0.75 had (0.5 + 1) / 2, the one of 0.5 had 1.
    assert calibration_windows(_run(rows)) == [{"step": 1, "calibration": pytest.approx(0.5 / 3)}]
    assert calibration_windows(_run([_row(1, "a", None, predicted_pass_rate=[0.5])])) == []


def test_a_run_whose_accuracy_follows_its_metas_shows_it_and_one_without_pairs_has_no_panel() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for step in range(1, 31):
        for problem in "abcd":
            r_meta = float(rng.random())
            lengths = {"correct_lengths": [40], "wrong_lengths": [60], "predicted_length": [38, 42]}
            rows.append(_row(step, problem, r_meta, r_meta, **lengths))
    group = RunGroup("MASA", "#0072B2", (_run(rows),), key="group-0")
    figure = paired_figure([group])
    assert len(figure.panels) == 2
    of_r_meta = [row for row in figure.rows if row["against"] == "change of r_meta"]
    assert all(row["gain"] == pytest.approx(row["center"]) for row in of_r_meta)
    errors = cutoff_error_figure([group])
    assert "correct +0.0" in errors.panels[0].alt
    assert "wrong +7.1" in errors.panels[0].alt
    assert calibration_figure([group]).rows
    empty = replace(group, runs=(_run([]),))
    assert not any(make([empty]).panels for make in (paired_figure, cutoff_error_figure, calibration_figure))


def test_accuracy_at_a_budget_lies_between_the_evaluations_around_it() -> None:
    rows = [
        {"step": 0, "eval/accuracy": 0.2},
        {"step": 1, "cost/tokens_generated": 10},
        {"step": 2, "cost/tokens_generated": 30, "eval/accuracy": 0.6},
        {"step": 3, "cost/tokens_generated": 40},
    ]
    run = Run(Path("run"), {}, metrics=rows)
    found = [accuracy_at(run, "cost/tokens_generated", budget) for budget in (0, 10, 40, 80)]
    assert found == [0.2, pytest.approx(0.3), 0.6, 0.6]
    assert math.isnan(accuracy_at(Run(Path("run"), {}, metrics=rows[1:]), "cost/tokens_generated", 5))


def test_methods_are_compared_at_what_the_thriftiest_spent(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name, name, seed=0) for name in ("GRPO", "MASA-efficient")]
    table = equal_budgets_table(group_runs([read_run_directory(folder) for folder in folders]))
    assert [row.label for row in table.rows] == ["GRPO", "MASA-efficient"]
    # 10 steps of 75,000 and 30 of 54,000 tokens: less than GRPO's 40 of 60,000.
    assert table.columns[0] == "2.37 M tokens generated"
    assert equal_budgets_table(group_runs([read_run_directory(folders[0])])).rows == []


def test_the_page_shows_the_analyses_that_the_runs_can_give(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name, name, seed=0) for name in ("GRPO", "MASA")]
    page = write_report(folders, tmp_path / "report.html").html.read_text()
    assert 'id="calibration"' in page
    assert "Accuracy at equal budgets" in page
    assert 'id="paired"' not in page
    predictions = folders[1] / "predictions.jsonl"
    rows = [
        {**row, "problem": row["problem"][-1], "r_meta": 0.5, "wrong_lengths": [90]}
        for row in jsonl.read_rows(predictions)
    ]
    predictions.unlink()
    jsonl.append_rows(predictions, rows)
    page = write_report(folders, tmp_path / "report.html").html.read_text()
    assert 'id="paired"' in page
    assert 'id="cutoff_error"' in page


def test_the_legend_of_the_length_errors_covers_no_bar() -> None:
    errors = {"correct_lengths": [10] * 60, "wrong_lengths": [6] * 60, "predicted_length": [8, 12, 10]}
    (group,) = group_runs([_run([_row(1, "a", 0.5, **errors)])])
    (panel,) = cutoff_error_figure([group]).panels
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    panel.draw(axes)
    figure.canvas.draw()
    legend = axes.get_legend()
    assert legend is not None
    bottom = axes.transData.inverted().transform(legend.get_window_extent())[0][1]
    assert bottom >= max(bar.get_height() for bar in axes.patches)
