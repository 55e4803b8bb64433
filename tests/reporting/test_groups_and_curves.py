"""Grouping by seed, curves over seeds, and the tables made of them."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure
from scipy import stats
from synthetic_runs import make_run

from masa.reporting.contributions import contributions
from masa.reporting.curves import curve, epoch_ends, progress, reached, spread, twelfths
from masa.reporting.evaluation_tables import evaluation_tables
from masa.reporting.figures_meta import contributions_figure, predictions_figure
from masa.reporting.figures_training import accuracy_figure, gating_figure
from masa.reporting.groups import baseline_of, differences, group_runs
from masa.reporting.line_panel import line_of, line_panel
from masa.reporting.notices import notices, other_problems
from masa.reporting.page import render
from masa.reporting.runs import ReportError, Run, read_run_directory
from masa.reporting.samples import meta_samples, sample_sets
from masa.reporting.tables import cost_table, count, overview_table, paths_table, reached_table, runs_table, scientific
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


def _run_after_a_cold_start(folder: Path, seed: int, problems: int = 40) -> Run:
    """A run whose model is the folder of a cold start of its own seed, as ``python -m masa.cold_start`` leaves it."""
    run = make_run(folder / "run", "MASA", seed, steps=2)
    cold = folder / "cold_start"
    cold.mkdir()
    started = {"model": {"path": "weights"}, "run": {"seed": seed, "dir": str(cold)}}
    (cold / "config.yaml").write_text(yaml.safe_dump({**started, "cold_start": {"problems": problems}}))
    (cold / "summary.json").write_text(json.dumps({"parsed_before": 0.0, "parsed_after": 1.0}))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["path"] = str(cold)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return read_run_directory(run)


def test_runs_from_cold_starts_of_different_seeds_are_one_group(tmp_path: Path) -> None:
    runs = [_run_after_a_cold_start(tmp_path / f"seed-{seed}", seed) for seed in range(3)]
    assert [(group.label, group.seeds) for group in group_runs(runs)] == [("MASA", [0, 1, 2])]


def test_a_relative_cold_start_is_found_from_where_the_run_was_started(tmp_path: Path) -> None:
    run = _run_after_a_cold_start(tmp_path / "seed-0", 0)
    config = {**run.config, "model": {"path": "seed-0/cold_start"}, "run": {"seed": 0, "dir": "seed-0/run"}}
    (run.path / "config.yaml").write_text(yaml.safe_dump(config))
    found = read_run_directory(run.path)
    assert (found.cold_start, found.cold_start_config) == (run.cold_start, run.cold_start_config)
    assert found.cold_start


def test_runs_from_cold_starts_of_different_options_are_two_groups(tmp_path: Path) -> None:
    runs = [_run_after_a_cold_start(tmp_path / f"{problems}", 0, problems) for problems in (40, 80)]
    groups = group_runs(runs)
    assert [group.seeds for group in groups] == [[0], [0]]
    assert differences(groups) == {"cold_start_from.cold_start.problems": ["40", "80"]}


def test_an_epoch_ends_where_all_problems_have_been_drawn() -> None:
    rows = [{"step": 0}, *({"step": step, "cost/problems_drawn": 4.0, "time/step": 2.0} for step in range(1, 8))]
    run = replace(_run("a", rows), environment={"training_problems": 10})
    assert epoch_ends(run) == [3, 5]
    assert epoch_ends(replace(run, environment={"training_problems": 2})) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]
    assert epoch_ends(replace(run, environment={})) == []


def test_accuracy_curves_have_ticks_at_the_ends_of_epochs() -> None:
    def runs(size: int) -> list[Run]:
        found = [_accuracies(seed, 0.1, 0.2, 0.4, 0.5, 0.5) for seed in range(3)]
        rows = [[{**row, "cost/problems_drawn": 4.0 if row["step"] else 0.0} for row in one.metrics] for one in found]
        kept = zip(found, rows, strict=True)
        return [replace(one, metrics=more, environment={"training_problems": size}) for one, more in kept]

    def ticks(size: int) -> list[float]:
        (panel, *_) = accuracy_figure(group_runs(runs(size))).panels
        axes = Figure().subplots()
        panel.draw(axes)
        return [float(x) for line in axes.lines if line.get_marker() == "|" for x in line.get_xdata()]

    assert ticks(8) == [2.0, 4.0]
    assert ticks(100) == []


def test_tokens_by_path_are_counted_for_each_problem(run_dirs: list[Path]) -> None:
    groups = group_runs([read_run_directory(path) for path in run_dirs])
    table = paths_table(groups)
    assert [row.label for row in table.rows] == ["GRPO", "MASA", "MASA-efficient"]
    assert [row.cells[-1].split(" ")[0] for row in table.rows[:2]] == ["0.0", "20.0"]
    assert paths_table(groups[:1]).rows == []


def test_groups_of_one_name_are_told_apart_by_what_differs() -> None:
    runs = [
        _run("a", [{"step": 1}], optimizer={"learning_rate": 1e-6}),
        _run("b", [{"step": 1}], optimizer={"learning_rate": 1e-5}),
    ]
    groups = group_runs(runs)
    assert [group.label for group in groups] == ["GRPO 1 (learning_rate=1e-06)", "GRPO 2 (learning_rate=1e-05)"]


def test_of_many_differences_a_label_says_how_many_more_there_are(tmp_path: Path) -> None:
    path = tmp_path / "a-model-with-quite-a-long-name"
    runs = [_run(f"{n}", [{"step": 1}], optimizer={f"key{k}": n for k in range(9)}) for n in range(2)]
    runs.append(Run(path, {"model": {"path": str(path)}}, []))
    groups = group_runs(runs)
    assert [group.label for group in groups[:2]] == [
        str(path),
        "GRPO 1 (key0=0, key1=0, key2=0 and 6 more)",
    ]


def test_runs_are_called_by_the_name_that_all_seeds_share() -> None:
    runs = [
        _run(f"{method}-{seed}", [{"step": 1}], optimizer={"learning_rate": rate},
             run={"seed": seed, "name": name.format(seed=seed)})
        for method, rate, name in (("a", 1e-6, "slow"), ("b", 1e-5, "fast {seed}"))
        for seed in (0, 1)
    ]  # fmt: skip
    slow, fast = group_runs(runs)
    assert (slow.label, sorted(slow.seeds)) == ("slow", [0, 1])
    assert (fast.label, sorted(fast.seeds)) == ("GRPO", [0, 1])


def test_a_name_given_for_the_report_sets_runs_apart() -> None:
    runs = [replace(_accuracies(0, 0.1, 0.2), given_name=name) for name in ("mine", "theirs")]
    assert [group.label for group in group_runs(runs)] == ["mine", "theirs"]


def test_two_runs_of_one_seed_count_once_and_the_one_that_came_further_counts() -> None:
    (group,) = group_runs([_accuracies(0, 0.1, 0.2), _accuracies(0, 0.1, 0.2, 0.9), _accuracies(1, 0.1, 0.3)])
    assert [run.last_step for run in group.runs] == [2, 1]
    assert [run.last_step for run in group.repeats] == [1]
    assert curve(group, keys.HELD_OUT_ACCURACY).seeds == 2
    assert any("repeats a seed" in sentence for sentence in notices([group]))
    assert [row.cells[-1] for row in runs_table([group]).rows] == ["yes", "yes", "no: seed 0 is there already"]


def test_an_accuracy_that_was_only_measured_before_training_is_no_accuracy_after_it() -> None:
    rows = [{"step": 0, keys.HELD_OUT_ACCURACY: 0.3}, {"step": 1}, {"step": 2}]
    (row,) = overview_table(group_runs([_run("a", rows, run={"seed": 0})])).rows
    assert list(row.cells[2:4]) == ["30.0", "not measured"]
    rows = [{"step": 1}, {"step": 2, keys.HELD_OUT_ACCURACY: 0.4}, {"step": 3}]
    (row,) = overview_table(group_runs([_run("a", rows, run={"seed": 0})])).rows
    assert list(row.cells[2:4]) == ["not measured", "40.0 (step 2)"]


def test_a_single_runs_accuracy_has_an_interval_over_problems(run_dirs: list[Path]) -> None:
    (group,) = group_runs([read_run_directory(run_dirs[0])])
    found = curve(group, keys.HELD_OUT_ACCURACY)
    assert np.isnan(found.low[:-1]).all()
    assert found.low[-1] < found.high[-1]
    (row,) = overview_table([group]).rows
    assert re.fullmatch(r"\d+\.\d \[\d+\.\d, \d+\.\d\]", row.cells[3])


def test_two_seeds_are_drawn_as_runs_and_warned_of_instead_of_banded() -> None:
    groups = group_runs([_accuracies(0, 0.1, 0.2, 0.3), _accuracies(1, 0.2, 0.3, 0.5)])
    (line,) = [line_of(groups[0], curve(groups[0], keys.HELD_OUT_ACCURACY))]
    assert not line.has_band
    assert len(line.curve.members) == 2
    assert any(sentence.startswith("Few seeds: GRPO has 2 seeds") for sentence in notices(groups))


def test_a_band_that_would_fill_the_panel_is_not_drawn() -> None:
    close = group_runs([_accuracies(s, 0.1, 0.2 + s / 200, 0.5) for s in range(3)])[0]
    wide = group_runs([_accuracies(s, 0.1, 0.2 + s / 5, 0.5 + s / 5) for s in range(3)])[0]
    assert line_of(close, curve(close, keys.HELD_OUT_ACCURACY)).has_band
    assert not line_of(wide, curve(wide, keys.HELD_OUT_ACCURACY)).has_band


def test_accuracies_on_different_problems_are_named_as_such(tmp_path: Path) -> None:
    paths = [make_run(tmp_path / method, method, 0, steps=3) for method in ("GRPO", "MASA")]
    groups = group_runs([read_run_directory(path) for path in paths])
    assert other_problems(groups) == ""
    rows = [json.loads(line) for line in (paths[1] / "evaluation.jsonl").read_text().splitlines()]
    renamed = [{**row, "problem": f"other-{row['problem']}"} if n < 10 else row for n, row in enumerate(rows)]
    (paths[1] / "evaluation.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in renamed))
    groups = group_runs([read_run_directory(path) for path in paths])
    told = other_problems(groups)
    assert "GRPO on 40, MASA on 40 (30 of them the same)" in told
    assert told in notices(groups)
    assert told in accuracy_figure(groups).caption
    assert "To GRPO" not in render(groups, [], "page")


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
    assert overview["GRPO"][4:] == ["no metas"] * 3
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
    assert set(masa.parts) == {"notion", "difficulty", "length", "step"}
    assert 0.5 < masa.total.mean <= 1
    assert masa.total.low < masa.total.mean
    assert all(one.low <= one.high for one in masa.shares.values())


def test_r_squared_needs_thirty_steps(tmp_path: Path) -> None:
    runs = {steps: read_run_directory(make_run(tmp_path / f"{steps}", "MASA", 0, steps=steps)) for steps in (29, 30)}
    assert contributions(runs[29]) is None
    assert contributions(runs[30]) is not None


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


def test_only_held_out_accuracy_has_an_interval_in_a_single_run(run_dirs: list[Path]) -> None:
    (group,) = group_runs([read_run_directory(run_dirs[0])])
    assert np.isnan(curve(group, keys.CORRECTNESS).low).all()


def test_the_overview_counts_runs_and_names_their_seeds() -> None:
    groups = group_runs([_accuracies(0, 0.1, 0.2)])
    assert overview_table(groups).columns[0] == "runs"
    assert overview_table(groups).rows[0].cells[0] == "1 (seed 0)"
    groups = group_runs([_accuracies(0, 0.1, 0.2), _accuracies(3, 0.2, 0.3)])
    assert overview_table(groups).rows[0].cells[0] == "2 (seeds 0, 3)"


def test_a_curve_of_one_point_has_its_place_alone_on_the_axis() -> None:
    (group,) = group_runs([_accuracies(0, 0.3)])
    lines = [line_of(group, curve(group, keys.HELD_OUT_ACCURACY), markers=True)]
    axes = Figure().subplots()
    line_panel(lines, "Accuracy", "held-out pass@1", "tokens", rate=True).draw(axes)
    assert list(axes.get_xticks()) == [0.0]


@pytest.mark.parametrize(("steps", "windows"), [(0, 0), (5, 5), (12, 12), (13, 12), (25, 12), (150, 12)])
def test_a_run_falls_into_twelve_windows_of_almost_equal_length(steps: int, windows: int) -> None:
    found = twelfths(range(1, steps + 1))
    assert len(found) == windows
    assert [step for window in found for step in window] == list(range(1, steps + 1))
    assert not found or max(map(len, found)) - min(map(len, found)) <= 1
