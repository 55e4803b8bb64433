"""Whole runs with vLLM inside the trainer: they train, resume bit for bit, sample ahead, and share work."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from vllm_runs import QUICKSTART, SMALL, gone, of_rollouts, rows, start, train, wait_for_step

# Importing vLLM takes many times longer on a machine that is busy.
pytestmark = pytest.mark.timeout(1500)
STEPS = ("rollout.engine=vllm", "run.steps=3")
AHEAD = ("rollout.async_steps=1", "algorithm.tis_cap=2")


def _assert_trained(found: list[dict[str, Any]], steps_ahead: int) -> None:
    assert [row["step"] for row in found] == [0, 1, 2, 3]
    for row in found[1:]:
        assert row["policy/engine_mismatch_max"] < 1e-4 or steps_ahead
        assert row["rollout/check_difference"] < 1e-4
        assert row["rollout/staleness_max"] == min(steps_ahead, row["step"] - 1)
    # While the last steps are learned from nothing is sampled any more.
    for row in found[1 : len(found) - steps_ahead]:
        for name in ("requests_running", "requests_waiting", "kv_usage", "preemptions", "prefix_hit_rate"):
            assert row[f"rollout/{name}"] >= 0


def _kill_after_step(number: int, folder: Path, step: int, *arguments: str) -> None:
    """A run that gets a signal after ``step`` and leaves no process behind."""
    process = start(folder, *arguments)
    try:
        wait_for_step(process, folder, step)
        family = psutil.Process(process.pid).children(recursive=True)
        assert family, "the verifier's workers"
        process.send_signal(number)
        process.wait(120)
    finally:
        process.kill()
        process.wait()
    assert gone(family), "processes outlived the trainer"


@pytest.mark.slow
def test_a_run_trains_and_a_killed_one_resumes_bit_for_bit(in_process_run: Path, tmp_path: Path) -> None:
    _assert_trained(rows(in_process_run), 0)
    killed = tmp_path / "killed"
    _kill_after_step(signal.SIGKILL, killed, 2, *STEPS)
    train(killed, *STEPS, "--resume")
    assert rows(killed) == rows(in_process_run)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_run_that_samples_ahead_trains_and_a_stopped_one_resumes_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, number: int
) -> None:
    whole, stopped = tmp_path_factory.getbasetemp() / "whole_ahead", tmp_path / "stopped"
    if not whole.exists():
        train(whole, *STEPS, *AHEAD)
    _assert_trained(rows(whole), 1)
    _kill_after_step(number, stopped, 1, *STEPS, *AHEAD)
    train(stopped, *STEPS, *AHEAD, "--resume")
    assert rows(stopped) == rows(whole)


# Slow: `test_vllm_ranks.py` compares the samples of two processes with those of one by default.
@pytest.mark.slow
def test_two_processes_with_an_engine_each_train_on_what_one_samples(in_process_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="needs deepspeed (the extra deepspeed)")
    folder = tmp_path / "run"
    shape = QUICKSTART.parent / "accelerate" / "cpu_zero2.yaml"
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(shape), "--main_process_port", "0"]
    command = [sys.executable, *launch, "-m", "masa.train", "--config", str(QUICKSTART), *SMALL, f"run.dir={folder}"]
    done = subprocess.run(
        [*command, "rollout.engine=vllm", "run.steps=2"],
        cwd=QUICKSTART.parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found, expected = rows(folder), rows(in_process_run)
    assert [row["step"] for row in found] == [0, 1, 2]
    # Both see the weights of the start in the first step: what is sampled and earned there is the same to the bit.
    first, other = of_rollouts(found[1], "policy/"), of_rollouts(expected[1], "policy/")
    assert "cost/solution_tokens" in first
    assert first == other
    for row in found[1:]:
        assert row["rollout/check_difference"] < 1e-4
        assert row["policy/engine_mismatch_max"] < 1e-4
