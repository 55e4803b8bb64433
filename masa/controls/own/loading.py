"""From an import path in the configuration to an object that works, before a model is loaded."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

from masa.config import ConfigError
from masa.errors import brief, described
from masa.import_paths import import_option
from masa.problems import Problem
from masa.rewards.meta_prediction import MetaPrediction

# What every part is tried on.
TRIAL_PROBLEM = Problem("trial", "Find the sum: a=1, b=2.", "3")
TRIAL_PREDICTIONS = (
    MetaPrediction(("sum",), 0.5, 200),
    MetaPrediction(("carry", "sum"), 0.75, 300),
    MetaPrediction(None, None, None),
)


def made(key: str, path: str, arguments: Mapping[str, Any], *, classes_alone: bool = False) -> Any:
    """An object of the class that ``path`` names, made with ``arguments``; a function is taken as it is.

    Raises:
        ConfigError: it cannot be imported or made, is neither, or is a function and there are arguments for it.
    """
    found = import_option(key, path)
    if inspect.isclass(found):
        return tried(key, path, lambda: found(**arguments))
    if classes_alone:
        raise ConfigError(f"{key}: {path} is {described(found)}, allowed: a class")
    if not callable(found):
        raise ConfigError(f"{key}: {path} is {described(found)}, allowed: a function or a class")
    if arguments:
        raise ConfigError(f"{key}: {path} is {described(found)}, and arguments are for classes; allowed: no arguments")
    return found


def tried(key: str, path: str, call: Callable[[], Any]) -> Any:
    """What ``call`` returns.

    Raises:
        ConfigError: it raised something; the message names the option and the path.
    """
    try:
        return call()
    except Exception as error:  # code of the user's own may raise anything
        raise ConfigError(f"{key}: {path} was tried and failed: {brief(error)}") from error


def require_whole_state(key: str, path: str, part: Any) -> None:
    """A part remembers with both methods of state, or has none of them.

    Raises:
        ConfigError: it has one of the two.
    """
    missing = [name for name in ("state_dict", "load_state_dict") if not callable(getattr(part, name, None))]
    if len(missing) == 1:
        raise ConfigError(
            f"{key}: {path} has no method {missing[0]}; allowed: both state_dict() and load_state_dict(state), which "
            "checkpoints need, or neither, where nothing is remembered"
        )


def state_of(part: Any) -> dict[str, Any]:
    """What ``part`` remembers, as a checkpoint holds it; {} where it has no state.

    Raises:
        ValueError: the state is no mapping of JSON values.
    """
    if not callable(getattr(part, "state_dict", None)):
        return {}
    state = part.state_dict()
    try:
        kept = json.loads(json.dumps(state, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{type(part).__name__}.state_dict() is no JSON: {brief(error)}") from error
    if not isinstance(kept, dict):
        raise ValueError(f"{type(part).__name__}.state_dict() returned {described(state)}, a dict is needed")
    return kept


def give_state(part: Any, state: Mapping[str, Any]) -> None:
    """Let ``part`` go on where `state_of` was taken."""
    if callable(getattr(part, "load_state_dict", None)):
        part.load_state_dict(state)
