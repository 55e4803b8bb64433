"""What verifying one response gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["correct", "incorrect", "error", "timeout"]


@dataclass(frozen=True)
class Judgement:
    """What a verifier says of one response: a score in [0, 1], and the answer it read out of the response.

    ``timed_out`` is for verifiers that run something under a limit of their own (``code``).
    """

    score: float
    extracted: str | None = None
    timed_out: bool = False
    message: str = ""


@dataclass(frozen=True)
class Verdict:
    """The pool's word on one item.

    ``status`` is ``error`` when the verifier raised, ran out of memory or died, and ``timeout`` when its time was up;
    both are counted by the pool. ``score`` is 1 for a correct answer and 0 otherwise, except for a user's own verifier
    that gives something between (not ``correct``). ``seconds`` is wall-clock time; ``message`` explains an error.
    """

    correct: bool
    status: Status
    extracted: str | None = None
    seconds: float = 0.0
    score: float = 0.0
    message: str = ""

    @property
    def reward(self) -> float:
        """1 where it is correct, else the part of the score that a user's own verifier gives."""
        return 1.0 if self.correct else self.score
