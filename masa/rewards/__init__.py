"""Rewards: correctness of solutions, alignment of meta-predictions, and the pool that verifies in isolation."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from masa.rewards.alignment import MetaReward as MetaReward
    from masa.rewards.alignment import MetaWeights as MetaWeights
    from masa.rewards.alignment import SolutionGroup as SolutionGroup
    from masa.rewards.alignment import difficulty_reward as difficulty_reward
    from masa.rewards.alignment import length_reward as length_reward
    from masa.rewards.alignment import meta_reward as meta_reward
    from masa.rewards.alignment import notion_reward as notion_reward
    from masa.rewards.alignment import score_metas as score_metas
    from masa.rewards.meta_prediction import MetaKeys as MetaKeys
    from masa.rewards.meta_prediction import MetaPrediction as MetaPrediction
    from masa.rewards.meta_prediction import parse_meta_prediction as parse_meta_prediction
    from masa.rewards.pool import VerifierPool as VerifierPool
    from masa.rewards.verdict import Verdict as Verdict
    from masa.rewards.verifiers import check_verifier as check_verifier

_HOMES = {
    "MetaKeys": "meta_prediction",
    "MetaPrediction": "meta_prediction",
    "MetaReward": "alignment",
    "MetaWeights": "alignment",
    "SolutionGroup": "alignment",
    "Verdict": "verdict",
    "VerifierPool": "pool",
    "check_verifier": "verifiers",
    "difficulty_reward": "alignment",
    "length_reward": "alignment",
    "meta_reward": "alignment",
    "notion_reward": "alignment",
    "parse_meta_prediction": "meta_prediction",
    "score_metas": "alignment",
}
__all__ = [
    "MetaKeys",
    "MetaPrediction",
    "MetaReward",
    "MetaWeights",
    "SolutionGroup",
    "Verdict",
    "VerifierPool",
    "check_verifier",
    "difficulty_reward",
    "length_reward",
    "meta_reward",
    "notion_reward",
    "parse_meta_prediction",
    "score_metas",
]


def __getattr__(name: str) -> Any:
    # Names are resolved on first use: a verifier worker needs none of the formulas, a formula none of the pool.
    if name in _HOMES:
        return getattr(importlib.import_module(f"masa.rewards.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'masa.rewards' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
