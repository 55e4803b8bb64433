"""Verifiers handed in: what kind they must be, and what they must return."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from masa import MASATrainer, load_config
from masa.problems import Problem
from masa.rewards import Verdict
from masa.rewards.own_parts import check_verifier_object, verified

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
ITEMS = [{"verifier": "math", "response": "1", "answer": "1"}] * 2
RIGHT = Verdict(correct=True, status="correct")


class Returns:
    """A verifier that returns what it was made with."""

    def __init__(self, returned: Any) -> None:
        self.returned = returned

    def verify(self, items: Sequence[Mapping[str, Any]]) -> Any:
        return self.returned


class TakesTwo:
    def verify(self, responses: Sequence[str], answers: Sequence[str]) -> list[Verdict]:
        return [RIGHT for _ in responses]


def half(problem: Problem, text: str) -> float:
    return 0.5


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (half, "verifier is the function half"),
        (Returns, r"verifier is the class Returns.*verifier=Returns\(\)"),
        ("math", r"verifier is 'math' \(str\)"),
        (TakesTwo(), r"verifier.verify takes \(responses"),
    ],
)
def test_what_is_no_verifier_is_refused_by_name(given: Any, found: str) -> None:
    with pytest.raises(TypeError, match=found) as caught:
        check_verifier_object(given)
    assert "one masa.rewards.Verdict for each item" in str(caught.value)


@pytest.mark.parametrize(
    ("returned", "error", "found"),
    [
        ([True, False], TypeError, r"Returns.verify returned True \(bool\) for item 0"),
        ([RIGHT, 1.0], TypeError, r"returned 1.0 \(float\) for item 1"),
        (None, TypeError, "returned None"),
        (True, TypeError, r"returned True \(bool\)"),
        ({0: RIGHT, 1: RIGHT}, TypeError, "returned a dict"),
        ([], ValueError, "returned 0 verdicts for 2 items"),
        ([RIGHT] * 3, ValueError, "returned 3 verdicts for 2 items"),
        ([RIGHT, Verdict(correct=False, status="incorrect", score=math.nan)], ValueError, "score nan for item 1"),
        ([RIGHT, Verdict(correct=False, status="incorrect", score=2)], ValueError, "score 2 for item 1"),
    ],
)
def test_what_a_verifier_returns_is_checked_in_one_message(returned: Any, error: type[Exception], found: str) -> None:
    with pytest.raises(error, match=found):
        verified(Returns(returned), ITEMS)


def test_verdicts_may_come_from_a_generator_and_nothing_is_asked_without_items() -> None:
    assert verified(Returns(RIGHT for _ in ITEMS), ITEMS) == [RIGHT, RIGHT]
    assert verified(Returns("not asked"), []) == []


@pytest.mark.parametrize("given", [{"reward_functions": half}, {"verifier": Returns}])
def test_a_trainer_refuses_the_wrong_kind_before_it_reads_anything(given: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="needed"):
        MASATrainer("no/such/config.yaml", **given)


def test_a_run_with_a_verifier_of_bools_ends_with_what_is_needed(tmp_path: Path) -> None:
    small = ["run.steps=1", "algorithm.num_problems=1", "algorithm.num_solutions=2", "algorithm.num_metas=2"]
    quiet = ["problems.eval=null", "tracking.figures=false", f"run.dir={tmp_path}/run", "rollout.max_solution_tokens=8"]
    config = load_config(QUICKSTART, [*small, *quiet, "rollout.max_meta_tokens=8", "run.threads=1"])
    with pytest.raises(TypeError, match=r"Returns.verify returned True \(bool\) for item 0; an object is needed"):
        MASATrainer(config, verifier=Returns([True, True])).train()
