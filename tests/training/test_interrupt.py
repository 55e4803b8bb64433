"""Ctrl-C, and what `--resume` says and refuses afterwards."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_run import QUICKSTART, SMALL

from masa import train
from masa.training_run import run_again

_SMALLER = (
    "algorithm.num_problems=2",
    "algorithm.num_solutions=2",
    "algorithm.num_metas=2",
    "problems.limit=16",
    "problems.eval=null",
    "rollout.check_at_start=false",
    "tracking.figures=false",
)


def test_ctrl_c_says_what_is_saved_and_how_to_go_on_and_fewer_steps_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    arguments = ["--config", str(QUICKSTART), *SMALL, *_SMALLER, "run.steps=400", f"run.dir={folder}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "masa.train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 240
    while not (folder / "metrics.jsonl").exists() or (folder / "metrics.jsonl").read_bytes().count(b"\n") < 4:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert f"The newest checkpoint is {folder / 'checkpoints'}/step_0000" in errors
    assert f"python -m masa.train {' '.join(arguments)} --resume" in errors

    before = (folder / "metrics.jsonl").read_bytes()
    assert train.main([*arguments, "run.steps=2", "--resume"]) == 2
    assert "run.steps: found 2" in capsys.readouterr().err
    assert (folder / "metrics.jsonl").read_bytes() == before

    recorded = max(json.loads(line)["step"] for line in before.splitlines())
    assert train.main([*arguments, f"run.steps={recorded + 1}", "--resume"]) == 0
    assert "Resumed from the checkpoint of step" in capsys.readouterr().out


def test_ctrl_c_before_the_first_step_says_that_nothing_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("masa.trainer.prepare", interrupted)
    assert train.main(["--config", str(QUICKSTART), f"run.dir={tmp_path / 'run'}"]) == 130
    assert "Nothing has been trained yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("started", "command"), [("/venv/bin/masa", "masa train"), ("/clone/masa/train.py", "python -m masa.train")]
)
def test_the_command_that_resumes_is_the_one_that_was_given(
    started: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n')
    config = SimpleNamespace(run=SimpleNamespace(dir=str(tmp_path)))
    trainer: Any = SimpleNamespace(has_begun=True, directory=tmp_path, config=config)
    monkeypatch.setattr("sys.argv", [started])
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    said = train._what_is_saved(trainer, ["--config", "my run.yaml", "--resume"])
    assert said.endswith(f"To resume: {command} --config 'my run.yaml' --resume")


@pytest.mark.parametrize(
    ("last", "said"), [(4, ""), (5, "; step 5 is run again"), (7, "; steps 5 to 7 are run again"), (0, "")]
)
def test_a_resumed_run_says_which_steps_are_run_again(last: int, said: str) -> None:
    assert run_again(4, last) == said
