"""A problem: the unit that a policy is asked to solve and to predict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from masa.problems.values import plain_value


@dataclass(frozen=True)
class Problem:
    """One problem ``q`` of the paper.

    ``statement`` is the bare problem: no request to think step by step, no answer-format instruction, no chat markup.
    Notions are filtered against this text alone, so anything a template adds must stay out of it.

    ``answer`` is what the verifier compares with: a string for ``math``, ``choice`` and ``exact``; for ``code`` a
    mapping such as ``{"asserts": [...]}`` or ``{"cases": [{"stdin": ..., "stdout": ...}]}``. numpy's numbers, texts and
    arrays are taken as Python's.

    ``system`` is the problem's own system message, where its row has one; before its solution prompt it takes the place
    of ``prompts.system``.

    Raises:
        ValueError: an empty id or statement.
    """

    id: str
    statement: str
    answer: Any
    source: str = ""
    verifier: str = "math"
    solution: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None

    def __post_init__(self) -> None:
        # Frozen, so set like the generated __init__ does: an answer out of numpy is the number it stands for.
        object.__setattr__(self, "answer", plain_value(self.answer))
        if not self.id:
            raise ValueError("a problem needs a non-empty id")
        if not self.statement.strip():
            raise ValueError(f"problem {self.id!r} has an empty statement")
