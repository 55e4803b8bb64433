"""Graded groups with chosen rewards."""

from collections.abc import Sequence

from masa.problems import Problem
from masa.rewards.alignment import MetaReward, SolutionGroup
from masa.rewards.grading import GradedGroup
from masa.rollout.engine import FinishReason, Rollout, RolloutPath

PROBLEMS = [Problem(f"p{number}", f"What is {number}?", str(number)) for number in range(40)]
METAS = (MetaReward(0.5, 0.5, 0.5, 0.5), MetaReward(0.0, 0.0, 0.0, 0.0))


def graded_group(
    number: int,
    rewards: Sequence[float],
    metas: Sequence[MetaReward] = METAS,
    *,
    ends: Sequence[FinishReason] = ("stop",),
) -> GradedGroup:
    """The group of ``PROBLEMS[number]``; the rollouts of both paths end as ``ends`` says, over and over."""
    problem = PROBLEMS[number]

    def rollout(path: RolloutPath, index: int) -> Rollout:
        end = ends[index % len(ends)]
        return Rollout(problem.id, path, index, (1, 2), (3, 4 + index), (-0.5, -1.0), end, 7, 0.1)

    return GradedGroup(
        problem=problem,
        solutions=tuple(rollout("solution", index) for index in range(len(rewards))),
        solution_texts=("text",) * len(rewards),
        verdicts=(),
        solution_rewards=tuple(rewards),
        statistics=SolutionGroup(pass_rate=0.5),
        metas=tuple(rollout("meta", index) for index in range(len(metas))),
        meta_rewards=tuple(metas),
    )
