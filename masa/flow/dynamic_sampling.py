"""DAPO's dynamic sampling: a step trains on a full batch of problems whose solutions differ in their rewards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from math import floor
from typing import Any

from masa.config.algorithm import DynamicSamplingSection
from masa.problems import Problem
from masa.rewards.alignment import MetaReward, SolutionGroup
from masa.rewards.grading import GradedGroup, is_informative
from masa.rollout.engine import Rollout
from masa.rollout.waiting import Waiting, rollout_of_json


@dataclass(frozen=True)
class FilledBatch:
    """``training`` is what the update learns from; ``metrics`` of how the batch was filled."""

    training: list[GradedGroup]
    metrics: Mapping[str, float]


class DynamicSampling:
    """Says how often a slot may take other problems, and carries what is too much over to the next step.

    A group whose solutions all have the same reward has no advantage: another problem takes its place (Yu et al. 2025,
    section 3.2), in its own slot and as soon as that is known (`masa.flow.flow`). The number of further problems is
    bounded; a slot that has had them all stays without.
    """

    def __init__(self, section: DynamicSamplingSection, num_problems: int) -> None:
        self._section = section
        self._wanted = num_problems
        self._carried: list[GradedGroup] = []
        self.ahead: list[int] = []
        """Of each step that has been sampled and not filled, the groups that teach something, the oldest step first."""

    def later_rounds(self, slots: int) -> list[list[int]]:
        """How many problems each slot takes in each round after its first, as long as none of them teaches anything.

        Groups that are carried over take the places of as many slots, the first ones, which take nothing more; how many
        there will be, the steps say that are sampled `ahead`.
        ``oversample`` problems a slot and round on average: those of slot s are the whole numbers that s and s + 1
        times ``oversample`` have between them.
        """
        share, rounds = self._section.oversample, self._section.max_rounds
        sizes = [floor((slot + 1) * share) - floor(slot * share) for slot in range(slots)]
        carried = len(self._carried)
        for informative in self.ahead:
            carried = max(0, carried + informative - self._wanted)
        return [[] if slot < carried else [size] * rounds for slot, size in enumerate(sizes)]

    def fill(self, sampled: Sequence[GradedGroup], rounds: int) -> FilledBatch:
        """A batch from what was carried over and from all groups of a step, which took so many ``rounds`` of draws."""
        self.ahead = self.ahead[1:]
        carried = len(self._carried)
        informative = [*self._carried, *filter(is_informative, sampled)]
        replaced = [group for group in sampled if not is_informative(group)]
        self._carried = [_bare(group) for group in informative[self._wanted :]]
        training = informative[: self._wanted]
        metrics = {
            "rollout/dynamic_rounds": float(rounds - 1),
            "rollout/replaced_share": len(replaced) / len(sampled),
            "rollout/batch_filled": len(training) / self._wanted,
            "rollout/carried_in": float(carried),
            "rollout/carried_out": float(len(self._carried)),
        }
        if self._section.keep_metas:
            training = training + [
                replace(group, solutions=(), solution_rewards=()) for group in replaced if group.metas
            ]
        return FilledBatch(training, metrics)

    def state(self) -> Waiting:
        """What is carried over, for a checkpoint; each group's solutions come before its metas."""
        layout = [
            {
                "problem": group.problem.id,
                "solutions": len(group.solutions),
                "solution_rewards": list(group.solution_rewards),
                "metas": len(group.metas),
                "meta_rewards": [asdict(one) for one in group.meta_rewards],
            }
            for group in self._carried
        ]
        return Waiting(layout, [one for group in self._carried for one in (*group.solutions, *group.metas)])

    def restore(self, state: Waiting, problems: Iterable[Problem]) -> None:
        """Carry over what ``state`` carried."""
        by_id = {problem.id: problem for problem in problems}
        rollouts = iter(state.rollouts)
        self._carried = [
            _bare_group(
                by_id[one["problem"]],
                list(islice(rollouts, one["solutions"])),
                one["solution_rewards"],
                list(islice(rollouts, one["metas"])),
                [MetaReward(**values) for values in one["meta_rewards"]],
            )
            for one in state.layout
        ]


def carried_of_json(state: Sequence[Mapping[str, Any]]) -> Waiting:
    """What checkpoints of earlier versions hold in JSON: the rollouts themselves in the place of their numbers."""
    layout = [{**one, "solutions": len(one["solutions"]), "metas": len(one["metas"])} for one in state]
    rollouts = [values for one in state for values in (*one["solutions"], *one["metas"])]
    return Waiting(layout, [rollout_of_json(values) for values in rollouts])


def _bare(group: GradedGroup) -> GradedGroup:
    """What an update needs of a group, and no more: everything else was recorded in the step that sampled it."""
    return _bare_group(group.problem, group.solutions, group.solution_rewards, group.metas, group.meta_rewards)


def _bare_group(
    problem: Problem,
    solutions: Sequence[Rollout],
    solution_rewards: Sequence[float],
    metas: Sequence[Rollout],
    meta_rewards: Sequence[MetaReward],
) -> GradedGroup:
    return GradedGroup(
        problem=problem,
        solutions=tuple(solutions),
        solution_texts=(),
        verdicts=(),
        solution_rewards=tuple(solution_rewards),
        statistics=SolutionGroup(pass_rate=0.0),
        metas=tuple(metas),
        meta_rewards=tuple(meta_rewards),
    )
