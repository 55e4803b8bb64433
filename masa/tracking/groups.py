"""What one step's graded groups say: metrics, readable samples, and predictions beside the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from masa.tracking import keys
from masa.tracking.metrics import StepMetrics
from masa.tracking.samples import Prediction, Sample

if TYPE_CHECKING:
    from masa.problems import Problem
    from masa.rewards.grading import GradedGroup
    from masa.rollout.engine import RolloutPath


def record_groups(metrics: StepMetrics, groups: Sequence[GradedGroup]) -> None:
    """Rewards, meta-predictions and rollouts of a step, as metrics named after the paper's symbols."""
    for group in groups:
        metrics.means(keys.CORRECTNESS, [float(verdict.correct) for verdict in group.verdicts])
        metrics.means("reward/solution", group.solution_rewards)
        metrics.mean("rollout/solved_none", float(group.statistics.pass_rate == 0))
        metrics.mean("rollout/solved_all", float(group.statistics.pass_rate == 1))
        for solution in group.solutions:
            metrics.mean(keys.SOLUTION_LENGTH, len(solution.token_ids))
            metrics.mean("rollout/solution_truncated", float(solution.truncated))
        metrics.means("rollout/correct_length", group.statistics.correct_lengths)
        _record_metas(metrics, group)
    metrics.sum("cost/solution_tokens", sum(len(one.token_ids) for group in groups for one in group.solutions))
    metrics.sum("cost/meta_tokens", sum(len(one.token_ids) for group in groups for one in group.metas))
    metrics.sum(
        keys.TOKENS_GENERATED,
        sum(len(one.token_ids) for group in groups for one in (*group.solutions, *group.metas)),
    )


def _record_metas(metrics: StepMetrics, group: GradedGroup) -> None:
    for meta, prediction, reward in zip(group.metas, group.predictions, group.meta_rewards, strict=True):
        metrics.mean(keys.R_META, reward.total)
        metrics.mean(keys.R_LENGTH, reward.length)
        metrics.mean(keys.R_DIFFICULTY, reward.difficulty)
        metrics.mean(keys.R_NOTION, reward.notion)
        metrics.mean(keys.PARSE_RATE, float(prediction.parsed))
        metrics.mean(keys.META_LENGTH, len(meta.token_ids))
        metrics.mean("rollout/meta_truncated", float(meta.truncated))
        if prediction.pass_rate is not None:
            metrics.mean("meta/pass_rate_error", abs(prediction.pass_rate - group.statistics.pass_rate))
            metrics.mean("meta/predicted_pass_rate", prediction.pass_rate)
        if prediction.length is not None:
            metrics.mean("meta/predicted_length", prediction.length)


def group_samples(
    step: int, groups: Sequence[GradedGroup], prompt_text: Callable[[Problem, RolloutPath], str]
) -> list[Sample]:
    """Every rollout of the groups as a readable sample; `choose_samples` picks among them."""
    samples = []
    for group in groups:
        problem = group.problem
        for solution, text, verdict, reward in zip(
            group.solutions, group.solution_texts, group.verdicts, group.solution_rewards, strict=True
        ):
            rewards = {"correctness": float(verdict.correct), "solution": reward}
            prompt = prompt_text(problem, "solution")
            samples.append(
                Sample(step, problem.id, "solution", prompt, text, rewards, solution.finish_reason, problem.answer)
            )
        for meta, text, scored in zip(group.metas, group.meta_texts, group.meta_rewards, strict=True):
            rewards = {
                "r_meta": scored.total,
                "r_length": scored.length,
                "r_difficulty": scored.difficulty,
                "r_notion": scored.notion,
            }
            prompt = prompt_text(problem, "meta")
            samples.append(Sample(step, problem.id, "meta", prompt, text, rewards, meta.finish_reason, problem.answer))
    return samples


def group_predictions(step: int, groups: Sequence[GradedGroup]) -> list[Prediction]:
    """Predicted and actual pass rate and lengths of each problem that had metas."""
    return [
        Prediction(
            step=step,
            problem=group.problem.id,
            pass_rate=group.statistics.pass_rate,
            correct_lengths=tuple(group.statistics.correct_lengths),
            predicted_pass_rate=tuple(prediction.pass_rate for prediction in group.predictions),
            predicted_length=tuple(prediction.length for prediction in group.predictions),
        )
        for group in groups
        if group.metas
    ]
