"""The scorers of reasoning-gym's tasks, as a verifier that runs in the pool of isolated workers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import reasoning_gym

from masa.rewards.verifiers.boxed import last_boxed

_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_ANSWER_LINE = re.compile(r"(?:answer(?:\s+is)?|####)\s*:?[ \t]*(\S[^\n]*)", re.IGNORECASE)


def score(response: str, answer: Mapping[str, Any]) -> float:
    r"""The task's own score of a response, from 0 to 1; what is not wholly right may be worth a part.

    The answer is the last ``\boxed{}``, else the last ``<answer>``, else the line after the last ``answer is``,
    ``answer:`` or ``####``, else the whole response.

    Args:
        answer: ``task``, its ``options``, and the ``entry`` that reasoning-gym generated.
    """
    data = _data_set(answer["task"], json.dumps(answer["options"], sort_keys=True))
    found = data.score_answer(answer=written_answer(response), entry=dict(answer["entry"]))
    return min(1.0, max(0.0, float(found)))


def written_answer(response: str) -> str:
    """The part of a response that is its answer (see `score`)."""
    boxed = last_boxed(response)
    if boxed is not None:
        return boxed
    found = _TAGGED.findall(response) or _ANSWER_LINE.findall(response)
    return str(found[-1] if found else response).strip().rstrip(".")


@lru_cache(maxsize=64)
def _data_set(task: str, options: str) -> Any:
    return reasoning_gym.create_dataset(task, size=1, seed=0, **json.loads(options))
