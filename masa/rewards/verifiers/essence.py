"""When two items ask a verifier the same."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Any

from masa.rewards.verifiers.boxed import last_boxed

# Without a box, the answer stands at the end; math-verify's patterns take quadratic time on long text.
TAIL_CHARACTERS = 1_000
_SPACED_GROUPS = re.compile(r"[+-]?\d{1,3}(?:\s*,\s+\d{3})+")


def answer_or_tail(response: str) -> tuple[bool, str]:
    r"""Whether the response has a complete ``\boxed{}``, and what is in the last one; without one, its last part."""
    boxed = last_boxed(response)
    return (True, boxed) if boxed is not None else (False, response[-TAIL_CHARACTERS:])


def essence(item: Mapping[str, Any], encoded: str) -> Hashable:
    """What a built-in verifier's verdict depends on; ``encoded`` is the whole item.

    The responses to one problem mostly repeat a few final answers, each after a text of its own.
    """
    if item["verifier"] != "math":
        return encoded
    is_boxed, text = answer_or_tail(item["response"])
    stated = is_boxed and is_list_of_grouped_digits(text) and states_entries(item["response"], text)
    return ("math", is_boxed, text, stated, repr(item["answer"]))


def is_list_of_grouped_digits(answer: str) -> bool:
    """``1, 234``: a list that would be the number 1,234 without its space."""
    return bool(_SPACED_GROUPS.fullmatch(answer))


def states_entries(response: str, answer: str) -> bool:
    """Whether the response has each entry of its list of numbers as a number of its own before."""
    before = response[: response.rfind(answer)]
    return all(
        re.search(rf"(?<![\d.,]){re.escape(entry.strip())}(?!\d|[.,]\s*\d)", before) is not None
        for entry in answer.split(",")
    )
