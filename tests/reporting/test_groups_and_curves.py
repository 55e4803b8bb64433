"""Grouping by seed, curves over seeds, and the tables made of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from synthetic_runs import make_run

from masa.reporting.curves import curve, progress, reached, spread
from masa.reporting.evaluation_tables import evaluation_tables
from masa.reporting.figures_meta import contributions, contributions_figure, predictions_figure
from masa.reporting.figures_training import accuracy_figure, gating_figure
from masa.reporting.groups import baseline_of, differences, group_runs
from masa.reporting.runs import ReportError, Run, read_run_directory
from masa.reporting.samples import meta_samples, sample_sets
from masa.reporting.tables import cost_table, count, overview_table, reached_table, scientific
from masa.tracking import keys


def _run(path: str, rows: list[dict], **sections: dict) -> Run:
    return Run(Path(path), {"algorithm": {"meta": False, "name": "grpo"}, **sections}, rows)


def _accuracies(seed: int, *values: float, tokens: float = 100.0) -> Run:
    rows = [
        {"step": step, keys.HELD_OUT_ACCURACY: value, keys.TOKENS_GENERATED: tokens if step else 0.0,
         keys.STEP_SECONDS: 2.0 if step else 0.0}
        for step, value in enumerate(values)
    ]  # fmt: skip
    return _run(f"run-{seed}", rows, run={"seed": seed, "dir": f"run-{seed}"})


def test_runs_that_differ_only_by_seed_are_one_group(run_dirs: list[Path]) -> None:
    groups = group_runs([read_run_directory(path) for path in run_dirs])
    assert [(group.label, sorted(group.seeds)) for group in groups] == [
        ("GRPO", [0, 1, 2]),
        ("MASA", [0, 1, 2]),
        ("MASA-efficient", [0, 1, 2]),
    ]
    assert baseline_of(groups).label == "GRPO"
    assert set(differences(groups)) >= {"algorithm.meta", "controls.gating.enabled"}


def test_groups_of_one_name_are_told_apart_by_what_differs() -> None:
    runs = [
        _run("a", [{"step": 1}], optimizer={"learning_rate": 1e-6}),
        _run("b", [{"step": 1}], optimizer={"learning_rate": 1e-5}),
    ]
    groups = group_runs(runs)
    assert [group.label for group in groups] == ["GRPO 1 (learning_rate=1e-06)", "GRPO 2 (learning_rate=1e-05)"]
    assert [group.short for group in groups] == ["GRPO 1", "GRPO 2"]


def test_many_differences_and_long_names_leave_room_for_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "a-model-with-quite-a-long-name"
    runs = [_run(f"{n}", [{"step": 1}], optimizer={f"key{k}": n for k in range(9)}) for n in range(2)]
    runs.append(Run(path, {"model": {"path": str(path)}}, []))
    groups = group_runs(runs)
    assert all(len(group.short) <= 20 for group in groups)
    assert groups[1].label == "GRPO 1 (key0=0, key1=0, key2=0, ...)"


def test_a_run_of_another_length_is_another_group() -> None:
    runs = [_run("a", [{"step": 1}], run={"steps": 10}), _run("b", [{"step": 1}], run={"steps": 20})]
    assert len(group_runs(runs)) == 2


def test_a_spread_is_the_mean_with_students_interval() -> None:
    values = [0.4, 0.5, 0.6]
    found = spread(values)
    low, high = stats.t.interval(0.95, 2, loc=0.5, scale=stats.sem(values))
    assert (found.mean, found.low, found.high, found.seeds) == pytest.approx((0.5, low, high, 3))
    assert math.isnan(spread([0.4]).low)
    assert spread([math.nan, 0.2]).mean == 0.2
    assert math.isnan(spread([]).mean)


def test_a_curve_is_the_mean_over_seeds_at_the_steps_all_have() -> None:
    (group,) = group_runs([_accuracies(0, 0.2, 0.4, 0.6), _accuracies(1, 0.4, 0.6)])
    found = curve(group, keys.HELD_OUT_ACCURACY)
    assert found.steps.tolist() == [0, 1]
    assert found.mean.tolist() == pytest.approx([0.3, 0.5])
    assert found.seeds == 2


def test_tokens_and_seconds_add_up_along_a_run() -> None:
    run = _accuracies(0, 0.1, 0.2, 0.3)
    assert progress(run.metrics, "tokens") == {0: 0, 1: 100, 2: 200}
    assert progress(run.metrics, "seconds") == {0: 0, 1: 2, 2: 4}
    assert reached(run.metrics, 0.2, "tokens") == 100
    assert math.isnan(reached(run.metrics, 0.9, "tokens"))


def test_the_speed_to_the_baselines_accuracy_by_hand() -> None:
    slow = [_accuracies(0, 0.1, 0.2, 0.3, 0.4), _accuracies(1, 0.1, 0.2, 0.3, 0.4)]
    fast = [
        Run(run.path, {**run.config, "algorithm": {"meta": True, "name": "grpo"}}, run.metrics)
        for run in (_accuracies(0, 0.1, 0.4, tokens=150.0), _accuracies(1, 0.1, 0.3, tokens=150.0))
    ]
    table = reached_table(group_runs([*slow, *fast]))
    cells = {row.label: list(row.cells) for row in table.rows}
    assert cells["GRPO"] == ["2 of 2", "3", "300", "1.00×", "6.0 s", "1.00×"]
    # One of two seeds gets to 0.4, after 150 tokens and 2 seconds.
    assert cells["MASA"] == ["1 of 2", "1", "150", "2.00×", "2.0 s", "3.00×"]


def test_the_overview_and_costs_of_synthetic_runs(run_dirs: list[Path]) -> None:
    groups = group_runs([read_run_directory(path) for path in run_dirs])
    overview = {row.label: row.cells for row in overview_table(groups).rows}
    assert overview["GRPO"][4:] == ["–", "–", "–"]
    assert "→" in overview["MASA"][4]
    costs = {
        row.label: dict(zip(cost_table(groups).columns, row.cells, strict=True)) for row in cost_table(groups).rows
    }
    assert costs["GRPO"]["meta tokens"] == "0"
    assert costs["MASA"]["tokens generated"] == "3 M"
    assert costs["MASA"]["FLOPs"] == "1.00 × 10¹⁴"


def test_numbers_are_written_for_people() -> None:
    assert [count(value) for value in (12, 1234, 5.6e6, 7.89e9)] == ["12", "1.23 k", "5.6 M", "7.89 G"]
    assert scientific(3.1e15) == "3.10 × 10¹⁵"


def test_held_out_problems_are_compared_pairwise(run_dirs: list[Path]) -> None:
    tables = evaluation_tables(group_runs([read_run_directory(path) for path in run_dirs]))
    assert [table.title.partition(":")[2] for table in tables] == [
        "",
        " paired differences to GRPO",
        " meta-awareness",
    ]
    paired = {row.label: row.cells for row in tables[1].rows}
    assert paired["MASA-efficient"][0] == "40"
    assert paired["MASA-efficient"][1].startswith("+")


def test_figures_without_their_metrics_say_so(tmp_path: Path) -> None:
    run = read_run_directory(make_run(tmp_path / "run", "GRPO", 0, steps=6))
    groups = group_runs([run])
    for figure in (predictions_figure(groups), gating_figure(groups), contributions_figure(groups)):
        assert not figure.panels
        assert figure.gap
    assert len(accuracy_figure(groups).panels) == 3


def test_the_numbers_of_a_figure_are_those_of_its_curves(run_dirs: list[Path]) -> None:
    groups = group_runs([read_run_directory(path) for path in run_dirs])
    rows = [row for row in accuracy_figure(groups).rows if row["line"] == "MASA" and row["against"] == "step"]
    expected = curve(groups[1], keys.HELD_OUT_ACCURACY)
    assert [row["mean"] for row in rows] == expected.mean.tolist()
    assert [row["low"] for row in rows] == expected.low.tolist()


def test_contributions_need_meta_rewards(run_dirs: list[Path]) -> None:
    found = {path.name: contributions(read_run_directory(path)) for path in run_dirs}
    assert found["GRPO-0"] is None
    masa = found["MASA-0"]
    assert masa is not None
    assert set(masa) == {"notion", "difficulty", "length", "step"}
    assert 0.5 < sum(masa.values()) <= 1


def test_best_and_worst_samples_come_with_truth_and_solutions(run_dirs: list[Path]) -> None:
    groups = group_runs([read_run_directory(path) for path in run_dirs])
    masa, efficient = sample_sets(groups)
    assert (masa.label, efficient.label) == ("MASA", "MASA-efficient")
    assert masa.best[0].score == 1.0
    assert masa.worst[0].score == pytest.approx(1 / 40)
    assert len({sample.problem for sample in (*masa.best, *masa.worst)}) == 6
    best = masa.best[0]
    assert best.prediction.pass_rate == 0.75
    assert best.pass_rate is not None
    assert best.solutions[0].correct


def test_samples_without_their_predictions_still_show(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", "MASA", 0, steps=3)
    (path / "predictions.jsonl").unlink()
    samples = meta_samples(read_run_directory(path))
    assert len(samples) == 3
    assert samples[0].pass_rate is None


def test_a_directory_without_a_run_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ReportError, match=r"no metrics.jsonl\); found notes.txt"):
        read_run_directory(tmp_path)
    with pytest.raises(ReportError, match="no such directory"):
        read_run_directory(tmp_path / "nowhere")


def test_bands_are_only_drawn_between_seeds(run_dirs: list[Path]) -> None:
    (group,) = group_runs([read_run_directory(run_dirs[0])])
    assert np.isnan(curve(group, keys.HELD_OUT_ACCURACY).low).all()
