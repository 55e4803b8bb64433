"""The verifiers by name, and the user's own by import path.

A built-in verifier takes ``(response, answer, options, limits)`` and returns a ``Judgement``. A user's verifier is
named ``module:function``, takes ``(response, answer)`` and returns a bool, or a score from 0 to 1 (correct from 1).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from masa.rewards.sandbox.isolation import check_sandbox
from masa.rewards.verdict import Judgement

BUILT_IN = {
    "math": "masa.rewards.verifiers.mathematics:verify_math",
    "choice": "masa.rewards.verifiers.choice:verify_choice",
    "code": "masa.rewards.verifiers.code:verify_code",
    "exact": "masa.rewards.verifiers.exact:verify_exact",
}


@dataclass(frozen=True)
class Limits:
    """What one item may use: wall-clock seconds, megabytes, and a directory path to create where one is needed."""

    seconds: float
    memory_mb: int
    scratch: Path


@dataclass(frozen=True)
class Verifier:
    function: Callable[..., Any]
    built_in: bool


def check_verifier(name: str) -> None:
    """Make sure that ``name`` can be used in an item.

    Raises:
        ValueError: neither a built-in verifier nor an importable ``module:function``.
        SandboxUnavailableError: ``code``, on a system that cannot isolate it.
    """
    resolve_verifier(name)
    if name == "code":
        check_sandbox()


@cache
def resolve_verifier(name: str) -> Verifier:
    """The function behind a name; imports it. Raises ValueError as ``check_verifier`` does."""
    allowed = f"{', '.join(sorted(BUILT_IN))}, or module:function"
    if name not in BUILT_IN and ":" not in name:
        raise ValueError(f"unknown verifier {name!r}; allowed: {allowed}")
    module_name, _, function_name = BUILT_IN.get(name, name).partition(":")
    if module_name == "__main__":
        raise ValueError(f"verifier {name!r} is in the main script, which workers do not import; put it in a module")
    try:
        function = importlib.import_module(module_name)
        for part in function_name.split("."):
            function = getattr(function, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"verifier {name!r} cannot be imported ({error}); allowed: {allowed}") from error
    if not callable(function):
        raise ValueError(f"verifier {name!r} is a {type(function).__name__}, not a function; allowed: {allowed}")
    return Verifier(function, built_in=name in BUILT_IN)


def judge(verifier: Verifier, item: Mapping[str, Any], limits: Limits) -> Judgement:
    """Run one verifier on one item; whatever it raises goes to the caller."""
    if verifier.built_in:
        judgement = verifier.function(item["response"], item["answer"], item.get("options"), limits)
        assert isinstance(judgement, Judgement)
        return judgement
    result = verifier.function(item["response"], item["answer"])
    score = float(result) if isinstance(result, (bool, int, float)) else math.nan
    if not 0 <= score <= 1:
        raise ValueError(f"verifier {item['verifier']!r} returned {result!r}, a bool or a score from 0 to 1 needed")
    return Judgement(score)
