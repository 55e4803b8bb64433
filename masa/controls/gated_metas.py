"""Rewards for the meta-predictions of gated problems: the problem's own history takes the place of solutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masa.config import Config
from masa.controls.plan import PredictedProblem
from masa.controls.selection.pass_rates import PassRateHistory
from masa.controls.selection.selector import Outcome
from masa.rewards.alignment import MetaReward, SolutionGroup
from masa.rewards.meta_rewards import reward_metas
from masa.rollout.engine import Rollout


@dataclass(frozen=True)
class RewardedMetas:
    """The metas of one problem without solutions, and the reward of each."""

    metas: tuple[Rollout, ...]
    rewards: tuple[MetaReward, ...]


class GatedMetaRewards:
    """Rewards metas of gated problems by r_difficulty against the pass rate that earlier solutions have shown.

    The pass rate is that of the discounted counts of `PassRateHistory`. Of lengths and notions there is no history:
    both components are 0 for all metas of such a problem, which leaves their advantages alone.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._history = PassRateHistory(config.controls.selection.combined.discount)

    def __call__(self, step: int, gated: Sequence[PredictedProblem]) -> list[RewardedMetas]:
        """The metas of those problems that have a history before step ``step``."""
        found = []
        for one in gated:
            history = self._history(step, one.problem.id) if one.metas else None
            if history is not None:
                known = SolutionGroup(history.rate, (), (), (), one.problem.statement)
                rewards = reward_metas(one.predictions, one.metas, known, self._config)
                found.append(RewardedMetas(one.metas, tuple(rewards)))
        return found

    def observe(self, step: int, outcomes: Sequence[Outcome]) -> None:
        """Add the solutions of step ``step``."""
        self._history.observe(step, outcomes)

    def state_dict(self) -> dict[str, Any]:
        return self._history.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._history.load_state_dict(state)
