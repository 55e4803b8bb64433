"""Verifiers and reward functions that raise: what the first of them said, and when a run must end because of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from masa.problems import Problem
    from masa.rewards.grading import GradedGroup
    from masa.rewards.verdict import Verdict


class VerifierFailedError(RuntimeError):
    """The verifier raised on every response that it was asked about."""


class RewardFunctionError(RuntimeError):
    """A reward function gave no reward for any response of a step; ``trace`` is the traceback of what it raised."""

    def __init__(self, message: str, trace: str) -> None:
        super().__init__(message)
        self.trace = trace


@dataclass(frozen=True)
class Failure:
    """What a verifier or a reward function raised, in words."""

    line: str
    trace: str


def first_failure(groups: Sequence[GradedGroup]) -> Failure | None:
    """The first verdict of ``groups`` with the status ``error``; None where there is none."""
    failed = ((group.problem, verdict) for group in groups for verdict in group.verdicts if verdict.failed)
    return next((describe_failure(problem, verdict) for problem, verdict in failed), None)


def describe_failure(problem: Problem, verdict: Verdict) -> Failure:
    """A verdict with the status ``error``, in words."""
    line = f"The verifier {problem.verifier} failed for problem {problem.id!r}: {verdict.message}"
    return Failure(line, verdict.trace)


def function_failures(groups: Sequence[GradedGroup]) -> dict[str, Failure]:
    """The first failure of each reward function in ``groups``, by its name."""
    found: dict[str, Failure] = {}
    for group in groups:
        for name, rewards in group.function_rewards.items():
            failed = next((one for one in rewards if one.error), None)
            if failed is not None and name not in found:
                line = f"The reward function {name} {failed.error} for problem {group.problem.id!r}: {failed.detail}"
                found[name] = Failure(line, failed.trace)
    return found


def require_working_functions(groups: Sequence[GradedGroup], when: str) -> None:
    """``when`` names the step or evaluation that ``groups`` come from.

    Raises:
        RewardFunctionError: a reward function failed on every response.
    """
    for name, failure in function_failures(groups).items():
        rewards = [one for group in groups for one in group.function_rewards.get(name, ())]
        if all(one.error for one in rewards):
            raise RewardFunctionError(
                f"every response of {when} ({len(rewards)}) was left without a reward by {name}. {failure.line}",
                failure.trace,
            )


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
