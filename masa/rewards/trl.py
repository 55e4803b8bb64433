"""Reward functions written for TRL's GRPOTrainer, called with what they expect."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from masa.problems import Problem
from masa.rollout.engine import Rollout


def trl_arguments(
    function: Callable[..., Any],
    problems: Sequence[Problem],
    responses: Sequence[str],
    rollouts: Sequence[Rollout],
    prompts: Sequence[str],
    *,
    conversational: bool,
) -> dict[str, list[Any]]:
    """The keyword arguments that TRL would give, each a list with an entry for each response.

    ``prompts`` and ``completions`` are texts, or, where prompts go through a chat template, lists of messages, as TRL
    has them for conversational data. ``completion_ids`` are token ids. The columns of the data set are ``answer``,
    ``solution``, ``id``, ``source``, ``problem`` (the statement), and those of `Problem.metadata`; ``solution`` is the
    answer where the data have no worked solution. A function without ``**kwargs`` gets those that it names.
    """
    given: dict[str, list[Any]] = {
        "prompts": [[{"role": "user", "content": one}] for one in prompts] if conversational else list(prompts),
        "completions": (
            [[{"role": "assistant", "content": one}] for one in responses] if conversational else list(responses)
        ),
        "completion_ids": [list(one.token_ids) for one in rollouts],
        "answer": [one.answer for one in problems],
        "solution": [one.answer if one.solution is None else one.solution for one in problems],
        "id": [one.id for one in problems],
        "source": [one.source for one in problems],
        "problem": [one.statement for one in problems],
    }
    for column in dict.fromkeys(name for one in problems for name in one.metadata):
        given.setdefault(column, [one.metadata.get(column) for one in problems])
    parameters = inspect.signature(function).parameters
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        return given
    return {name: values for name, values in given.items() if name in parameters}
