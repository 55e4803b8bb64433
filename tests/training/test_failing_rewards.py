"""Verifiers and reward functions that raise."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_run import QUICKSTART, SMALL

from masa import MASATrainer, Problem
from masa.config import Config, load_config
from masa.rewards.failures import RewardFunctionError

_VERIFIERS = """
def never(response, answer):
    raise KeyError("no such column")

def sometimes(response, answer):
    if len(response) % 2:
        raise ValueError("an odd response")
    return True
"""


def test_a_verifier_that_raises_on_everything_ends_the_run_with_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "judges.py").write_text(_VERIFIERS)
    command = [sys.executable, "-m", "masa.train", "--config", str(QUICKSTART), *SMALL, "run.dir=run"]
    done = subprocess.run(
        [*command, "problems.verifier=judges:never"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "judges:never" in done.stderr
    assert "KeyError: 'no such column'" in done.stderr
    assert "Traceback" not in done.stderr
    assert 'raise KeyError("no such column")' in done.stdout
    kept = (tmp_path / "run" / "first_error.txt").read_text()
    assert "judges:never failed for problem" in kept
    assert 'raise KeyError("no such column")' in kept


def test_a_verifier_that_raises_now_and_then_is_told_once_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other_judges.py").write_text(_VERIFIERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "run"
    changes = ["problems.verifier=other_judges:sometimes", "run.steps=2", f"run.dir={folder}"]
    MASATrainer(load_config(QUICKSTART, [*SMALL, *changes])).train()
    assert capsys.readouterr().out.count("ValueError: an odd response\n") == 2  # in the line, and in the traceback
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["reward/verifier_errors"] > 0
    assert "an odd response" in (folder / "first_error.txt").read_text()


def test_a_reward_function_that_raises_names_itself_and_the_problem(small_config: Config) -> None:
    def broken(problem: Problem, text: str) -> float:
        raise ZeroDivisionError("nothing to divide by")

    with pytest.raises(RewardFunctionError, match=r"broken raised ZeroDivisionError for problem '.+'"):
        MASATrainer(small_config, reward_functions=[broken]).train()
    kept = (Path(small_config.run.dir) / "first_error.txt").read_text()
    assert "nothing to divide by" in kept
    assert "in broken" in kept
