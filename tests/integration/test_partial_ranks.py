"""Stragglers with two processes: each has problems of its own in flight, and a run resumes bit for bit."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from masa.checkpointing.checkpoint import read_state
from masa.tracking.keys import is_timing

ROOT = Path(__file__).parents[2]
LAUNCH = ["-m", "accelerate.commands.launch", "--config_file", "configs/accelerate/cpu_ddp.yaml"]
OPTIONS = (
    "algorithm.num_problems=4",
    "algorithm.num_solutions=3",
    "algorithm.num_metas=2",
    "algorithm.tis_cap=2",
    "problems.limit=64",
    "problems.eval=null",
    "rollout.engine=transformers",
    "rollout.partial=true",
    "rollout.partial_share=0.6",
    "rollout.check_at_start=false",
    "rewards.verifier_workers=1",
    "checkpoint.every=1",
    "checkpoint.keep=9",
    "tracking.figures=false",
    "run.steps=3",
    "run.threads=1",
)


def _train(folder: Path, *arguments: str) -> None:
    command = [sys.executable, *LAUNCH, "--main_process_port", "0", "-m", "masa.train"]
    command += ["--config", "configs/quickstart.yaml", *OPTIONS, f"run.dir={folder}", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


def _rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if not is_timing(key)} for line in lines]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_each_process_leaves_its_own_problems_to_the_next_step_and_has_them_again(tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    _train(whole)
    rows = _rows(whole)[1:]
    # Each of two processes has four problems in flight, and trains on two.
    assert {row["cost/problems_rolled_out"] for row in rows} == {4}
    assert {row["rollout/put_aside"] for row in rows} == {4}
    assert [row["rollout/went_on"] for row in rows] == [0, 4, 4]
    state = read_state(whole / "checkpoints" / "step_000003")
    waiting = [[one["problem"] for one in of_process] for of_process in state["put_aside"]]
    assert [len(of_process) for of_process in waiting] == [2, 2]
    assert len({id for of_process in waiting for id in of_process}) == 4
    shutil.copytree(whole, resumed)
    for later in (2, 3):
        shutil.rmtree(resumed / "checkpoints" / f"step_{later:06d}")
    _train(resumed, "--resume")
    assert _rows(resumed) == _rows(whole)
