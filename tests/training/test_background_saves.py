"""Checkpoints that are written while the run goes on: the run is the same, and a kill in the middle loses no more."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import warm_processes
from lone_checkpoints import find_damage
from small_run import QUICKSTART, SMALL

from masa import MASATrainer, load_config, train
from masa.callbacks import Callback
from masa.checkpointing import session_checkpoints
from masa.checkpointing.checkpoint import list_checkpoints
from masa.tracking.keys import is_timing

BACKGROUND = (
    *SMALL,
    "checkpoint.background=true",
    "checkpoint.every=1",
    "problems.eval=null",
    "tracking.figures=false",
)
# Ends a run, as the sixth argument says, at the n-th block that the thread of the checkpoint after step 2 writes.
_IN_THE_THREAD = """
import os, signal, sys, threading
from masa import train
from masa.files.checked_files import CheckedWriter
from masa.training_step import TrainingStep

what, count = sys.argv.pop(1), int(sys.argv.pop(1))
write, step, calls = CheckedWriter.write, TrainingStep.take, []

def writing(self, data):
    if threading.current_thread().name == "masa-checkpoint" and steps[-1] >= 2:
        calls.append(1)
        if len(calls) == count:
            if what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(28, "No space left on device")
    return write(self, data)

steps = [0]
def stepping(self, number):
    step(self, number)
    steps.append(number)

CheckedWriter.write, TrainingStep.take = writing, stepping
sys.exit(train.main(sys.argv[1:]))
"""


def _options(folder: Path, *more: str) -> list[str]:
    return ["--config", str(QUICKSTART), *BACKGROUND, f"run.dir={folder}", *more]


def _train(folder: Path, *more: str) -> str:
    command = [sys.executable, "-m", "masa.train", *_options(folder, *more)]
    return warm_processes.run(command, check=True).stdout


def _rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if not is_timing(key)} for line in lines]


def _ended(folder: Path, what: str, count: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _IN_THE_THREAD, what, str(count), *_options(folder)]
    return warm_processes.run(command)


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that waits for each of its checkpoints."""
    folder = tmp_path_factory.mktemp("waiting") / "run"
    _train(folder, "checkpoint.background=false")
    return folder


@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), 30])
def test_a_run_killed_while_a_checkpoint_is_written_goes_on_from_the_one_before(
    waiting: Path, tmp_path: Path, count: int
) -> None:
    folder = tmp_path / "run"
    assert _ended(folder, "kill", count).returncode == -9
    (newest, path), *_ = reversed(list_checkpoints(folder / "checkpoints"))
    assert newest == 1
    assert find_damage(path) is None
    _train(folder, "--resume")
    assert _rows(folder) == _rows(waiting)
    # What was written in the background is, file by file, what a run that waits has written.
    steps = [step for step, _ in list_checkpoints(folder / "checkpoints")]
    assert steps == [step for step, _ in list_checkpoints(waiting / "checkpoints")]
    for step, path in list_checkpoints(folder / "checkpoints"):
        other = dict(list_checkpoints(waiting / "checkpoints"))[step]
        tensors = sorted(one.relative_to(path) for one in path.rglob("*.safetensors"))
        assert tensors == sorted(one.relative_to(other) for one in other.rglob("*.safetensors"))
        assert all((path / one).read_bytes() == (other / one).read_bytes() for one in tensors)


def test_a_write_in_the_background_that_fails_ends_the_run_with_a_message_and_leaves_the_one_before(
    tmp_path: Path,
) -> None:
    ended = _ended(tmp_path / "run", "full", 5)
    assert ended.returncode == 2
    assert "the checkpoint after step 2 cannot be written" in ended.stderr
    assert "No space left on device; earlier checkpoints are untouched (step_000001)" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert [step for step, _ in list_checkpoints(tmp_path / "run" / "checkpoints")] == [1]


def test_where_a_host_has_no_room_for_copies_the_run_waits_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session_checkpoints, "_free_memory", lambda: 1_000_000)
    assert train.main(_options(tmp_path / "run", "run.steps=2")) == 0
    said = capsys.readouterr().out.replace("\n", " ")
    assert "checkpoint.background: not now" in said
    assert [step for step, _ in list_checkpoints(tmp_path / "run" / "checkpoints")][-1] == 2


def test_a_checkpoint_is_whole_and_told_when_the_steps_that_were_asked_for_are_done(tmp_path: Path) -> None:
    class Tells(Callback):
        told: list[str]

        def on_checkpoint(self, run: Any) -> None:
            self.told.append(run.checkpoint.name)

    tells = Tells()
    tells.told = []
    config = load_config(QUICKSTART, [*BACKGROUND, f"run.dir={tmp_path / 'run'}", "run.steps=3"])
    trainer = MASATrainer(config, callbacks=[tells])
    list(trainer.steps(1))
    assert tells.told == ["step_000001"]
    assert [step for step, _ in list_checkpoints(tmp_path / "run" / "checkpoints")] == [1]
    trainer.train()
    assert tells.told == ["step_000001", "step_000002", "step_000003"]
