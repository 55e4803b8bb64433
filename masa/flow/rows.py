"""From graded groups to training rows: advantages within each group, one batch for both paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from masa.config.algorithm import AlgorithmSection
from masa.policy.objective.advantages import group_advantages
from masa.policy.objective.parameters import AdvantageParameters
from masa.policy.update.updater import TrainingRow
from masa.rewards.grading import GradedGroup
from masa.rollout.engine import Rollout, RolloutPath

if TYPE_CHECKING:
    from masa.controls.gated_metas import RewardedMetas


def training_rows(
    groups: Sequence[GradedGroup],
    parameters: AdvantageParameters,
    section: AlgorithmSection,
    *,
    mask_cut: bool = False,
    gated: Sequence[RewardedMetas] = (),
) -> list[list[TrainingRow]]:
    """The rows of each of ``algorithm.updates_per_step`` updates; all rows of a problem belong to one update.

    The G solutions of a problem are one advantage group and its M metas another (docs/method.md); hinted and plain
    solutions share a group, each with the prompt it was sampled from. ``mask_cut`` leaves cut solutions out of the
    loss; as incorrect ones they still count in their group's mean. ``gated`` are metas of problems without solutions.
    """
    solutions = _path_rows(
        [group.solutions for group in groups],
        [group.solution_rewards for group in groups],
        parameters,
        section,
        mask_cut,
        "solution",
    )
    metas = _path_rows(
        [*(group.metas for group in groups), *(one.metas for one in gated)],
        [
            *([reward.total for reward in group.meta_rewards] for group in groups),
            *([reward.total for reward in one.rewards] for one in gated),
        ],
        parameters,
        section,
        mask_cut,
        "meta",
    )
    # Behind the last solved problem come the gated ones.
    without: list[list[TrainingRow]] = [[] for _ in gated]
    by_problem = [one + other for one, other in zip([*solutions, *without], metas, strict=True)]
    updates = max(1, min(section.updates_per_step, len(by_problem)))
    return [[row for problem in by_problem[part::updates] for row in problem] for part in range(updates)]


def _path_rows(
    rollouts: Sequence[Sequence[Rollout]],
    rewards: Sequence[Sequence[float]],
    parameters: AdvantageParameters,
    section: AlgorithmSection,
    mask_cut: bool,
    path: RolloutPath,
) -> list[list[TrainingRow]]:
    """Rows of one path, a list for each problem."""
    values = iter(_advantages(rewards, parameters, path))
    return [
        [
            TrainingRow(
                prompt_ids=rollout.prompt_ids,
                token_ids=rollout.token_ids,
                rollout_logprobs=rollout.logprobs,
                advantage=next(values),
                masked=(section.overlong.mask_truncated and rollout.truncated) or (mask_cut and rollout.cut),
            )
            for rollout in group
        ]
        for group in rollouts
    ]


def _advantages(rewards: Sequence[Sequence[float]], parameters: AdvantageParameters, path: RolloutPath) -> list[float]:
    """Of all groups of a path, one behind another."""
    if parameters.own is not None:
        return [value for group in rewards if group for value in parameters.own(group, path)]
    advantages = group_advantages(
        [reward for group in rewards for reward in group],
        [number for number, group in enumerate(rewards) for _ in group],
        scale=parameters.scale,
        leave_one_out=parameters.leave_one_out,
        eps=parameters.eps,
    )
    found: list[float] = advantages.tolist()
    return found
