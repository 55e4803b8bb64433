"""Runs with reward functions, named in a configuration and given in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_run import QUICKSTART, SMALL, TINY

import masa
from masa import Config, MASATrainer, Problem, RewardFunction, load_config, train
from masa.rewards.failures import RewardFunctionError

_TINY = {**TINY, "run.steps": 1}
_MODULE = """
class Model:
    made = closed = 0

    def __init__(self, scale):
        self.scale = scale
        Model.made += 1

    def __call__(self, problems, responses):
        return [self.scale * len(one) for one in responses]

    def close(self):
        Model.closed += 1

def accuracy(completions, solution, **columns):
    return [1.0 if answer in one[0]["content"] else None for one, answer in zip(completions, solution)]

def wrong(text):
    return 0.0

number = 3
"""


def _config(tmp_path: Path, **changes: Any) -> Config:
    return load_config(QUICKSTART, SMALL).replace({**_TINY, "run.dir": tmp_path / "run", **changes})


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``_MODULE``, as `own_rewards`."""
    import sys

    (tmp_path / "own_rewards.py").write_text(_MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("own_rewards", None)
    import own_rewards  # type: ignore[import-not-found]

    return own_rewards


def test_functions_of_a_configuration_count_with_their_weights(tmp_path: Path, module: Any) -> None:
    sources = [
        {"path": "own_rewards:Model", "name": "length", "weight": 0.5, "batched": True, "arguments": {"scale": 0.01}},
        {"path": "own_rewards:accuracy", "weight": 0.0, "evaluate": True},
    ]
    config = _config(tmp_path, **{"rewards.functions": sources})
    MASATrainer(config).train()
    assert (module.Model.made, module.Model.closed) == (1, 1)
    run = masa.load_run(config.run.dir)
    row = run.metrics.loc[1]
    assert row["reward/solution"] == pytest.approx(row["reward/correctness"] + 0.5 * row["reward/function_length"])
    assert row["reward/function_length"] > 0
    assert row["reward/function_length_std"] >= 0
    assert row["reward/function_length_errors"] == 0
    assert "eval/function_accuracy" in run.metrics
    assert "eval/function_length" not in run.metrics
    solutions = run.samples.query("path == 'solution'")
    expected = [0.01 * len(text) for text in solutions["response"]]
    assert solutions["reward/function_length"].tolist() == pytest.approx(expected)


def test_a_function_that_fails_now_and_then_is_told_once_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = 0

    def every_other(problem: Problem, text: str) -> float:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise OSError("the service is busy")
        return 1.0

    config = _config(tmp_path)
    MASATrainer(config, reward_functions=[RewardFunction(every_other, weight=2.0)]).train()
    row = masa.load_run(config.run.dir).metrics.loc[1]
    assert calls == 4  # the evaluations called it for nothing
    assert row["reward/function_every_other_errors"] == 2
    assert row["reward/function_every_other"] == 1.0
    assert row["reward/solution"] == row["reward/correctness"] + 0.5 * 2.0
    shown = capsys.readouterr().out
    assert shown.count("The reward function every_other raised OSError for problem") == 1
    assert "counted under reward/function_every_other_errors" in shown
    assert "in every_other" in (tmp_path / "run" / "first_error.txt").read_text()


def test_a_batched_function_that_raises_ends_the_run(tmp_path: Path) -> None:
    def broken(problems: Any, texts: Any) -> Any:
        raise ZeroDivisionError("nothing to divide by")

    trainer = MASATrainer(_config(tmp_path), reward_functions=[RewardFunction(broken, batched=True)])
    with pytest.raises(
        RewardFunctionError, match=r"every response of step 1 \(4\) was left without a reward by broken"
    ):
        trainer.train()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("own_rewards:nothing", "rewards.functions[0].path: 'own_rewards:nothing' cannot be imported"),
        ("own_rewards:number", "rewards.functions[0].path: own_rewards:number is 3 (int)"),
        ("own_rewards:wrong", "rewards.functions[0] takes (text), which does not fit"),
        ("own_rewards:Model", "rewards.functions[0]: the class Model cannot be made"),
        ({"path": "own_rewards:accuracy", "arguments": {"a": 1}}, "own_rewards:accuracy is no class"),
        ({"path": "own_rewards:accuracy", "wieght": 1.0}, "did you mean rewards.functions.0.weight?"),
    ],
)
@pytest.mark.parametrize("dry", [False, True], ids=["run", "dry run"])
def test_a_function_that_cannot_be_used_is_refused_before_a_model_is_loaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    module: Any,
    source: Any,
    message: str,
    dry: bool,
) -> None:
    import json

    monkeypatch.setattr("masa.session.load_policy", lambda *_: pytest.fail("the model was loaded"))
    options = [f"run.dir={tmp_path / 'run'}", f"rewards.functions={json.dumps([source])}"]
    assert train.main(["--config", str(QUICKSTART), *options, *(["--dry-run"] if dry else [])]) == 2
    assert message in capsys.readouterr().err
