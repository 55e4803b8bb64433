"""Rollouts: the data every engine takes and gives, and the engines."""

from masa.rollout.engine import Rollout, RolloutEngine, RolloutRequest, Sampling

__all__ = ["Rollout", "RolloutEngine", "RolloutRequest", "Sampling"]
