"""How old the weights were that made what a step trains on."""

from __future__ import annotations

from collections.abc import Iterable

from masa.rewards.grading import GradedGroup
from masa.tracking.metrics import StepMetrics


def record_staleness(metrics: StepMetrics, groups: Iterable[GradedGroup], step: int) -> None:
    """How many updates older than the policy the weights were that made what a step trains on: mean and largest.

    A rollout that went on under later weights counts with the mean over its tokens, and with its oldest one.
    """
    for group in groups:
        for rollout in (*group.solutions, *group.metas):
            ages = [(step - 1 - version, count) for version, count in rollout.pieces()]
            metrics.mean("rollout/staleness", sum(age * count for age, count in ages) / len(rollout.token_ids))
            metrics.max("rollout/staleness_max", max(age for age, _ in ages))
