"""Ctrl-C, and what `--resume` says and refuses afterwards."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_run import QUICKSTART, SMALL

from masa import train


def test_ctrl_c_says_what_is_saved_and_how_to_go_on_and_fewer_steps_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = ["--config", str(QUICKSTART), *SMALL, "run.steps=400", f"run.dir={folder}"]
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
    done = subprocess.run(
        [sys.executable, "-m", "masa.train", *arguments, "run.steps=2", "--resume"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "run.steps: found 2" in done.stderr
    assert (folder / "metrics.jsonl").read_bytes() == before

    recorded = max(int(line.split(b'"step":')[1].split(b",")[0]) for line in before.splitlines())
    done = subprocess.run(
        [sys.executable, "-m", "masa.train", *arguments, f"run.steps={recorded + 1}", "--resume"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"in {folder / 'checkpoints'}" in done.stdout.replace("\n", "")
    assert "Resumed from the checkpoint of step" in done.stdout


def test_ctrl_c_before_the_first_step_says_that_nothing_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("masa.trainer.prepare", interrupted)
    assert train.main(["--config", str(QUICKSTART), f"run.dir={tmp_path / 'run'}"]) == 130
    assert "Nothing was trained yet" in capsys.readouterr().err
