"""Predictions that are used again: no metas for a problem whose last measured prediction is young and was right."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from masa.rewards.meta_prediction import MetaPrediction


@dataclass(frozen=True)
class Measured:
    """The M predictions of one problem from step ``step``, and whether their judgement was right when last measured."""

    step: int
    right: bool
    predictions: tuple[MetaPrediction, ...]


class KeptPredictions:
    """The last measured predictions of each problem, for ``max_age`` steps.

    A prediction is measured where its problem is solved; it was right where the problem was flagged and its solutions
    had equal rewards, or was not flagged and they had not. Kept predictions that are measured again keep their own age,
    so every problem has new metas after ``max_age`` steps at the latest.

    Args:
        max_age: steps after which a prediction is forgotten; at least 1.
        lengths, notions: whether these are kept beside the pass rates.
    """

    def __init__(self, max_age: int, *, lengths: bool, notions: bool) -> None:
        self._max_age = max_age
        self._lengths = lengths
        self._notions = notions
        self._kept: dict[str, Measured] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __call__(self, step: int, problem: str) -> tuple[MetaPrediction, ...]:
        """What to use in step ``step`` instead of new metas; nothing where new ones are needed."""
        kept = self._kept.get(problem)
        return kept.predictions if kept is not None and kept.right and step - kept.step < self._max_age else ()

    def observe(self, step: int, measured: Iterable[tuple[str, bool, tuple[MetaPrediction, ...]]]) -> None:
        """Problem, whether its judgement was right, and its predictions of this step, of each problem that was solved.

        Without predictions of this step the judgement was by what is kept, if anything is.
        """
        for problem, right, predictions in measured:
            before = self._kept.get(problem)
            if predictions:
                self._kept[problem] = Measured(step, right, tuple(self._needed(one) for one in predictions))
            elif before is not None:
                self._kept[problem] = replace(before, right=right)
        # What the next step would not use any more.
        self._kept = {id: one for id, one in self._kept.items() if step + 1 - one.step < self._max_age}

    def at_this_moment(self) -> KeptPredictions:
        """What is kept now; what is observed later does not change it."""
        frozen = copy.copy(self)
        frozen._kept = dict(self._kept)
        return frozen

    def state_dict(self) -> dict[str, Any]:
        return {
            id: {
                "step": one.step,
                "right": one.right,
                "predictions": [
                    [prediction.pass_rate, prediction.length, _listed(prediction.notions)]
                    for prediction in one.predictions
                ],
            }
            for id, one in self._kept.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._kept = {
            id: Measured(
                int(one["step"]),
                bool(one["right"]),
                tuple(
                    MetaPrediction(None if notions is None else tuple(notions), pass_rate, length)
                    for pass_rate, length, notions in one["predictions"]
                ),
            )
            for id, one in state.items()
        }

    def _needed(self, prediction: MetaPrediction) -> MetaPrediction:
        return MetaPrediction(
            prediction.notions if self._notions else None,
            prediction.pass_rate,
            prediction.length if self._lengths else None,
        )


def _listed(notions: tuple[str, ...] | None) -> list[str] | None:
    return None if notions is None else list(notions)
