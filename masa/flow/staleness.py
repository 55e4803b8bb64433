"""How old the weights were that made what a step trains on."""

from __future__ import annotations

from collections.abc import Iterable

from masa.rewards.grading import GradedGroup
from masa.tracking.metrics import StepMetrics


def record_staleness(metrics: StepMetrics, groups: Iterable[GradedGroup], step: int) -> None:
    """How many updates older than the policy the weights were that made what a step trains on: mean and largest."""
    for group in groups:
        for rollout in (*group.solutions, *group.metas):
            metrics.mean("rollout/staleness", step - 1 - rollout.weight_version)
            metrics.max("rollout/staleness_max", step - 1 - rollout.weight_version)
