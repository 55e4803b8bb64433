"""A run that is killed and resumed is the run that was never killed, bit for bit."""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import warm_processes
from small_run import QUICKSTART, SMALL

from masa.tracking.keys import is_timing


def _command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "masa.train", "--config", str(QUICKSTART), *SMALL, f"run.dir={folder}", *arguments]


def _rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if not is_timing(key)} for line in lines]


def _train(folder: Path, *arguments: str) -> None:
    warm_processes.run(_command(folder, *arguments), check=True)


def _wait_for_step(process: warm_processes.Popen, folder: Path, step: int) -> None:
    """Return as soon as the metrics of ``step`` are on disk."""
    deadline = time.monotonic() + 240
    metrics = folder / "metrics.jsonl"
    while not (metrics.exists() and f'"step":{step},' in metrics.read_text().replace(" ", "")):
        assert process.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < deadline, f"step {step} was not reached in time"
        time.sleep(0.01)


def _kill_after_step(folder: Path, step: int, *arguments: str) -> None:
    """Start a run and ``kill -9`` it as soon as the metrics of ``step`` are on disk."""
    process = warm_processes.Popen(_command(folder, *arguments))
    try:
        _wait_for_step(process, folder, step)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    _train(folder)
    return folder


@pytest.mark.parametrize("moment", ["after the first step", "after a random step"])
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(uninterrupted: Path, tmp_path: Path, moment: str) -> None:
    folder = tmp_path / "run"
    step = 1 if moment == "after the first step" else random.Random(time.time_ns()).choice([2, 3, 4])
    _kill_after_step(folder, step)
    _train(folder, "--resume")
    assert _rows(folder) == _rows(uninterrupted), f"killed after step {step}"
    assert [row["step"] for row in _rows(folder)] == [0, 1, 2, 3, 4, 5]


def test_a_run_whose_rows_are_given_to_waiting_samples_resumes_bit_for_bit(tmp_path: Path) -> None:
    # Five sequences at a time: each row serves several samples one after the other.
    options = ("rollout.max_batch_size=5", "run.steps=3")
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    _train(whole, *options)
    _kill_after_step(folder, 1, *options)
    _train(folder, *options, "--resume")
    assert _rows(folder) == _rows(whole)
    assert (folder / "samples.jsonl").read_bytes() == (whole / "samples.jsonl").read_bytes()


def test_the_samples_and_predictions_of_a_resumed_run_are_those_of_the_uninterrupted_one(
    uninterrupted: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    _kill_after_step(folder, 3)
    _train(folder, "--resume")
    for name in ("samples.jsonl", "predictions.jsonl"):
        assert (folder / name).read_bytes() == (uninterrupted / name).read_bytes()


def test_resuming_a_finished_run_adds_nothing(uninterrupted: Path) -> None:
    before = (uninterrupted / "metrics.jsonl").read_bytes()
    _train(uninterrupted, "--resume")
    assert (uninterrupted / "metrics.jsonl").read_bytes() == before


def test_a_finished_run_goes_on_when_it_is_given_more_steps(uninterrupted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    _train(folder, "run.steps=2")
    _train(folder, "--resume")
    longer, whole = _rows(folder), _rows(uninterrupted)
    assert [row["reward/r_meta"] for row in longer[1:]] == [row["reward/r_meta"] for row in whole[1:]]


_KILL_IN_THE_CYCLE = """
import os, signal, sys
from masa import train
from masa.policy.update.updater import PolicyUpdater

one_update, calls = PolicyUpdater._one_update, []

def killed(self, *arguments):
    calls.append(1)
    if len(calls) == 6:  # the second of the two updates of step 3
        os.kill(os.getpid(), signal.SIGKILL)
    return one_update(self, *arguments)

PolicyUpdater._one_update = killed
sys.exit(train.main(sys.argv[1:]))
"""


def test_a_run_killed_between_the_updates_of_one_step_is_resumed_exactly(tmp_path: Path) -> None:
    several = ("algorithm.updates_per_step=2", "problems.eval=null", "tracking.figures=false")
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    _train(whole, *several)
    command = [sys.executable, "-c", _KILL_IN_THE_CYCLE, *_command(folder, *several)[3:]]
    assert warm_processes.run(command).returncode == -9
    assert [row["step"] for row in _rows(folder)] == [0, 1, 2]
    _train(folder, *several, "--resume")
    assert _rows(folder) == _rows(whole)


def test_sigterm_lets_the_step_end_saves_and_exits_cleanly(uninterrupted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = warm_processes.Popen(_command(folder), env={**os.environ, "COLUMNS": "200"})
    _wait_for_step(process, folder, 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=240) == 0
    output = process.output
    assert "Traceback" not in process.errors
    done = _rows(folder)[-1]["step"]
    assert done < 5
    assert f"Stopped by SIGTERM after step {done}" in output
    assert (folder / "checkpoints" / f"step_{done:06d}").is_dir()
    assert not (folder / "summary.json").exists()
    _train(folder, "--resume")
    assert _rows(folder) == _rows(uninterrupted)


def test_a_broken_newest_checkpoint_is_put_aside_with_a_warning(uninterrupted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted, folder)
    newest = folder / "checkpoints" / "step_000005" / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:1000])
    done = warm_processes.run(_command(folder, "--resume"))
    assert done.returncode == 0
    assert "step_000005 is broken (model.safetensors has 1000 bytes" in done.stderr
    assert "resuming from step 4" in done.stderr
    assert (folder / "checkpoints" / "broken_step_000005").is_dir()
    assert _rows(folder) == _rows(uninterrupted)


@pytest.mark.parametrize(
    "options",
    [
        ("algorithm.dynamic_sampling.enabled=true", "algorithm.dynamic_sampling.oversample=3", "algorithm.tis_cap=2"),
        (
            "algorithm.dynamic_sampling.enabled=true",
            "algorithm.dynamic_sampling.oversample=3",
            "algorithm.tis_cap=2",
            "rollout.async_steps=1",
        ),
        ("model.lora.rank=4", "optimizer.learning_rate=0.01"),
    ],
    ids=["dynamic sampling that carries rollouts over", "dynamic sampling a step ahead", "LoRA"],
)
def test_a_run_with_more_to_save_is_resumed_exactly(tmp_path: Path, options: tuple[str, ...]) -> None:
    options = (*options, "problems.eval=null", "tracking.figures=false", "run.steps=4")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    _train(whole, *options)
    _kill_after_step(stopped, 3, *options)
    _train(stopped, *options, "--resume")
    assert _rows(stopped) == _rows(whole)
    if "algorithm.tis_cap=2" in options:
        assert max(row.get("rollout/carried_in", 0) for row in _rows(whole)) > 0
