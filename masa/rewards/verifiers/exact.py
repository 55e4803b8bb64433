"""Answers that must be written exactly like the gold answer."""

from __future__ import annotations

import re
from typing import Any

from masa.rewards.verdict import Judgement
from masa.rewards.verifiers import Limits
from masa.rewards.verifiers.boxed import last_boxed

_ANSWER_LINE = re.compile(r"(?:answer(?:\s+is)?|####)\s*:?[ \t]*(\S[^\n]*)", re.IGNORECASE)


def verify_exact(response: str, answer: Any, options: Any, limits: Limits) -> Judgement:
    r"""Correct when the answer's characters are the gold's; white space at the ends and its runs inside do not count.

    The answer is the last ``\boxed{}``, else the line after the last ``answer is``, ``answer:`` or ``####``, else the
    whole response.
    """
    extracted = last_boxed(response)
    if extracted is None:
        lines = _ANSWER_LINE.findall(response)
        extracted = lines[-1] if lines else response
    extracted = " ".join(extracted.split())
    return Judgement(float(extracted == " ".join(str(answer).split())), extracted)
