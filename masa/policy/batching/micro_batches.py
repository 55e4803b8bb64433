"""Which rows share a micro-batch, and which rank takes it: plans by token count, no tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Plan = list[list[int]]

# A micro-batch costs time beyond its tokens (kernel launches, gathers of sharded weights). Counted as this share of
# the token budget, it keeps the planner from trading a few padding tokens for many small batches.
_OVERHEAD_SHARE = 16


@dataclass(frozen=True)
class SharedPrompts:
    """Prompts that are computed once in a micro-batch for all of its rows that follow them.

    ``of_row`` numbers each row's prompt, ``lengths`` are the tokens of each prompt. The length of a row is then that
    of what it computes behind its prompt.
    """

    of_row: Sequence[int]
    lengths: Sequence[int]


def plan_micro_batches(
    lengths: Sequence[int],
    token_budget: int,
    *,
    max_rows: int | None = None,
    batch_overhead: int | None = None,
    prompts: SharedPrompts | None = None,
) -> Plan:
    """Row indices of each micro-batch, the longest rows first, with the least padding the budget allows.

    A batch of n rows costs n times its longest row, and with ``prompts`` the number of its different prompts times the
    longest of them. Rows sorted by length are cut into the batches whose summed cost, plus ``batch_overhead`` tokens
    for each batch, is the smallest possible for any cut. With ``prompts`` rows sorted by prompt are cut as well, and
    the cheaper plan is taken. A row longer than the budget is a batch of its own.

    Args:
        lengths: tokens of each row, prompt and response (without its prompt where ``prompts`` are shared); at least 1.
        token_budget: the most padded tokens in one batch.
        max_rows: the most rows in one batch, where something besides tokens bounds it.
        batch_overhead: the fixed cost of a batch in tokens; by default a sixteenth of the budget.
        prompts: which rows share a prompt that is computed once in each batch.

    Raises:
        ValueError: a budget, length or row bound below 1, a negative overhead.
    """
    _check(lengths, token_budget, max_rows)
    overhead = token_budget // _OVERHEAD_SHARE if batch_overhead is None else batch_overhead
    if overhead < 0:
        raise ValueError(f"batch_overhead is {overhead} tokens; at least 0 needed")
    orders = [_longest_first(lengths)]
    if prompts is not None:
        orders.append(_by_prompt(lengths, prompts))
    plans = [_cheapest_cuts(order, lengths, token_budget, max_rows, overhead, prompts) for order in orders]
    return min(plans, key=lambda plan: plan[1])[0]


def _cheapest_cuts(
    order: list[int],
    lengths: Sequence[int],
    token_budget: int,
    max_rows: int | None,
    overhead: int,
    prompts: SharedPrompts | None,
) -> tuple[Plan, float]:
    """The batches of the cheapest cut of rows in this order, and what they cost in tokens."""
    count = len(order)
    own = np.array([lengths[row] for row in order], dtype=np.int64)
    heads, seen_before = _prompt_columns(order, prompts)
    cheapest = np.full(count + 1, np.inf)
    cheapest[0] = 0.0
    last_start = np.zeros(count + 1, dtype=np.int64)
    for start in range(count):
        rows = min(max(token_budget // int(own[start]), 1), count - start)
        rows = rows if max_rows is None else min(rows, max_rows)
        part = slice(start, start + rows)
        padded = np.maximum.accumulate(own[part]) * np.arange(1, rows + 1)
        if prompts is not None:
            padded += np.maximum.accumulate(heads[part]) * np.cumsum(seen_before[part] < start)
        # Costs grow with each row; a single row is allowed whatever it costs.
        padded = padded[: max(int(np.searchsorted(padded, token_budget, side="right")), 1)]
        costs = cheapest[start] + padded + overhead
        reached = slice(start + 1, start + len(costs) + 1)
        better = costs < cheapest[reached]
        cheapest[reached] = np.where(better, costs, cheapest[reached])
        last_start[reached] = np.where(better, start, last_start[reached])

    batches: Plan = []
    end = count
    while end > 0:
        start = int(last_start[end])
        batches.append(order[start:end])
        end = start
    return batches[::-1], float(cheapest[count])


def _prompt_columns(
    order: list[int], prompts: SharedPrompts | None
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """For each place in ``order`` the tokens of its prompt, and the last place before it with that prompt, or -1."""
    heads, seen_before = np.zeros(len(order), dtype=np.int64), np.full(len(order), -1, dtype=np.int64)
    if prompts is not None:
        last: dict[int, int] = {}
        for place, row in enumerate(order):
            prompt = prompts.of_row[row]
            heads[place], seen_before[place] = prompts.lengths[prompt], last.get(prompt, -1)
            last[prompt] = place
    return heads, seen_before


def plan_packs(lengths: Sequence[int], token_budget: int) -> Plan:
    """Row indices of each packed sequence: first-fit decreasing, no padding at all.

    A row longer than the budget is a pack of its own. Attention within a pack must be kept to each row, see
    :func:`masa.policy.batching.collate.pack`.

    Raises:
        ValueError: a budget or length below 1.
    """
    _check(lengths, token_budget, None)
    packs: Plan = []
    room: list[int] = []
    for row in _longest_first(lengths):
        fit = next((pack for pack, left in enumerate(room) if left >= lengths[row]), None)
        if fit is None:
            packs.append([row])
            room.append(token_budget - lengths[row])
        else:
            packs[fit].append(row)
            room[fit] -= lengths[row]
    return packs


def split_over_ranks(
    lengths: Sequence[int],
    world_size: int,
    token_budget: int,
    *,
    packed: bool = False,
    max_rows: int | None = None,
    batch_overhead: int | None = None,
    prompts: SharedPrompts | None = None,
) -> list[Plan]:
    """The micro-batches of each rank: equally many, and those of one step about equally expensive.

    Sharded weights are gathered by all ranks together, so every rank must take the same number of steps. Batches are
    planned over the rows of all ranks with the smallest budget that needs no further step, the most expensive are
    halved until their number divides, and they are dealt by cost. Where there are fewer rows than that takes, the last
    batches are empty: their rank joins the collectives with a row that counts for nothing. Every rank that knows
    ``lengths`` computes the same plan.

    Raises:
        ValueError: ``world_size`` below 1, or as :func:`plan_micro_batches`.
    """
    if world_size < 1:
        raise ValueError(f"world_size is {world_size}; at least 1 needed")
    overhead = token_budget // _OVERHEAD_SHARE if batch_overhead is None else batch_overhead

    def plan(budget: int) -> Plan:
        if packed:
            return plan_packs(lengths, budget)
        return plan_micro_batches(lengths, budget, max_rows=max_rows, batch_overhead=overhead, prompts=prompts)

    def cost(batch: Sequence[int]) -> int:
        return computed_tokens(lengths, batch, packed=packed, prompts=prompts)

    batches = _even_batches(plan, token_budget, world_size)
    while len(batches) % world_size:
        splittable = [batch for batch in batches if len(batch) > 1]
        if not splittable:
            batches.append([])
            continue
        largest = max(splittable, key=cost)
        cut = min(range(1, len(largest)), key=lambda at: max(cost(largest[:at]), cost(largest[at:])))
        batches.remove(largest)
        batches += [largest[:cut], largest[cut:]]

    batches.sort(key=cost, reverse=True)
    ranks: list[Plan] = [[] for _ in range(world_size)]
    for step in range(0, len(batches), world_size):
        # The rank with the least so far takes the step's most expensive batch.
        free = sorted(range(world_size), key=lambda rank: sum(map(cost, ranks[rank])))
        for rank, batch in zip(free, batches[step : step + world_size], strict=True):
            ranks[rank].append(batch)
    return ranks


def _even_batches(plan: Callable[[int], Plan], token_budget: int, world_size: int) -> Plan:
    """The plan of the smallest budget whose batches fill no more steps than those of the full budget."""
    batches = plan(token_budget)
    steps = math.ceil(len(batches) / world_size)
    low, high = 1, token_budget
    while low < high:
        budget = (low + high) // 2
        tighter = plan(budget)
        if len(tighter) <= steps * world_size:
            batches, high = tighter, budget
        else:
            low = budget + 1
    return batches


def computed_tokens(
    lengths: Sequence[int], batch: Sequence[int], *, packed: bool = False, prompts: SharedPrompts | None = None
) -> int:
    """Tokens that one micro-batch computes, padding included."""
    if not batch:
        return 0
    rows = [lengths[row] for row in batch]
    heads = [] if prompts is None else [prompts.lengths[one] for one in {prompts.of_row[row] for row in batch}]
    if packed:
        return sum(rows) + sum(heads)
    return max(rows) * len(rows) + max(heads, default=0) * len(heads)


def padding_waste(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> float:
    """Tokens computed for each real token when ``batches`` are padded to their longest row; 1 is no waste."""
    real = sum(lengths[row] for batch in batches for row in batch)
    return sum(computed_tokens(lengths, batch) for batch in batches) / real if real else 1.0


def _longest_first(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))


def _by_prompt(lengths: Sequence[int], prompts: SharedPrompts) -> list[int]:
    """Rows of one prompt together, the prompt with the longest rows first."""
    longest: dict[int, int] = {}
    for row, prompt in enumerate(prompts.of_row):
        longest[prompt] = max(longest.get(prompt, 0), lengths[row])

    def place(row: int) -> tuple[int, int, int, int]:
        prompt = prompts.of_row[row]
        return -longest[prompt], prompt, -lengths[row], row

    return sorted(range(len(lengths)), key=place)


def _check(lengths: Sequence[int], token_budget: int, max_rows: int | None) -> None:
    if token_budget < 1:
        raise ValueError(f"token_budget is {token_budget}; at least 1 needed")
    if max_rows is not None and max_rows < 1:
        raise ValueError(f"max_rows is {max_rows}; at least 1 needed")
    if lengths and min(lengths) < 1:
        raise ValueError(f"row {list(lengths).index(min(lengths))} has {min(lengths)} tokens; at least 1 needed")
