"""r_meta as a configuration asks for it: its components, and the price of long meta-predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from masa.rewards.alignment import MetaReward, MetaWeights, SolutionGroup, score_metas
from masa.rewards.meta_prediction import MetaPrediction
from masa.rewards.meta_price import priced
from masa.rollout.engine import Rollout

if TYPE_CHECKING:
    from masa.config import Config


def reward_metas(
    predictions: Sequence[MetaPrediction], metas: Sequence[Rollout], statistics: SolutionGroup, config: Config
) -> list[MetaReward]:
    """The reward of each of the M metas of one problem, whose solutions showed ``statistics``."""
    section = config.rewards
    weights, price = section.meta_weights, section.meta_length_price
    rewards = score_metas(
        predictions,
        statistics,
        MetaWeights(weights.length, weights.difficulty, weights.notion),
        base=section.difficulty_base,
        count=section.notion_count,
        match=section.notion_match,
    )
    return priced(
        rewards,
        [len(one.token_ids) for one in metas],
        free=price.free_tokens,
        limit=config.rollout.max_meta_tokens,
        price=price.price,
    )
