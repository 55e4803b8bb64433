"""A problem: the unit that a policy is asked to solve and to predict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One problem ``q`` of the paper.

    ``statement`` is the bare problem: no request to think step by step, no answer-format instruction, no chat markup.
    Notions are filtered against this text alone, so anything a template adds must stay out of it.

    ``answer`` is what the verifier compares with: a string for ``math``, ``choice`` and ``exact``; for ``code`` a
    mapping such as ``{"asserts": [...]}`` or ``{"cases": [{"stdin": ..., "stdout": ...}]}``.

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

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("a problem needs a non-empty id")
        if not self.statement.strip():
            raise ValueError(f"problem {self.id!r} has an empty statement")
