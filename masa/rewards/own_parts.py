"""Verifiers that a user hands in: what kind of object they must be, and what they must return."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from masa.errors import described
from masa.rewards.verdict import Verdict


class Verifier(Protocol):
    """Judges answers; `VerifierPool` is one."""

    def verify(self, items: Sequence[Mapping[str, Any]]) -> Sequence[Verdict]: ...


_VERIFIER_NEEDED = "an object is needed whose method verify(items) returns one masa.rewards.Verdict for each item"


def check_verifier_object(verifier: Any) -> None:
    """
    Raises:
        TypeError: the object cannot stand in the place of the verifier pool.
    """
    method = getattr(verifier, "verify", None)
    if inspect.isclass(verifier):
        raise TypeError(
            f"verifier is the class {verifier.__name__}, {_VERIFIER_NEEDED}: verifier={verifier.__name__}()"
        )
    if not callable(method):
        raise TypeError(f"verifier is {described(verifier)}, {_VERIFIER_NEEDED}")
    _check_arguments("verifier.verify", method, 1, _VERIFIER_NEEDED)


def verified(verifier: Verifier, items: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """One verdict an item, from any verifier; none is asked where there are no items.

    Raises:
        TypeError: it returned something else than verdicts.
        ValueError: it returned more or fewer than one an item, or a reward that is not a number from 0 to 1.
    """
    if not items:
        return []
    returned: Any = verifier.verify(items)
    name = f"{type(verifier).__name__}.verify"
    if isinstance(returned, (str, bytes, Mapping)) or not isinstance(returned, Iterable):
        raise TypeError(f"{name} returned {described(returned)}; {_VERIFIER_NEEDED}")
    verdicts = list(returned)
    for index, verdict in enumerate(verdicts):
        if not isinstance(verdict, Verdict):
            raise TypeError(
                f"{name} returned {described(verdict)} for item {index}; {_VERIFIER_NEEDED}, "
                'such as Verdict(correct=True, status="correct")'
            )
        if not _is_reward(verdict.reward):
            raise ValueError(
                f"{name} returned the score {verdict.score!r} for item {index}, a number from 0 to 1 needed"
            )
    if len(verdicts) != len(items):
        raise ValueError(f"{name} returned {len(verdicts)} verdicts for {len(items)} items; {_VERIFIER_NEEDED}")
    return verdicts


def _is_reward(value: Any) -> bool:
    try:
        return math.isfinite(value) and 0 <= value <= 1
    except TypeError:
        return False


def _check_arguments(what: str, function: Callable[..., Any], count: int, needed: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # written in C, without a signature: the first call will tell
    try:
        signature.bind(*[None] * count)
    except TypeError as error:
        raise TypeError(f"{what} takes {signature}, which does not fit ({error}); {needed}") from None
