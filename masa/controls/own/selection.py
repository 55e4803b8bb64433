"""A selection method of the user's own: what it must be, and what it may return (docs/custom.md)."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from masa.config import Config, ConfigError
from masa.config.selection import require_practicable
from masa.controls.gating import Judgement, Outlook
from masa.controls.own.loading import (
    TRIAL_PREDICTIONS,
    TRIAL_PROBLEM,
    give_state,
    made,
    require_whole_state,
    state_of,
    tried,
)
from masa.controls.plan import PredictedProblem
from masa.controls.selection.selector import Evidence, Need, Outcome
from masa.errors import described

KEY = "controls.selection.method"
_OUTLOOKS = get_args(Outlook)
_NEEDS = get_args(Need)
# What is there of a candidate before anything is sampled.
_RANKED_BY = ("nothing", "prompts")
_METRIC = re.compile(r"[\w@.+=-]+")


class OwnSelector:
    """A `Selector` over an object of the user's class, which checks whatever the object returns.

    ``needs`` and ``ranks`` are the object's, ``nothing`` and False where it has none. ``observe`` and the two methods
    of state are optional.
    """

    def __init__(self, path: str, part: Any) -> None:
        self.path = path
        self.needs: Need = getattr(part, "needs", "nothing")
        self.ranks: bool = getattr(part, "ranks", False)
        self._part = part

    def judge(self, step: int, candidates: Sequence[PredictedProblem], evidence: Evidence) -> dict[str, Judgement]:
        """The object's judgement of each candidate.

        Raises:
            ValueError: it returned something else.
        """
        found = self._part.judge(step, list(candidates), evidence)
        asked = [one.problem.id for one in candidates]
        if not isinstance(found, Mapping) or set(found) != set(asked):
            what = f"judgements of {sorted(map(str, found))}" if isinstance(found, Mapping) else described(found)
            raise ValueError(f"{self.path}.judge returned {what}, a mapping with one for each of {asked} is needed")
        return {id: self._judgement(found[id]) for id in asked}

    def observe(self, step: int, outcomes: Sequence[Outcome], evidence: Evidence) -> dict[str, float]:
        """Let the object learn from a step; its metrics, as ``control/selection_NAME``.

        Raises:
            ValueError: it returned something else than numbers by name, or nothing.
        """
        if not callable(getattr(self._part, "observe", None)):
            return {}
        found = self._part.observe(step, list(outcomes), evidence)
        if found is None:
            return {}
        if not isinstance(found, Mapping):
            raise ValueError(f"{self.path}.observe returned {described(found)}, a dict of metrics or None is needed")
        for name, value in found.items():
            if not isinstance(name, str) or not _METRIC.fullmatch(name) or not isinstance(value, (int, float)):
                raise ValueError(
                    f"{self.path}.observe returned {name!r}: {described(value)}; allowed: a number under a name of "
                    "letters, digits and _"
                )
        return {f"control/selection_{name}": float(value) for name, value in found.items()}

    def state_dict(self) -> dict[str, Any]:
        return state_of(self._part)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        give_state(self._part, state)

    def _judgement(self, value: Any) -> Judgement:
        if isinstance(value, Judgement):
            return value
        if self.ranks and isinstance(value, (int, float)) and not math.isnan(value):
            return Judgement("open", (float(value), 0.0))
        if not self.ranks and value in _OUTLOOKS:
            return Judgement(value)
        allowed = "a number, smaller for those to be solved first" if self.ranks else ", ".join(_OUTLOOKS)
        raise ValueError(f"{self.path}.judge returned {described(value)}, allowed: {allowed}")


def own_selector(config: Config) -> OwnSelector:
    """The method of the user's own that ``controls.selection.method`` names, ready for a run.

    Raises:
        ConfigError: it cannot be imported, does not fit the rest of the configuration, does not work on a trial, or
            cannot be copied where a copy decides about steps that are sampled ahead.
    """
    section = config.controls.selection
    path = config.controls.selection_method
    part = made(KEY, path, section.arguments, classes_alone=True)
    _require_shape(path, part)
    selector = OwnSelector(path, part)
    _require_fits(config, selector)
    # Whatever the trial leaves behind is no part of the run.
    trial, other = (OwnSelector(path, made(KEY, path, section.arguments)) for _ in range(2))
    tried(KEY, path, lambda: _try(trial, other))
    if config.rollout.async_steps:
        tried(KEY, path, lambda: copy.deepcopy(trial))
    return selector


def _require_shape(path: str, part: Any) -> None:
    needs, ranks = getattr(part, "needs", "nothing"), getattr(part, "ranks", False)
    if not callable(getattr(part, "judge", None)):
        raise ConfigError(f"{KEY}: {path} has no method judge(step, candidates, evidence)")
    if needs not in _NEEDS:
        raise ConfigError(f"{KEY}: {path}.needs is {needs!r}, allowed: {', '.join(_NEEDS)}")
    if not isinstance(ranks, bool):
        raise ConfigError(f"{KEY}: {path}.ranks is {ranks!r}, allowed: True, False")
    if ranks and needs not in _RANKED_BY:
        raise ConfigError(
            f"{KEY}: {path} ranks and needs {needs!r}; allowed: {' or '.join(_RANKED_BY)}, because candidates are "
            "ranked before anything is sampled"
        )
    require_whole_state(KEY, path, part)


def _require_fits(config: Config, selector: OwnSelector) -> None:
    named = f"{KEY} {selector.path!r}"
    try:
        if selector.needs == "metas" and not config.algorithm.meta:
            raise ValueError(f"{named} needs meta-predictions, but algorithm.meta is false")
        if selector.needs == "solutions":
            require_practicable(named, config.problems.train_sources)
        if selector.needs != "metas":
            config.require_metas_judge("none")
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _try(selector: OwnSelector, other: OwnSelector) -> None:
    """Judge, learn and hand the state on, as a run does."""
    id = TRIAL_PROBLEM.id
    numbers = {"prompts": (0.1,) * 8, "solutions": (1.0, 0.0)}.get(selector.needs, ())
    evidence = {id: numbers} if numbers else {}
    predictions = TRIAL_PREDICTIONS if selector.needs == "metas" else ()
    selector.judge(1, [PredictedProblem(TRIAL_PROBLEM, (), predictions)], evidence)
    selector.observe(1, [Outcome(id, 1, 2, False, tuple(one.pass_rate for one in predictions))], evidence)
    other.load_state_dict(selector.state_dict())
