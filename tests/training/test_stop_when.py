"""Runs that end at a warning sign."""

import json
from pathlib import Path

import pytest
from small_run import QUICKSTART, SMALL

from masa import MASATrainer, load_config
from masa.tracking.warning_signs import WINDOW


def test_a_run_that_learns_nothing_is_warned_and_stopped_where_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    changes = ["rollout.max_solution_tokens=1", "controls.cutoff.enabled=false", "run.steps=9", f"run.dir={folder}"]
    stop = ["run.stop_when=[responses_truncated]", "algorithm.num_problems=2", "algorithm.num_solutions=2"]
    few = ["algorithm.num_metas=2", "evaluation.every=0", "problems.eval=null", "tracking.figures=false"]
    summary = MASATrainer(load_config(QUICKSTART, [*SMALL, *changes, *stop, *few])).train()
    assert summary["steps"] == WINDOW
    assert "responses_truncated" in summary["warning_signs"]
    shown = capsys.readouterr().out
    assert "raise rollout.max_solution_tokens" in shown
    assert "Stopped after step 5: run.stop_when names responses_truncated" in shown
    assert (folder / "checkpoints" / "step_000005").is_dir()
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["policy/warning_signs"] >= 1
