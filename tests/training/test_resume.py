"""A run that is killed and resumed is the run that was never killed, bit for bit."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from small_run import QUICKSTART, SMALL

from masa.tracking.keys import is_timing


def _command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "masa.train", "--config", str(QUICKSTART), *SMALL, f"run.dir={folder}", *arguments]


def _rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if not is_timing(key)} for line in lines]


def _train(folder: Path, *arguments: str) -> None:
    subprocess.run(_command(folder, *arguments), check=True, capture_output=True)


def _kill_after_step(folder: Path, step: int, *arguments: str) -> None:
    """Start a run and ``kill -9`` it as soon as the metrics of ``step`` are on disk."""
    process = subprocess.Popen(_command(folder, *arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    metrics = folder / "metrics.jsonl"
    try:
        while not (metrics.exists() and f'"step":{step},' in metrics.read_text().replace(" ", "")):
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline, f"step {step} was not reached in time"
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    _train(folder)
    return folder


@pytest.mark.parametrize("step", [1, random.Random(time.time_ns()).choice([2, 3, 4])])
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(uninterrupted: Path, tmp_path: Path, step: int) -> None:
    folder = tmp_path / "run"
    _kill_after_step(folder, step)
    _train(folder, "--resume")
    assert _rows(folder) == _rows(uninterrupted)
    assert [row["step"] for row in _rows(folder)] == [0, 1, 2, 3, 4, 5]


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
