"""Token budgets and hints of the user's own, in the place of those of early cutoff and notion hinting."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

from masa.config.controls import OwnControlsSection
from masa.config.section import ImportedSource
from masa.controls.own.loading import (
    TRIAL_PREDICTIONS,
    TRIAL_PROBLEM,
    give_state,
    made,
    require_whole_state,
    state_of,
    tried,
)
from masa.errors import described
from masa.problems import Problem
from masa.rewards.grading import GradedGroup
from masa.rewards.meta_prediction import MetaPrediction


class OwnPart:
    """A function ``(problem, predictions)`` of the user's own, or an object that is called like one.

    An object may have ``observe(step, groups)``, which is told of each step's graded groups, and ``state_dict()`` with
    ``load_state_dict(state)``, which checkpoints keep.
    """

    def __init__(self, path: str, part: Callable[..., Any]) -> None:
        self.path = path
        self.part = part

    def __call__(self, problem: Problem, predictions: Sequence[MetaPrediction]) -> Any:
        return self.part(problem, tuple(predictions))

    def observe(self, step: int, groups: Sequence[GradedGroup]) -> None:
        """Let it learn from a step."""
        observe = getattr(self.part, "observe", None)
        if callable(observe):
            observe(step, list(groups))

    def at_this_moment(self) -> Self:
        """What says the same as this one, whatever this one learns later on; itself where it does not learn."""
        if not callable(getattr(self.part, "observe", None)):
            return self
        return type(self)(self.path, copy.deepcopy(self.part))

    def state_dict(self) -> dict[str, Any]:
        return state_of(self.part)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        give_state(self.part, state)


class OwnBudget(OwnPart):
    """Says how many tokens the solutions of a problem may have."""

    def __call__(self, problem: Problem, predictions: Sequence[MetaPrediction]) -> int | None:
        """The budget in tokens; None: the response limit.

        Raises:
            ValueError: the function returned something else.
        """
        found = super().__call__(problem, predictions)
        if found is not None and (not isinstance(found, int) or isinstance(found, bool)):
            raise ValueError(
                f"{self.path} returned {described(found)} for problem {problem.id!r}; allowed: a whole number of "
                "tokens, or None for the response limit"
            )
        return found


class OwnHint(OwnPart):
    """Says what hint the prompts of a problem's solutions hold."""

    def __call__(self, problem: Problem, predictions: Sequence[MetaPrediction]) -> str | None:
        """The hint; None: there is none.

        Raises:
            ValueError: the function returned something else.
        """
        found = super().__call__(problem, predictions)
        if found is not None and not isinstance(found, str):
            raise ValueError(
                f"{self.path} returned {described(found)} for problem {problem.id!r}; allowed: a text, or None for "
                "no hint"
            )
        return found


_Part = TypeVar("_Part", bound=OwnPart)


def own_budget(section: OwnControlsSection) -> OwnBudget | None:
    """The function of ``controls.own.budget``, tried on a problem.

    Raises:
        ConfigError: it cannot be imported or made, or does not work.
    """
    return _loaded("controls.own.budget", section.budget, OwnBudget)


def own_hint(section: OwnControlsSection) -> OwnHint | None:
    """The function of ``controls.own.hint``, likewise."""
    return _loaded("controls.own.hint", section.hint, OwnHint)


def _loaded(key: str, source: ImportedSource | None, kind: type[_Part]) -> _Part | None:
    if source is None:
        return None
    path = source.path
    own, trial, other = (kind(path, made(key, path, source.arguments)) for _ in range(3))
    require_whole_state(key, path, trial.part)

    def attempt() -> None:
        for predictions in (TRIAL_PREDICTIONS, ()):
            trial(TRIAL_PROBLEM, predictions)
        other.load_state_dict(trial.state_dict())

    tried(key, path, attempt)
    return own
