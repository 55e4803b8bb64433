"""Metas of gated problems, rewarded against the problem's own history."""

from __future__ import annotations

import random

import pytest
from controls_world import World, prediction

from masa.config import ConfigError, load_config
from masa.controls.gated_metas import GatedMetaRewards
from masa.controls.plan import PredictedProblem
from masa.controls.selection.selector import Outcome
from masa.flow.rows import training_rows
from masa.policy.objective.parameters import AdvantageParameters
from masa.problems import Problem
from masa.rewards.meta_prediction import MetaPrediction
from masa.rollout.engine import Rollout

GATE = ("controls.gating.enabled=true", "controls.gating.start=open", "controls.gating.audit_share=0.0")
HISTORY = "controls.gating.gated_metas=history"
RATES = {f"p{n:02}": (0.0, 0.5, 1.0)[n % 3] for n in range(30)}


def _predicted(problem: str, *rates: float | None, tokens: int = 3) -> PredictedProblem:
    metas = tuple(
        Rollout(problem, "meta", index, (1, 2), (5,) * tokens, (-0.5,) * tokens, "stop", 0, 0.0)
        for index, _ in enumerate(rates)
    )
    return PredictedProblem(
        Problem(problem, f"What is {problem}?", "1"), metas, tuple(MetaPrediction((), rate, 20) for rate in rates)
    )


def _rewards(*options: str) -> GatedMetaRewards:
    return GatedMetaRewards(load_config(None, [*GATE, HISTORY, *options]))


def test_the_reward_is_r_difficulty_against_the_discounted_pass_rate_by_its_weight() -> None:
    rewards = _rewards("controls.selection.combined.discount=0.5")
    rewards.observe(1, [Outcome("a", 8, 8, True, ())])
    rewards.observe(2, [Outcome("a", 0, 4, True, ())])
    # 8 correct of 8, half forgotten, and 0 of 4: 4 of 8.
    (found,) = rewards(3, [_predicted("a", 0.5, 1.0, None)])
    assert [one.difficulty for one in found.rewards] == [1.0, pytest.approx(0.01**0.5), 0.0]
    assert [one.total for one in found.rewards] == [pytest.approx(one.difficulty / 3) for one in found.rewards]
    assert all(one.length == one.notion == 0 for one in found.rewards)


def test_a_problem_without_a_history_or_without_metas_is_not_rewarded() -> None:
    rewards = _rewards("controls.selection.combined.discount=0.5")
    rewards.observe(1, [Outcome("a", 1, 2, False, ())])
    assert rewards(2, [_predicted("b", 0.5, 0.5), _predicted("a")]) == []
    # After two more updates its two solutions amount to half of one.
    assert len(rewards(2, [_predicted("a", 0.5)])) == 1
    assert rewards(3, [_predicted("a", 0.5)]) == []


def test_long_metas_pay_their_price_here_as_well() -> None:
    rewards = _rewards(
        "rewards.meta_length_price.price=0.3", "rewards.meta_length_price.free_tokens=2", "rollout.max_meta_tokens=12"
    )
    rewards.observe(1, [Outcome("a", 2, 2, True, ())])
    (short,) = rewards(2, [_predicted("a", 1.0, tokens=2)])
    (long,) = rewards(2, [_predicted("a", 1.0, tokens=12)])
    assert short.rewards[0].total - long.rewards[0].total == pytest.approx(0.3)


def test_their_rows_are_an_advantage_group_of_their_own_behind_those_of_solved_problems() -> None:
    config = load_config(None, [*GATE, HISTORY, "algorithm.updates_per_step=1"])
    rewards = GatedMetaRewards(config)
    rewards.observe(1, [Outcome("a", 4, 4, True, ())])
    gated = rewards(2, [_predicted("a", 1.0, 0.0)])
    (rows,) = training_rows([], AdvantageParameters(), config.algorithm, gated=gated)
    assert len(rows) == 2
    assert rows[0].advantage == pytest.approx(-rows[1].advantage)
    assert rows[0].advantage > 0


def test_the_history_is_the_same_after_a_checkpoint() -> None:
    rewards, again = _rewards(), _rewards()
    rewards.observe(3, [Outcome("a", 3, 8, False, ())])
    again.load_state_dict(rewards.state_dict())
    gated = [_predicted("a", 0.25, 0.5)]
    assert again(7, gated) == rewards(7, gated)


def test_gated_problems_that_were_solved_before_are_rewarded_in_the_step_and_others_are_not() -> None:
    def predict(problem: str, draw: random.Random) -> str:
        return prediction(RATES[problem], 20)

    world = World(predict, RATES, *GATE, HISTORY)
    seen: set[str] = set()
    rewarded = 0
    for step in range(1, 9):
        batch, groups, metrics = world.step(step)
        expected = sum(len(one.metas) for one in batch.gated if one.problem.id in seen)
        assert metrics["control/gated_metas_rewarded"] == expected
        if expected:
            # The world's policy knows itself, and its solutions are all alike.
            assert metrics["control/gated_r_difficulty"] == pytest.approx(1.0)
        rewarded += expected
        seen |= {group.problem.id for group in groups}
    assert rewarded > 0


def test_another_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="gated_metas"):
        load_config(None, ["controls.gating.gated_metas=always"])
    with pytest.raises(ConfigError, match=r"gated_metas is history.*'posterior'"):
        load_config(None, ["controls.gating.gated_metas=history", "controls.selection.method=posterior"])
