"""Predictions beside a constant and the problem's own history, by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import make_run

from masa.reporting.baselines import baselines_table, compared, quality, windows
from masa.reporting.groups import group_runs
from masa.reporting.runs import read_run_directory


def _row(step: int, problem: str, actual: float | None, *predicted: float | None) -> dict[str, Any]:
    return {"step": step, "problem": problem, "pass_rate": actual, "predicted_pass_rate": list(predicted)}


def test_neither_baseline_looks_at_the_step_that_it_predicts() -> None:
    rows = [
        _row(1, "a", 0.0, 0.5),
        _row(1, "b", 1.0, 0.5),
        _row(2, "a", 0.25, 0.5, 0.0, None),
        _row(2, "c", 1.0, 0.75),
        _row(3, "a", 1.0, 1.0),
    ]
    found = compared(rows)
    assert [(one.step, one.constant, one.history, one.seen) for one in found] == [
        (2, 0.5, 0.0, True),
        (2, 0.5, 0.5, False),
        (3, pytest.approx(2.25 / 4), 0.25, True),
    ]
    assert (found[0].metas, found[0].error) == (0.25, 0.25)


def test_problems_without_solutions_or_readable_predictions_do_not_count() -> None:
    assert compared([_row(1, "a", 0.5, 0.5), _row(2, "a", None, 0.5), _row(2, "b", 0.5, None)]) == []


def test_quality_by_hand() -> None:
    rows = [_row(1, "a", 0.0, 0.0), _row(1, "b", 0.5, 0.0), _row(1, "c", 1.0, 0.0)]
    rows += [_row(2, "a", 0.0, 0.25), _row(2, "b", 0.5, 0.5), _row(2, "c", 1.0, 0.75)]
    found = quality(compared(rows))
    assert found["error_metas"] == pytest.approx(0.5 / 3)
    assert found["error_constant"] == pytest.approx(1 / 3)
    assert found["error_history"] == 0
    assert (found["r_metas"], found["r_history"]) == (pytest.approx(1), pytest.approx(1))
    assert math.isnan(found["r_constant"])


def test_metas_that_follow_the_mean_are_shown_to_be_no_better_than_a_constant() -> None:
    rates = [0.0, 0.25, 0.75, 1.0]
    rows = [_row(step, f"{step}-{n}", rate, 0.5) for step in range(1, 20) for n, rate in enumerate(rates)]
    found = quality(compared(rows))
    assert found["error_metas"] == found["error_constant"] == 0.375
    assert math.isnan(found["r_metas"])


def test_a_run_has_twelve_windows_and_its_last_tenth_a_row(tmp_path: Path) -> None:
    run = read_run_directory(make_run(tmp_path / "run", "MASA", 0, steps=37))
    rows = windows(run)
    assert [row["step"] for row in rows] == list(range(4, 38, 3))
    assert rows[-1]["error_metas"] < rows[0]["error_metas"]
    (row,) = baselines_table(group_runs([run])).rows
    assert float(row.cells[2]) < float(row.cells[3])
    assert row.cells[-1] == "0%"
