"""What a verifier or a reward function raised: shown and kept once, and the end of a run where nothing else came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from masa.callbacks import Callback
from masa.rewards.failures import (
    Failure,
    first_failure,
    function_failures,
    require_working_functions,
    require_working_verifier,
)
from masa.run_state import RunState

if TYPE_CHECKING:
    from masa.rewards.grading import GradedGroup


class FailureNotes(Callback):
    """Shows the first failure of the verifier, and of each reward function, since this start.

    The first of them all is kept as ``first_error.txt``.
    """

    def __init__(self) -> None:
        self._told: set[str] = set()

    def on_rewards(self, run: RunState) -> None:
        """
        Raises:
            VerifierFailedError: the verifier raised on every response of the step.
            RewardFunctionError: a reward function did.
        """
        self._note(run, run.groups, f"step {run.step}")

    def on_evaluate(self, run: RunState) -> None:
        """
        Raises: as `on_rewards`, of an evaluation.
        """
        self._note(run, run.evaluated, f"the evaluation at step {run.step}")

    def _note(self, run: RunState, groups: Sequence[GradedGroup], when: str) -> None:
        verifier = first_failure(groups)
        if verifier is not None:
            self._tell(run, "reward/verifier_errors", verifier)
        for name, failure in function_failures(groups).items():
            self._tell(run, f"reward/function_{name}_errors", failure)
        require_working_verifier(groups, when)
        require_working_functions(groups, when)

    def _tell(self, run: RunState, counted: str, failure: Failure) -> None:
        if counted in self._told or not run.is_main_process:
            return
        kept = "" if self._told else f"; this one is in {run.directory.error}"
        if not self._told:
            run.directory.write_first_error(f"{failure.line}\n\n{failure.trace}")
        self._told.add(counted)
        run.message(f"{failure.line}\n{failure.trace}".rstrip())
        run.message(f"Further errors are counted under {counted}{kept}")
