"""Whole runs on two processes: killed under ZeRO 2 and resumed, in the same shape and in others."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from masa.tracking.keys import is_timing

pytest.importorskip("deepspeed", reason="needs deepspeed (the extra deepspeed)")

ROOT = Path(__file__).parents[2]
SMALL = (
    "algorithm.num_problems=4",
    "algorithm.num_solutions=4",
    "algorithm.num_metas=2",
    "problems.limit=64",
    "problems.eval=null",
    "rollout.max_solution_tokens=64",
    "rewards.verifier_workers=1",
    "checkpoint.every=2",
    "tracking.figures=false",
    "run.steps=4",
    "run.threads=1",
)


def _command(folder: Path, shape: str | None) -> list[str]:
    """Start a run on two processes in the shape of an accelerate configuration, or on one."""
    launch = ["-m", "accelerate.commands.launch", "--config_file", f"configs/accelerate/{shape}.yaml"]
    launch += ["--main_process_port", "0"]
    train = ["-m", "masa.train", "--config", "configs/quickstart.yaml", *SMALL, f"run.dir={folder}"]
    return [sys.executable, *(launch if shape else []), *train]


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _train(folder: Path, shape: str | None, *arguments: str) -> None:
    done = subprocess.run(
        [*_command(folder, shape), *arguments], cwd=ROOT, env=_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


def _rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if not is_timing(key)} for line in lines]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run under ZeRO 2 that was killed after step 3, one step after its checkpoint."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    process = subprocess.Popen(
        _command(folder, "cpu_zero2"),
        cwd=ROOT,
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 280
    metrics = folder / "metrics.jsonl"
    try:
        while not (metrics.exists() and '"step":3,' in metrics.read_text().replace(" ", "")):
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline, "step 3 was not reached in time"
            time.sleep(0.01)
    finally:
        _kill_tree(process.pid)
        process.wait()
    return folder


def _kill_tree(pid: int) -> None:
    import psutil

    for process in [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]:
        process.send_signal(signal.SIGKILL)


def test_a_run_killed_under_zero_2_and_resumed_equals_an_uninterrupted_one(killed: Path, tmp_path: Path) -> None:
    resumed, whole = tmp_path / "resumed", tmp_path / "whole"
    shutil.copytree(killed, resumed)
    _train(resumed, "cpu_zero2", "--resume")
    _train(whole, "cpu_zero2")
    assert [row["step"] for row in _rows(whole)] == [0, 1, 2, 3, 4]
    assert _rows(resumed) == _rows(whole)


@pytest.mark.parametrize("shape", [None, "cpu_zero3"])
def test_a_run_goes_on_with_another_number_of_processes_or_another_sharding(
    killed: Path, tmp_path: Path, shape: str | None
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(killed, folder)
    before = _rows(killed)
    _train(folder, shape, "--resume")
    rows = _rows(folder)
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[:3] == before[:3]
    # The step after the checkpoint sees the same problems and the same weights, up to rounding.
    assert rows[3]["cost/prompt_tokens"] == before[3]["cost/prompt_tokens"]
    assert rows[3]["policy/engine_mismatch_max"] < 1e-4
