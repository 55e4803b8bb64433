"""The interface of all selection methods, and what they judge by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from masa.controls.gating import Judgement

if TYPE_CHECKING:
    from masa.controls.plan import PredictedProblem

Need = Literal["nothing", "metas", "prompts", "solutions"]
Evidence = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Outcome:
    """What the solutions of one problem came to: ``correct`` of ``total``; ``flat``: all had the same reward, with
    reward functions and the overlong punishment.

    ``predicted`` are the pass rates that its meta-predictions gave, None where one could not be read.
    """

    problem: str
    correct: int
    total: int
    flat: bool
    predicted: tuple[float | None, ...] = ()


class Selector(Protocol):
    """Says which problems of a draw are worth solving.

    ``needs`` is what it judges by beside its own memory: meta-predictions, the policy's hidden states of the solution
    prompts, or the rewards of solutions. With ``ranks`` it does not flag problems: it orders them by the first number
    of ``doubt``, and those nearest to 0 fill the batch. Candidates are ranked before anything is sampled, so such a
    method needs nothing, or prompts.
    """

    needs: Need
    ranks: bool

    def judge(self, step: int, candidates: Sequence[PredictedProblem], evidence: Evidence) -> dict[str, Judgement]:
        """A judgement of each candidate by problem id; ``evidence`` holds the numbers of ``needs`` by problem id.

        The answer depends on what was observed before and on the arguments alone, and changes nothing.
        """
        ...

    def observe(self, step: int, outcomes: Sequence[Outcome], evidence: Evidence) -> dict[str, float]:
        """Learn from a step's solved problems and the evidence they were judged by; metrics of the method itself."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that ``load_state_dict`` needs to go on; plain JSON values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was taken."""
        ...


class Stateless:
    """A selector that remembers nothing."""

    def observe(self, step: int, outcomes: Sequence[Outcome], evidence: Evidence) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state:
            raise ValueError(f"this selection method remembers nothing, found a state of {', '.join(state)}")
