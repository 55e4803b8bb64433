"""Advantages and loss terms of the user's own, by import path."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from masa import MASATrainer, load_config
from masa.config import ConfigError
from masa.policy.objective.algorithm import resolve_algorithm
from masa.policy.objective.losses import contributing_rows, policy_loss
from masa.policy.objective.parameters import LossParameters
from masa.run import load_run
from masa.train import main

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
TINY = [
    "algorithm.num_problems=2", "algorithm.num_solutions=2", "algorithm.num_metas=2", "problems.limit=16",
    "problems.eval=null", "rollout.check_at_start=false", "rollout.max_solution_tokens=48",
    "rollout.max_meta_tokens=40", "rewards.verifier_workers=1", "run.steps=1", "run.threads=1",
    "tracking.figures=false",
]  # fmt: skip
PARTS = """
import torch

SEEN = []

def best_alone(rewards, path):
    SEEN.append((len(rewards), path))
    return [1.0 if reward == max(rewards) else 0.0 for reward in rewards]

def too_few(rewards, path):
    return rewards[1:]

def certainty(logprobs, old_logprobs, advantages, mask):
    return logprobs ** 2

class Scaled:
    def __init__(self, by):
        self.by = by
    def __call__(self, *, logprobs, **others):
        return self.by * logprobs

def one_number(logprobs, **others):
    return logprobs.mean()

def raises(logprobs, **others):
    raise KeyError("missing")

NUMBER = 3
"""


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "my_parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_parts", raising=False)
    import my_parts

    return my_parts


def _resolved(*options: str) -> Any:
    return resolve_algorithm(load_config(overrides=[f"algorithm.own.{option}" for option in options]).algorithm)


@pytest.mark.usefixtures("parts")
def test_a_loss_term_is_added_to_the_loss_of_each_token_with_its_weight() -> None:
    terms = "loss_terms=[{path: my_parts:certainty, weight: 0.5}, {path: my_parts:Scaled, name: s, arguments: {by: 3}}]"
    params = _resolved(terms).loss
    logprobs = torch.tensor([[-1.0, -2.0], [-3.0, float("nan")]], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1, 1], [1, 0]])
    advantages = torch.tensor([0.0, 0.0], dtype=torch.float64)
    plain = policy_loss(logprobs, None, advantages, mask, params=LossParameters(), normalizer=2.0)
    found = policy_loss(logprobs, None, advantages, mask, params=params, normalizer=2.0)
    # Mean over each response's tokens of 0.5 l^2 + 3 l, summed, over 2 responses.
    expected = ((0.5 * 1 - 3) + (0.5 * 4 - 6)) / 2 + (0.5 * 9 - 9)
    assert found.loss.item() == pytest.approx(plain.loss.item() + expected / 2)
    (gradient,) = torch.autograd.grad(found.loss, logprobs)
    assert gradient.tolist() == [[pytest.approx((-1 + 3) / 4), pytest.approx((-2 + 3) / 4)], [0.0, 0.0]]
    assert found.metrics["term_certainty"].value() == pytest.approx(14 / 3)
    # A response of zero advantage has a gradient now, and may not be left out.
    assert contributing_rows([0.0, 1.0], [2, 2], params) == [0, 1]
    assert contributing_rows([0.0, 1.0], [2, 2], LossParameters()) == [1]


def test_a_run_learns_from_advantages_and_terms_of_ones_own(parts: Any, tmp_path: Path) -> None:
    own = ["algorithm.own.advantage=my_parts:best_alone", "algorithm.own.loss_terms=[my_parts:certainty]"]
    own.append("algorithm.num_solutions=3")
    config = load_config(QUICKSTART, [*TINY, *own, f"run.dir={tmp_path / 'run'}"])
    trainer = MASATrainer(config)
    trainer.train()
    # Beside the trials, of two rewards of solutions.
    assert sorted(one for one in parts.SEEN if one != (2, "solution")) == [(2, "meta")] * 2 + [(3, "solution")] * 2
    metrics = load_run(tmp_path / "run").metrics
    assert metrics["policy/term_certainty"].iloc[-1] > 0


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("advantage=my_parts:nothing", "algorithm.own.advantage: 'my_parts:nothing' cannot be imported"),
        ("advantage=my_parts:NUMBER", "is 3 (int), allowed: a function (rewards, path) -> numbers"),
        ("advantage=my_parts:too_few", "returned [1.0] for 2 rewards; allowed: as many finite numbers"),
        ("loss_terms=[my_parts:one_number]", "returned a tensor of shape (), a tensor of shape (2, 3) is needed"),
        ("loss_terms=[my_parts:raises]", "loss_terms[0]: my_parts:raises was tried and failed: KeyError: 'missing'"),
        ("loss_terms=[my_parts:certainty, my_parts:certainty]", "loss_terms[1].name: found 'certainty', allowed"),
        ("loss_terms=[my_parts:Scaled]", "missing 1 required positional argument: 'by'"),
        ("loss_terms=[{path: my_parts:certainty, arguments: {a: 1}}]", "is no class; allowed: no arguments"),
    ],
)
@pytest.mark.usefixtures("parts")
def test_a_part_that_does_not_work_is_refused_before_a_model_is_loaded(
    option: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", str(QUICKSTART), f"run.dir={tmp_path / 'run'}", f"algorithm.own.{option}"]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_scale_beside_an_own_advantage_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"advantage_scale is 'batch', allowed together with own\.advantage: null"):
        load_config(overrides=["algorithm.own.advantage=a:b", "algorithm.advantage_scale=batch"])
