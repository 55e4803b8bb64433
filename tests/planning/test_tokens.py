"""Tokens of a whole run."""

from __future__ import annotations

from pathlib import Path

import pytest

from masa import train
from masa.config import load_config
from masa.planning.tokens import evaluation_tokens, evaluations


@pytest.mark.parametrize(("steps", "every", "times"), [(10, 0, 2), (10, 5, 3), (10, 4, 4), (1, 1, 2), (3, 1, 4)])
def test_evaluations_are_before_the_first_step_at_each_interval_and_after_the_last(
    steps: int, every: int, times: int
) -> None:
    assert evaluations(steps, every) == times


def test_an_evaluation_generates_its_samples_and_metas_of_every_problem() -> None:
    limits = ["rollout.max_solution_tokens=100", "rollout.max_meta_tokens=10"]
    config = load_config(None, [*limits, "evaluation.num_samples=3", "evaluation.num_metas=2"])
    assert evaluation_tokens(config, 7, 20) == (7 * 320, 7 * 5 * 20)


def test_a_dry_run_shows_the_tokens_of_all_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["algorithm.num_problems=2", "algorithm.num_solutions=3", "rollout.max_solution_tokens=16", "run.steps=5"]
    arguments = ["--config", "configs/quickstart_grpo.yaml", f"run.dir={tmp_path / 'run'}", *wanted, "--dry-run"]
    assert train.main(arguments) == 0
    assert f"{5 * 2 * 3 * 16:,} generated" in capsys.readouterr().out
