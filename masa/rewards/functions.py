"""Reward functions of the user's own: what kind they must be, and which of three signatures they have."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from masa.config import ConfigError
from masa.config.rewards import RewardSource
from masa.errors import brief, described
from masa.import_paths import import_option

Signature = Literal["response", "batch", "trl"]

_FORMS = (
    "(problem, response text) -> number; with batched, (problems, response texts) -> a list of numbers; or TRL's "
    "(completions, prompts=..., **columns) -> a list of numbers"
)
_NEEDED = f"a list of functions is needed, each {_FORMS}"
_NAME = re.compile(r"[\w.@+=-]+")


@dataclass(frozen=True)
class RewardFunction:
    """A reward of a solution, added to its correctness as ``weight * value``.

    Args:
        function: one of three kinds, or a class whose objects are called so. An object of a class is made when the run
            begins, with ``arguments``, and its ``close()`` is called when it ends. Each kind may be ``async``.

            - ``(problem, response text) -> number``, called for each solution.
            - ``(problems, response texts) -> list of numbers``, with ``batched``: for all solutions of a step (of this
              process) at once. None in the list: the function does not apply to this solution.
            - TRL's signature, known by its parameter ``completions``: likewise at once, as `masa.rewards.trl` says.
        name: under which its values stand in metrics and samples; "": the function's own.
        weight: of its values in the reward of a solution.
        batched: whether it is called with lists.
        evaluate: whether held-out solutions are scored as well, under ``eval/``; their accuracy is correctness alone.
        arguments: of the class, by name.
    """

    function: Callable[..., Any]
    name: str = ""
    weight: float = 1.0
    batched: bool = False
    evaluate: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def signature(self) -> Signature:
        """Which of the three kinds it is."""
        found = _signature_of(self.function)
        if found is not None and "completions" in found.parameters:
            return "trl"
        return "batch" if self.batched else "response"


def checked_reward_functions(functions: Any) -> tuple[RewardFunction, ...]:
    """Functions that are handed in, each with a name of its own.

    Raises:
        TypeError: not a list of functions with one of the signatures.
        ValueError: two functions were given one name, or one a name that no metric can have.
    """
    if isinstance(functions, RewardFunction) or callable(functions):
        raise TypeError(f"reward_functions is {described(functions)}, {_NEEDED}: reward_functions=[...]")
    if isinstance(functions, (str, bytes, Mapping)) or not isinstance(functions, Iterable):
        raise TypeError(f"reward_functions is {described(functions)}, {_NEEDED}")
    found = []
    for index, one in enumerate(functions):
        if not isinstance(one, RewardFunction) and not callable(one):
            raise TypeError(f"reward_functions[{index}] is {described(one)}, {_NEEDED}")
        wrapped = one if isinstance(one, RewardFunction) else RewardFunction(one)
        _check(f"reward_functions[{index}]", wrapped)
        found.append(wrapped)
    return with_names(found)


def load_reward_functions(sources: Sequence[RewardSource]) -> list[RewardFunction]:
    """The functions that ``rewards.functions`` names.

    Raises:
        ConfigError: one that cannot be imported, or has none of the signatures.
    """
    found = []
    for index, source in enumerate(sources):
        key = f"rewards.functions[{index}]"
        function = import_option(f"{key}.path", source.path)
        if not callable(function):
            raise ConfigError(f"{key}.path: {source.path} is {described(function)}; allowed: {_FORMS}")
        if source.arguments and not inspect.isclass(function):
            raise ConfigError(f"{key}.arguments: {source.path} is no class; allowed: no arguments")
        one = RewardFunction(
            function,
            source.name or "",
            source.weight,
            source.batched,
            source.evaluate,
            source.arguments,
        )
        try:
            _check(key, one)
        except TypeError as error:
            raise ConfigError(str(error)) from error
        found.append(one)
    return found


def with_names(functions: Sequence[RewardFunction]) -> tuple[RewardFunction, ...]:
    """Each with a name that a metric can have; functions without one have their own, with a number where it is taken.

    Raises:
        ValueError: two were given one name, or one a name that no metric can have.
    """
    taken: set[str] = set()
    for one in functions:
        if one.name and not _NAME.fullmatch(one.name):
            raise ValueError(f"reward function {one.name!r}: allowed in a name: letters, digits and _ . @ + = -")
        if one.name and one.name in taken:
            raise ValueError(f"two reward functions are called {one.name!r}; give each a name of its own")
        taken |= {one.name} - {""}
    named = []
    for one in functions:
        own = _NAME.findall(str(getattr(one.function, "__name__", type(one.function).__name__)))
        stem = name = "_".join(own) or "function"
        number = 1
        while not one.name and name in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(one.name or name)
        named.append(one if one.name else replace(one, name=name))
    return tuple(named)


def _check(what: str, one: RewardFunction) -> None:
    """
    Raises:
        TypeError: the function cannot be called as its kind is.
    """
    if inspect.isclass(one.function):
        if not any("__call__" in vars(kind) for kind in one.function.__mro__):
            raise TypeError(f"{what}: objects of the class {one.function.__name__} cannot be called; {_NEEDED}")
        try:
            inspect.signature(one.function).bind(**one.arguments)
        except TypeError as error:
            raise TypeError(f"{what}: the class {one.function.__name__} cannot be made ({error})") from None
        except ValueError as error:
            raise TypeError(f"{what}: the class {one.function.__name__} says nothing of its arguments") from error
    found = _signature_of(one.function)
    if found is None:
        return  # written in C, without a signature: the first call will tell
    try:
        if one.signature == "trl":
            _bind_trl(found)
        else:
            found.bind(None, None)
    except TypeError as error:
        raise TypeError(f"{what} takes {found}, which does not fit ({error}); {_NEEDED}") from None


def _bind_trl(found: inspect.Signature) -> None:
    """
    Raises:
        TypeError: the function needs an argument that nothing gives; columns of the problems are not known yet.
    """
    positional = [one for one in found.parameters.values() if one.kind is inspect.Parameter.POSITIONAL_ONLY]
    if positional:
        raise TypeError(f"{positional[0].name!r} cannot be given by name")


def _signature_of(function: Any) -> inspect.Signature | None:
    """Of what is called with responses: the function, or objects of the class."""
    try:
        if not inspect.isclass(function):
            return inspect.signature(function)
        found = inspect.signature(function.__call__)
    except (TypeError, ValueError):
        return None
    _, *parameters = found.parameters.values()  # self
    return found.replace(parameters=parameters)


def made(one: RewardFunction) -> Any:
    """What is called: the function, or an object of the class.

    Raises:
        ConfigError: the object cannot be made.
    """
    if not inspect.isclass(one.function):
        return one.function
    try:
        return one.function(**one.arguments)
    except Exception as error:
        raise ConfigError(f"the reward function {one.name} cannot be made: {brief(error)}") from error
