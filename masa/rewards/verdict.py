"""What verifying one response gave."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Status = Literal["correct", "incorrect", "error", "timeout", "refused"]


@dataclass(frozen=True)
class Judgement:
    """What a verifier says of one response: a score in [0, 1], and the answer it read out of the response.

    ``timed_out`` is for verifiers that run something under a limit of their own (``code``), ``refused`` for what they
    do not evaluate because nothing could in any time (``math``: power towers).
    """

    score: float
    extracted: str | None = None
    timed_out: bool = False
    refused: bool = False
    message: str = ""
    trace: str = ""


@dataclass(frozen=True)
class Verdict:
    """The pool's word on one item.

    ``status`` is ``error`` when the verifier raised, ran out of memory or died, ``timeout`` when its time was up, and
    ``refused`` when the answer was too large to evaluate; all three are counted by the pool. ``score`` is 1 for a
    correct answer and 0 otherwise, except for a user's own verifier that gives something between (not ``correct``).
    ``seconds`` is wall-clock time; ``message`` explains an error, and ``trace`` is the traceback of what was raised.
    """

    correct: bool
    status: Status
    extracted: str | None = None
    seconds: float = 0.0
    score: float = 0.0
    message: str = ""
    trace: str = field(default="", compare=False)

    @property
    def failed(self) -> bool:
        """Whether there is no verdict, for the verifier raised."""
        return self.status == "error"

    @property
    def reward(self) -> float:
        """1 where it is correct, else the part of the score that a user's own verifier gives."""
        return 1.0 if self.correct else self.score
