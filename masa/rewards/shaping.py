"""What is added to a solution's correctness: the user's reward functions, and DAPO's overlong punishment."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from masa.config import Config
from masa.policy.overlong import overlong_punishment
from masa.problems import Problem
from masa.rewards.failures import RewardFunctionError
from masa.rewards.own_parts import RewardFunction
from masa.rollout.engine import Rollout

Shaping = Callable[[Problem, str, Rollout], float]


def make_shaping(config: Config, functions: Sequence[RewardFunction]) -> Shaping | None:
    """The sum of all that is added to a solution's correctness; None where nothing is."""
    buffer, limit = config.algorithm.overlong.punish_tokens, config.rollout.max_solution_tokens
    if not functions and not buffer:
        return None

    def shaping(problem: Problem, text: str, rollout: Rollout) -> float:
        total = math.fsum(_reward(function, problem, text) for function in functions)
        if buffer:
            total += float(overlong_punishment([len(rollout.token_ids)], limit, buffer)[0])
        return total

    return shaping


def _reward(function: RewardFunction, problem: Problem, text: str) -> float:
    """
    Raises:
        RewardFunctionError: the function raised; what it raised is the cause.
        ValueError: the function gave anything but a finite number.
    """
    name = getattr(function, "__name__", repr(function))
    try:
        value = function(problem, text)
    except Exception as error:
        raise RewardFunctionError(name, problem.id, error) from error
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"the reward function {name} gave {value!r} for problem {problem.id!r}; allowed: finite numbers"
        )
    return number
