"""How the rows of an update are laid out and who computes them: packed, padded, or padded behind shared prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from masa.policy.batching.collate import TokenBatch, TokenRow, collate, collate_behind_prompts, numbered_prompts, pack
from masa.policy.batching.micro_batches import Plan, SharedPrompts, computed_tokens, split_over_ranks

# Prompts are shared where that leaves at most so much to compute: a second pass through the layers is not for free.
_WORTH_SHARING = 0.9


@dataclass(frozen=True)
class Workload:
    """The micro-batches of each process, how each is made into tensors, and tokens computed for each real token.

    A row's real tokens include its prompt's, so where prompts are shared ``waste`` may be below 1.
    """

    plans: list[Plan]
    collate: Callable[[Sequence[TokenRow]], TokenBatch]
    waste: float


def divide_work(
    rows: Sequence[TokenRow], processes: int, token_budget: int, *, packed: bool = False, share_prompts: bool = False
) -> Workload:
    """The work on ``rows``, by about equal parts; every process that knows the rows divides it alike.

    Args:
        rows: all that is to be computed.
        processes: how many share it.
        token_budget: the most tokens in one micro-batch, padding included.
        packed: rows one behind another instead of padded.
        share_prompts: compute a prompt once for the rows of a micro-batch that follow it, where that saves enough.
    """
    whole = [row.computed_length for row in rows]
    real = max(sum(whole), 1)
    plans = split_over_ranks(whole, processes, token_budget, packed=packed)
    if packed or not rows:
        return Workload(plans, pack if packed else collate, 1.0)
    computed = sum(computed_tokens(whole, batch) for batch in chain(*plans))
    if share_prompts:
        behind, prompts = _behind_prompts(rows)
        # Only where rows do share prompts is a second plan worth its time.
        if len(prompts.lengths) < len(rows):
            shared = split_over_ranks(behind, processes, token_budget, prompts=prompts)
            # Attention alone pads them, so rows of like length stand together all the same.
            tokens = sum(computed_tokens(behind, batch, packed=True, prompts=prompts) for batch in chain(*shared))
            if tokens <= _WORTH_SHARING * computed:
                return Workload(shared, collate_behind_prompts, tokens / real)
    return Workload(plans, collate, computed / real)


def _behind_prompts(rows: Sequence[TokenRow]) -> tuple[list[int], SharedPrompts]:
    """What each row computes behind its prompt, at least one token, and the prompts."""
    of_row, prompts = numbered_prompts(rows)
    behind = [max(1, len(row.token_ids) - 1) for row in rows]
    return behind, SharedPrompts(of_row, [len(prompt) for prompt in prompts])
