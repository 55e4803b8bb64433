"""Rollouts whose tokens are in one process of the run, and how they come to where they are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from masa.rollout.engine import Rollout
from masa.tokens.elsewhere import Elsewhere
from masa.tokens.exchange import Place, Tokens, exchange


def left_at(rollout: Rollout, process: int) -> Rollout:
    """What other processes know of a rollout of ``process``: all but its tokens' numbers."""
    numbers = Elsewhere(process, len(rollout.token_ids))
    return replace(rollout, token_ids=numbers, logprobs=numbers)


def spread(rollouts: Sequence[Rollout], place: Place) -> list[Rollout]:
    """Rollouts that every process has, shared out: each process keeps the tokens of every ``processes``-th."""
    return [
        one if number % place.processes == place.process else left_at(one, number % place.processes)
        for number, one in enumerate(rollouts)
    ]


def bring(rollouts: Sequence[Rollout], wanted: Sequence[Sequence[int]], place: Place) -> Mapping[int, Rollout]:
    """The rollouts that this process wants, with their tokens, by their index; all processes call it together.

    ``rollouts`` are the same on all of them, but for where the tokens are; ``wanted`` has the indices that each needs.
    """
    found = exchange([Tokens(one.token_ids, one.logprobs) for one in rollouts], wanted, place)
    return {
        index: replace(rollouts[index], token_ids=tokens.token_ids, logprobs=tokens.logprobs)
        for index, tokens in found.items()
    }
