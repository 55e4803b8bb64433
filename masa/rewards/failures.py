"""Verifiers and reward functions that raise: what the first of them said, and when a run must end because of it."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from masa.rewards.grading import GradedGroup


class VerifierFailedError(RuntimeError):
    """The verifier raised on every response that it was asked about."""


class RewardFunctionError(RuntimeError):
    """A user's reward function raised; ``trace`` is the traceback of what it raised."""

    def __init__(self, name: str, problem: str, error: Exception) -> None:
        super().__init__(f"the reward function {name} raised {type(error).__name__} for problem {problem!r}: {error}")
        self.trace = "".join(traceback.format_exception(error))


@dataclass(frozen=True)
class VerifierFailure:
    """A verdict with the status ``error``, in words."""

    line: str
    trace: str


def first_failure(groups: Sequence[GradedGroup]) -> VerifierFailure | None:
    """The first verdict of ``groups`` with the status ``error``; None where there is none."""
    for group in groups:
        for verdict in group.verdicts:
            if verdict.status == "error":
                line = f"The verifier {group.problem.verifier} failed for problem {group.problem.id!r}: "
                return VerifierFailure(line + verdict.message, verdict.trace)
    return None


def require_working_verifier(groups: Sequence[GradedGroup], when: str) -> None:
    """``when`` names the step or evaluation that ``groups`` come from. Responses cut off early were never verified.

    Raises:
        VerifierFailedError: every response that was verified has the status ``error``.
    """
    asked = [
        verdict.status
        for group in groups
        for rollout, verdict in zip(group.solutions, group.verdicts, strict=True)
        if not rollout.cut
    ]
    if not asked or any(status != "error" for status in asked):
        return
    failure = first_failure(groups)
    assert failure is not None
    raise VerifierFailedError(f"every response of {when} ({len(asked)}) was left without a verdict. {failure.line}")
