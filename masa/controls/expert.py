"""The expert buffer D_expert: each problem's best meta-prediction, corrected by what its solutions showed."""

from __future__ import annotations

import random
import statistics
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from masa.config.controls import ExpertSection
from masa.controls.splice import Measured, Splicer
from masa.problems.seeds import derive_seed
from masa.tokens.elsewhere import token_ids

if TYPE_CHECKING:
    from masa.rewards.grading import GradedGroup


@dataclass(frozen=True)
class Expert:
    """One trajectory to clone: the meta prompt and the corrected response, as token ids."""

    problem_id: str
    step: int
    score: float
    prompt_ids: Sequence[int]
    token_ids: Sequence[int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt_ids", token_ids(self.prompt_ids))
        object.__setattr__(self, "token_ids", token_ids(self.token_ids))


@dataclass(frozen=True)
class Collected:
    """What one step gave: experts added, and candidates whose numbers could not be replaced."""

    scores: tuple[float, ...]
    not_spliced: int


def _same(values: list[Any]) -> list[Any]:
    return values


class ExpertBuffer:
    """A bounded buffer with one expert a problem, oldest first; a newer expert of a problem replaces the older.

    Every process has the same one; ``gather`` gives each the objects of all.
    """

    def __init__(
        self,
        section: ExpertSection,
        splicer: Splicer,
        pass_rate_total: int,
        run_seed: int,
        gather: Callable[[list[Any]], list[Any]] = _same,
    ) -> None:
        self.section = section
        self._splicer = splicer
        self._total = pass_rate_total
        self._seed = run_seed
        self._gather = gather
        self._experts: OrderedDict[str, Expert] = OrderedDict()
        self._new = 0

    def __len__(self) -> int:
        return len(self._experts)

    @property
    def experts(self) -> list[Expert]:
        """All experts, the oldest first."""
        return list(self._experts.values())

    def collect(self, step: int, groups: Sequence[GradedGroup]) -> Collected:
        """Add the best meta-prediction of each group, where one passes the floor.

        Groups of several processes: each makes the experts of its own, and all add them in the order of ``groups``.
        """
        own = {
            group.problem.id: self._expert(step, group, candidates[0])
            for group in groups
            if group.process is None and (candidates := self._candidates(group))
        }
        made: dict[str, Expert | None] = {id: expert for one in self._gather([own]) for id, expert in one.items()}
        found = [made[group.problem.id] for group in groups if group.problem.id in made]
        experts = [expert for expert in found if expert is not None]
        for expert in experts:
            self._add(expert)
        return Collected(tuple(expert.score for expert in experts), len(found) - len(experts))

    def batches(self, step: int) -> list[list[Expert]]:
        """The batches to clone after step ``step``; empty where cloning is not due."""
        section = self.section
        if section.every:
            due = step % section.every == 0 and len(self) >= section.batch_size
        else:
            due = self._new >= section.batch_size and len(self) >= section.batch_size
        if not due:
            return []
        self._new = 0
        return [
            random.Random(derive_seed(self._seed, step, "expert batch", number)).sample(
                self.experts, section.batch_size
            )
            for number in range(section.cloning_steps)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "new": self._new,
            "experts": [
                [one.problem_id, one.step, one.score, list(one.prompt_ids), list(one.token_ids)]
                for one in self._experts.values()
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._new = int(state["new"])
        self._experts = OrderedDict(
            (id, Expert(id, step, score, prompt, ids)) for id, step, score, prompt, ids in state["experts"]
        )

    def _expert(self, step: int, group: GradedGroup, candidate: tuple[float, int]) -> Expert | None:
        """None where the numbers in it cannot be replaced."""
        score, index = candidate
        meta = group.metas[index]
        ids = self._splicer.splice(meta.token_ids, measured(group, self._total))
        return None if ids is None else Expert(group.problem.id, step, score, meta.prompt_ids, ids)

    def _candidates(self, group: GradedGroup) -> list[tuple[float, int]]:
        """Score and index of each meta-prediction that may be an expert, the best first; ties: r_meta, then index."""
        scored = []
        for index, (meta, prediction, reward) in enumerate(
            zip(group.metas, group.predictions, group.meta_rewards, strict=True)
        ):
            score = reward.notion if self.section.rank_by == "notion" else reward.total
            if prediction.complete and not meta.truncated and score >= self.section.floor:
                scored.append(((-score, -reward.total, index), (score, index)))
        return [entry for _, entry in sorted(scored)]

    def _add(self, expert: Expert) -> None:
        self._experts.pop(expert.problem_id, None)
        self._experts[expert.problem_id] = expert
        self._new += 1
        while len(self._experts) > self.section.capacity:
            self._experts.popitem(last=False)


def measured(group: GradedGroup, pass_rate_total: int) -> Measured:
    """d_sol as a count out of ``pass_rate_total``, and the median length of the correct solutions, in tokens.

    None and all are said only where they are true: an expert that calls a hard problem unsolvable would teach the gate
    to withhold just the problems that teach most.
    """
    lengths = group.statistics.correct_lengths
    pass_rate = group.statistics.pass_rate
    count = round(pass_rate * pass_rate_total)
    if 0 < pass_rate < 1 and pass_rate_total > 1:
        count = min(max(count, 1), pass_rate_total - 1)
    return Measured(
        pass_rate=count,
        length=round(statistics.median(lengths)) if lengths else None,
    )
