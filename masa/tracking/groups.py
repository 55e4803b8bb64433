"""What one step's graded groups say: metrics, readable samples, and predictions beside the truth."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from masa.rewards.grading import function_values
from masa.tracking import keys
from masa.tracking.metrics import StepMetrics
from masa.tracking.samples import Prediction, Sample

if TYPE_CHECKING:
    from masa.controls.plan import PredictedProblem
    from masa.rewards.grading import GradedGroup


def record_groups(
    metrics: StepMetrics,
    groups: Sequence[GradedGroup],
    gated: Sequence[PredictedProblem] = (),
    *,
    by_source: bool = False,
) -> None:
    """Rewards, meta-predictions and rollouts of a step, as metrics named after the paper's symbols.

    Metas of ``gated`` problems have predictions and no reward. ``by_source`` adds the correctness of each source.
    """
    for group in groups:
        metrics.means(keys.CORRECTNESS, [float(verdict.correct) for verdict in group.verdicts])
        metrics.means("reward/solution", group.solution_rewards)
        metrics.mean("rollout/solved_none", float(group.statistics.pass_rate == 0))
        metrics.mean("rollout/solved_all", float(group.statistics.pass_rate == 1))
        for solution in group.solutions:
            metrics.mean(keys.SOLUTION_LENGTH, len(solution.token_ids))
            metrics.mean("rollout/solution_truncated", float(solution.truncated))
        metrics.means("rollout/correct_length", group.statistics.correct_lengths)
        _record_rewards(metrics, group)
    if by_source:
        for group in groups:
            name = keys.source_name(group.problem.source)
            metrics.means(f"{keys.CORRECTNESS}/{name}", [float(verdict.correct) for verdict in group.verdicts])
    _record_functions(metrics, groups)
    predicted: list[GradedGroup | PredictedProblem] = [*groups, *gated]
    for one in predicted:
        _record_predictions(metrics, one)


def _record_rewards(metrics: StepMetrics, group: GradedGroup) -> None:
    for prediction, reward in zip(group.predictions, group.meta_rewards, strict=True):
        metrics.mean(keys.R_META, reward.total)
        metrics.mean(keys.R_LENGTH, reward.length)
        metrics.mean(keys.R_DIFFICULTY, reward.difficulty)
        metrics.mean(keys.R_NOTION, reward.notion)
        if prediction.pass_rate is not None:
            metrics.mean("meta/pass_rate_error", abs(prediction.pass_rate - group.statistics.pass_rate))


def _record_functions(metrics: StepMetrics, groups: Sequence[GradedGroup]) -> None:
    """Mean, standard deviation (of the population) and error count of each reward function, before its weight."""
    for name, values in function_values(groups).items():
        metrics.means(f"reward/function_{name}", values)
        metrics.last(f"reward/function_{name}_std", statistics.pstdev(values) if values else math.nan)
        failed = sum(bool(one.error) for group in groups for one in group.function_rewards[name])
        metrics.last(f"reward/function_{name}_errors", failed)


def _record_predictions(metrics: StepMetrics, predicted: GradedGroup | PredictedProblem) -> None:
    # Predictions that were kept from an earlier step have been counted there.
    predictions = predicted.predictions if predicted.metas else ()
    for meta, prediction in zip(predicted.metas, predictions, strict=True):
        metrics.mean(keys.PARSE_RATE, float(prediction.parsed))
        metrics.mean(keys.META_LENGTH, len(meta.token_ids))
        metrics.mean("rollout/meta_truncated", float(meta.truncated))
        if prediction.pass_rate is not None:
            metrics.mean("meta/predicted_pass_rate", prediction.pass_rate)
        if prediction.length is not None:
            metrics.mean("meta/predicted_length", prediction.length)


def group_samples(step: int, groups: Sequence[GradedGroup], prompt_text: Callable[..., str]) -> list[Sample]:
    """Every rollout of the groups as a readable sample; `choose_samples` picks among them.

    ``prompt_text`` is `RequestBuilder.prompt_text`: of a problem, a path and a hint.
    """
    samples = []
    for group in groups:
        problem = group.problem
        for number, (solution, text, verdict, reward) in enumerate(
            zip(group.solutions, group.solution_texts, group.verdicts, group.solution_rewards, strict=True)
        ):
            rewards: dict[str, float | None] = {"correctness": float(verdict.correct), "solution": reward}
            rewards |= {f"function_{name}": found[number].value for name, found in group.function_rewards.items()}
            prompt = prompt_text(problem, "solution", solution.hint)
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


def group_predictions(
    step: int, groups: Sequence[GradedGroup], gated: Sequence[PredictedProblem] = ()
) -> list[Prediction]:
    """Predicted and actual pass rate and lengths of each problem that had metas; gated ones have nothing actual."""
    solved = [
        Prediction(
            step=step,
            problem=group.problem.id,
            pass_rate=group.statistics.pass_rate,
            correct_lengths=tuple(group.statistics.correct_lengths),
            predicted_pass_rate=tuple(prediction.pass_rate for prediction in group.predictions),
            predicted_length=tuple(prediction.length for prediction in group.predictions),
            wrong_lengths=tuple(
                len(solution.token_ids)
                for solution, verdict in zip(group.solutions, group.verdicts, strict=True)
                if not verdict.correct
            ),
            r_meta=_mean([reward.total for reward in group.meta_rewards]),
        )
        for group in groups
        if group.metas
    ]
    return solved + [
        Prediction(
            step=step,
            problem=one.problem.id,
            pass_rate=None,
            correct_lengths=(),
            predicted_pass_rate=tuple(prediction.pass_rate for prediction in one.predictions),
            predicted_length=tuple(prediction.length for prediction in one.predictions),
        )
        for one in gated
        if one.metas
    ]


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
