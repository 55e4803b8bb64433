"""The rows of samples.jsonl and predictions.jsonl, and which samples of a step are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from masa.rollout.engine import FinishReason, RolloutPath


@dataclass(frozen=True)
class Sample:
    """One rollout to be read by a person: texts, rewards by name, and the answer it was judged against."""

    step: int
    problem: str
    path: RolloutPath
    prompt: str
    response: str
    reward: Mapping[str, float]
    finish_reason: FinishReason
    answer: Any

    @property
    def score(self) -> float:
        """Mean of the rewards: what samples are ranked by."""
        return sum(self.reward.values()) / max(len(self.reward), 1)

    def row(self) -> dict[str, Any]:
        return {**vars(self), "reward": dict(self.reward)}


@dataclass(frozen=True)
class Prediction:
    """What the metas of one problem predicted, beside what its solutions showed.

    ``pass_rate`` is in [0, 1] and None where no solution was generated; ``correct_lengths`` are the lengths, in
    tokens, of the correct solutions. The two predicted lists have one entry per meta rollout, None where it could not
    be parsed.
    """

    step: int
    problem: str
    pass_rate: float | None
    correct_lengths: tuple[int, ...]
    predicted_pass_rate: tuple[float | None, ...]
    predicted_length: tuple[int | None, ...]

    def __post_init__(self) -> None:
        if len(self.predicted_pass_rate) != len(self.predicted_length):
            raise ValueError(
                f"problem {self.problem!r}, step {self.step}: {len(self.predicted_pass_rate)} predicted pass rates "
                f"but {len(self.predicted_length)} predicted lengths"
            )

    def row(self) -> dict[str, Any]:
        return asdict(self)


def choose_samples(samples: Iterable[Sample], count: int) -> list[Sample]:
    """At most ``count`` of a step's rollouts: paths in turn, best and worst in turn, fresh problems first.

    No randomness: the choice depends on the samples and their order alone. The chosen keep the order of ``samples``.
    """
    pool = list(samples)
    ranked = {
        path: sorted((i for i, sample in enumerate(pool) if sample.path == path), key=lambda i: -pool[i].score)
        for path in ("solution", "meta")
    }
    chosen: list[int] = []
    shown: dict[str, set[str]] = {path: set() for path in ranked}
    best = True
    while len(chosen) < count and any(ranked.values()):
        for path, order in ranked.items():
            if not order or len(chosen) == count:
                continue
            fresh = [i for i in order if pool[i].problem not in shown[path]] or order
            pick = fresh[0] if best else fresh[-1]
            order.remove(pick)
            shown[path].add(pool[pick].problem)
            chosen.append(pick)
        best = not best
    return [pool[i] for i in sorted(chosen)]
