"""The rows of samples.jsonl and predictions.jsonl, and which samples of a step are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from masa.rollout.engine import FinishReason, RolloutPath


@dataclass(frozen=True)
class Sample:
    """One rollout to be read by a person: texts, rewards by name, and the answer it was judged against."""

    step: int
    problem: str
    path: RolloutPath
    prompt: str
    response: str
    reward: Mapping[str, float | None]
    finish_reason: FinishReason
    answer: Any

    @property
    def score(self) -> float:
        """Mean of the rewards that there are: what samples are ranked by."""
        values = [value for value in self.reward.values() if value is not None]
        return sum(values) / max(len(values), 1)

    def row(self) -> dict[str, Any]:
        return {**vars(self), "reward": dict(self.reward)}


@dataclass(frozen=True)
class Prediction:
    """What the metas of one problem predicted, beside what its solutions showed.

    ``pass_rate`` is in [0, 1] and None where no solution was generated; ``correct_lengths`` and ``wrong_lengths`` are
    the lengths, in tokens, of the correct solutions and of the others. The two predicted lists have one entry per meta
    rollout, None where it could not be parsed. ``r_meta`` is the mean over the metas, None where they had no reward.
    """

    step: int
    problem: str
    pass_rate: float | None
    correct_lengths: tuple[int, ...]
    predicted_pass_rate: tuple[float | None, ...]
    predicted_length: tuple[int | None, ...]
    wrong_lengths: tuple[int, ...] = ()
    r_meta: float | None = None

    def __post_init__(self) -> None:
        if len(self.predicted_pass_rate) != len(self.predicted_length):
            raise ValueError(
                f"problem {self.problem!r}, step {self.step}: {len(self.predicted_pass_rate)} predicted pass rates "
                f"but {len(self.predicted_length)} predicted lengths"
            )

    def row(self) -> dict[str, Any]:
        return asdict(self)


def choose_samples(samples: Iterable[Sample], problems: int) -> list[Sample]:
    """One solution and one meta of each of the step's first ``problems`` problems.

    The first problem shows its best solution and best meta by ``score``, the second its worst, and so on in turn; of
    equal ones the first. There is no randomness: problems already come in random order.
    """
    groups: dict[str, dict[RolloutPath, list[Sample]]] = {}
    for sample in samples:
        groups.setdefault(sample.problem, {}).setdefault(sample.path, []).append(sample)
    paths: tuple[RolloutPath, ...] = ("solution", "meta")
    chosen = []
    for number, group in enumerate(list(groups.values())[:problems]):
        pick = max if number % 2 == 0 else min
        chosen += [pick(group[path], key=lambda sample: sample.score) for path in paths if path in group]
    return chosen
