"""Behaviour cloning of experts (docs/controls.md), through the policy's own optimiser."""

from __future__ import annotations

from masa.controls.controls import Controls
from masa.policy.batching.collate import TokenRow
from masa.policy.update.updater import PolicyUpdater
from masa.tracking.metrics import StepMetrics, timed


def clone_experts(step: int, controls: Controls, updater: PolicyUpdater) -> StepMetrics:
    """The cloning steps that are due after step ``step``, and their metrics; none where nothing is due."""
    metrics = StepMetrics()
    for experts in controls.experts_to_clone(step):
        section = controls.expert_section
        rows = [TokenRow(one.prompt_ids, one.token_ids) for one in experts]
        with timed(metrics, "time/clone"):
            learning_rate = updater.learning_rate * section.learning_rate_factor
            outcome = updater.clone(rows, weight=section.weight, learning_rate=learning_rate)
        metrics.sum("control/expert_cloning_steps", 1)
        metrics.mean("control/expert_age", step - sum(one.step for one in experts) / len(experts))
        for key, value in outcome.items():
            (metrics.sum if key in _SUMS else metrics.mean)(key, value)
    return metrics


_SUMS = ("control/expert_rows", "control/expert_tokens", "control/expert_skipped_updates")
