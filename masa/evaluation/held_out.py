"""Held-out accuracy and meta-awareness of the policy, measured during training."""

from __future__ import annotations

from collections.abc import Sequence

from masa.config import Config
from masa.problems import Problem
from masa.rewards.grading import GradedGroup, Grader
from masa.rollout.engine import RolloutEngine, Sampling
from masa.rollout.requests import RequestBuilder
from masa.tracking import keys
from masa.tracking.metrics import StepMetrics


def evaluate_held_out(
    config: Config, problems: Sequence[Problem], builder: RequestBuilder, engine: RolloutEngine, grader: Grader
) -> list[GradedGroup]:
    """Graded rollouts of ``problems``. The seeds do not depend on the step: evaluations differ by the policy alone."""
    section = config.evaluation
    requests = builder.requests(
        problems,
        step="evaluation",
        num_solutions=section.num_samples,
        num_metas=section.num_metas if config.algorithm.meta else 0,
        sampling=Sampling(temperature=section.temperature),
    )
    return grader.grade(problems, engine.generate(requests))


def record_held_out(metrics: StepMetrics, groups: Sequence[GradedGroup]) -> None:
    """pass@1 as the mean over problems of their pass rates, lengths, and the self-alignment of the metas."""
    for group in groups:
        metrics.mean(keys.HELD_OUT_ACCURACY, group.statistics.pass_rate)
        metrics.means("eval/solution_length", [len(one.token_ids) for one in group.solutions])
        metrics.means("eval/truncated", [float(one.truncated) for one in group.solutions])
        for prediction, reward in zip(group.predictions, group.meta_rewards, strict=True):
            metrics.mean("eval/r_length", reward.length)
            metrics.mean("eval/r_difficulty", reward.difficulty)
            metrics.mean("eval/r_notion", reward.notion)
            if prediction.pass_rate is not None:
                metrics.mean("eval/pass_rate_error", abs(prediction.pass_rate - group.statistics.pass_rate))
