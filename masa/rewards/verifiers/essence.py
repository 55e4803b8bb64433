"""When two items ask a verifier the same."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from masa.rewards.verifiers.boxed import last_boxed

# Without a box, the answer stands at the end; math-verify's patterns take quadratic time on long text.
TAIL_CHARACTERS = 1_000


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
    return ("math", *answer_or_tail(item["response"]), repr(item["answer"]))
