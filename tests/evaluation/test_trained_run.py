"""Evaluation of a run, before and after training, and what training itself records."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from masa.checkpointing.checkpoint import checkpoint_path
from masa.config import dump_config, load_config
from masa.embedded import DATA_DIRECTORY
from masa.evaluate import main
from masa.evaluation.benchmarks import BENCHMARKS
from masa.evaluation.benchmarks.loading import load_benchmark
from masa.evaluation.held_out import benchmark_problems, held_out_rows, record_held_out
from masa.evaluation.measures.outcomes import outcome_from_row
from masa.problems import Problem
from masa.rewards.alignment import MetaReward, SolutionGroup
from masa.rewards.grading import GradedGroup
from masa.rewards.meta_prediction import MetaPrediction
from masa.rewards.verdict import Verdict
from masa.rollout.engine import Rollout
from masa.tracking.metrics import StepMetrics
from masa.tracking.run_directory import RunDirectory

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"


def _rollout(problem: str, path: str, index: int, tokens: int) -> Rollout:
    return Rollout(problem, path, index, (1,), (5,) * tokens, (0.0,) * tokens, "stop", 0, 0.1)  # type: ignore[arg-type]


def _group(number: int, source: str, correct: list[bool], predicted: float) -> GradedGroup:
    name = f"p{number}"
    lengths = [10 + 5 * number] * len(correct)
    return GradedGroup(
        problem=Problem(name, f"Problem {number}", "7", source),
        solutions=tuple(_rollout(name, "solution", i, length) for i, length in enumerate(lengths)),
        solution_texts=("by parity",) * len(correct),
        verdicts=tuple(Verdict(right, "correct" if right else "incorrect", "7" if right else "8") for right in correct),
        solution_rewards=tuple(map(float, correct)),
        statistics=SolutionGroup(sum(correct) / len(correct), problem_text=f"Problem {number}"),
        metas=(_rollout(name, "meta", 0, 8),),
        meta_texts=("{}",),
        predictions=(MetaPrediction(("parity", "problem"), predicted, 12),),
        meta_rewards=(MetaReward(0.6, 0.0, 0.8, 1.0),),
    )


GROUPS = [
    _group(0, "a", [True, True], 1.0),
    _group(1, "a", [True, False], 0.5),
    _group(2, "b", [False, False], 0.25),
]


def test_training_records_the_metrics_of_an_evaluation() -> None:
    metrics = StepMetrics()
    record_held_out(metrics, GROUPS)
    found = metrics.flatten()
    assert found["eval/accuracy"] == pytest.approx(0.5)
    assert found["eval/pass@2"] == pytest.approx(2 / 3)
    assert found["eval/majority@2"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert found["eval/solution_length"] == pytest.approx(15)
    assert found["eval/pass_rate_error"] == pytest.approx(0.25 / 3)
    assert found["eval/r_difficulty"] == pytest.approx(0.8)
    assert found["eval/pass_rate_spearman"] == pytest.approx(1)
    assert found["eval/a/accuracy"] == pytest.approx(0.75)
    assert found["eval/b/accuracy"] == 0.0
    # Only the right notions that the problem does not hold count: "problem" stands in the statement.
    assert found["eval/notion_precision"] == pytest.approx(1.0)
    # No correlation where nothing varies.
    assert "eval/b/pass_rate_pearson" not in found


def test_held_out_rows_read_back_as_outcomes() -> None:
    rows = json.loads(json.dumps(held_out_rows(4, GROUPS)))
    assert [row["step"] for row in rows] == [4, 4, 4]
    assert [outcome_from_row(row).pass_rate for row in rows] == [1.0, 0.5, 0.0]


def test_no_held_out_problem_records_nothing() -> None:
    metrics = StepMetrics()
    record_held_out(metrics, [])
    assert metrics.flatten() == {}


def test_benchmarks_can_be_held_out_problems_of_a_run(tmp_path: Path) -> None:
    path = tmp_path / "minerva.jsonl"
    path.write_text('{"question": "How far?", "answer": "1"}\n')
    problems = benchmark_problems(["minerva", "embedded"], {"minerva": str(path)}, limit=3)
    assert [problem.source for problem in problems] == ["minerva", "embedded", "embedded", "embedded"]


def test_the_trees_that_mbpp_files_lack_are_there(tmp_path: Path) -> None:
    from masa.evaluation.benchmarks.loading import DataChoice

    row = {"task_id": 367, "prompt": "Check balance.", "test": ["assert is_tree_balanced(root) == False"], "code": "x"}
    path = tmp_path / "mbpp.jsonl"
    path.write_text(
        json.dumps(row) + "\n" + json.dumps({**row, "prompt": "Else.", "test_setup_code": "root = 1"}) + "\n"
    )
    lacking, complete = load_benchmark(BENCHMARKS["mbpp"], DataChoice(files={"mbpp": path}))
    assert "root1" in lacking.answer["asserts"][0]
    assert not any("root1" in one for one in complete.answer["asserts"])
    assert "root1" not in lacking.statement


def test_a_run_is_evaluated_before_and_after_training(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create(dump_config(load_config(QUICKSTART)), resume=False)
    checkpoint = checkpoint_path(run.checkpoints, 2)
    shutil.copytree(DATA_DIRECTORY, checkpoint)
    (checkpoint / "state.json").write_text('{"step": 2}')
    common = ["--run", str(run.path), "--benchmarks", "embedded", "--limit", "4", "--samples", "2", "--metas", "1"]
    common += ["--max-tokens", "64", "--resamples", "50"]
    assert main([*common, "--step", "0"]) == 0
    assert main([*common, "--compare", str(run.path / "evaluation" / "step-0")]) == 0
    results = json.loads((run.path / "evaluation" / "step-2" / "results.json").read_text())
    # The same weights, sampled with the same seeds.
    found = next(iter(results["comparisons"].values()))["embedded"]
    assert (found["problems"], found["value"], found["p_value"]) == (4, 0.0, 1.0)
    assert results["model_name"] == str(checkpoint)
    assert main([*common, "--step", "7"]) == 2
