from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masa.policy.batching.micro_batches import (
    SharedPrompts,
    computed_tokens,
    padding_waste,
    plan_micro_batches,
    plan_packs,
    split_over_ranks,
)

LENGTHS = st.lists(st.integers(1, 60), max_size=40)


def brute_force_cost(lengths: list[int], token_budget: int, overhead: int) -> int:
    """The least cost over every way to cut the sorted rows into batches."""
    rows = sorted(lengths, reverse=True)
    costs = []
    for cuts in itertools.product([False, True], repeat=max(len(rows) - 1, 0)):
        borders = [0, *[index + 1 for index, cut in enumerate(cuts) if cut], len(rows)]
        batches = [rows[start:end] for start, end in itertools.pairwise(borders)]
        if all(len(batch) == 1 or batch[0] * len(batch) <= token_budget for batch in batches):
            costs.append(sum(batch[0] * len(batch) + overhead for batch in batches))
    return min(costs)


@pytest.mark.parametrize("prompt", [0, 12, 64])
@pytest.mark.parametrize("token_budget", [512, 1024, 4096, 65536])
def test_one_long_row_among_short_ones_wastes_at_most_three_tenths(prompt: int, token_budget: int) -> None:
    lengths = [prompt + 16] * 31 + [prompt + 256]
    assert padding_waste(lengths, plan_micro_batches(lengths, token_budget)) <= 1.3
    # What a fixed four rows a batch in the order given would compute, for scale.
    fixed = [list(range(start, start + 4)) for start in range(0, 32, 4)]
    assert padding_waste([16] * 31 + [256], fixed) == pytest.approx(1472 / 752)


@given(LENGTHS, st.integers(1, 200), st.integers(0, 50))
def test_every_row_is_in_exactly_one_batch_within_the_budget(lengths: list[int], budget: int, overhead: int) -> None:
    batches = plan_micro_batches(lengths, budget, batch_overhead=overhead)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or computed_tokens(lengths, batch) <= budget for batch in batches)
    assert all(batches)


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=9), st.integers(1, 120), st.integers(0, 20))
def test_no_other_cut_of_the_sorted_rows_is_cheaper(lengths: list[int], budget: int, overhead: int) -> None:
    batches = plan_micro_batches(lengths, budget, batch_overhead=overhead)
    cost = sum(computed_tokens(lengths, batch) + overhead for batch in batches)
    assert cost == brute_force_cost(lengths, budget, overhead)


def test_the_longest_rows_come_first_so_that_a_lack_of_memory_shows_at_once() -> None:
    assert plan_micro_batches([5, 9, 5, 50], 20, batch_overhead=0) == [[3], [1], [0, 2]]


def test_a_row_beyond_the_budget_is_a_batch_of_its_own() -> None:
    assert plan_micro_batches([300, 10, 10], 100) == [[0], [1, 2]]
    assert plan_packs([300, 10, 10], 100) == [[0], [1, 2]]


def test_the_row_bound_holds() -> None:
    assert sorted(len(batch) for batch in plan_micro_batches([4] * 10, 1000, max_rows=4)) == [2, 4, 4]


@given(LENGTHS, st.integers(1, 200))
def test_packs_hold_every_row_once_and_no_two_could_be_one(lengths: list[int], budget: int) -> None:
    packs = plan_packs(lengths, budget)
    assert sorted(row for pack in packs for row in pack) == list(range(len(lengths)))
    tokens = [computed_tokens(lengths, pack, packed=True) for pack in packs]
    assert all(len(pack) == 1 or total <= budget for pack, total in zip(packs, tokens, strict=True))
    assert all(one + other > budget for one, other in itertools.combinations(tokens, 2))


@given(LENGTHS, st.integers(1, 5), st.integers(1, 200), st.booleans())
def test_every_rank_takes_the_same_number_of_steps(
    lengths: list[int], world_size: int, budget: int, packed: bool
) -> None:
    ranks = split_over_ranks(lengths, world_size, budget, packed=packed)
    assert len(ranks) == world_size
    assert len({len(rank) for rank in ranks}) == 1
    batches = [batch for rank in ranks for batch in rank]
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len(batch) <= 1 or computed_tokens(lengths, batch, packed=packed) <= budget for batch in batches)
    # Only a lack of rows leaves a rank idle.
    assert all(batches) or all(len(batch) <= 1 for batch in batches)


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize(("packed", "bound"), [(False, 1.3), (True, 1.01)])
def test_ranks_that_wait_for_each_other_lose_little(world_size: int, packed: bool, bound: float) -> None:
    generator = random.Random(0)
    lengths = [min(int(generator.lognormvariate(3.5, 0.8)) + 1, 128) for _ in range(128)]
    ranks = split_over_ranks(lengths, world_size, 2048, packed=packed)
    steps = [[computed_tokens(lengths, batch, packed=packed) for batch in step] for step in zip(*ranks, strict=True)]
    waiting = sum(max(step) for step in steps)
    assert waiting * world_size / sum(lengths) < bound


def test_two_ranks_share_one_batch_and_one_row_leaves_the_second_idle() -> None:
    assert split_over_ranks([8, 8, 8, 8], 2, 100) == [[[0, 1]], [[2, 3]]]
    assert split_over_ranks([8], 2, 100) == [[[0]], [[]]]
    assert split_over_ranks([], 2, 100) == [[], []]


def test_padding_waste_by_hand() -> None:
    assert padding_waste([4, 2, 3], [[0, 1], [2]]) == pytest.approx(11 / 9)
    assert padding_waste([], []) == 1.0


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="token_budget is 0; at least 1 needed"):
        plan_micro_batches([1], 0)
    with pytest.raises(ValueError, match="row 1 has 0 tokens"):
        plan_packs([3, 0], 10)
    with pytest.raises(ValueError, match="max_rows is 0"):
        plan_micro_batches([1], 10, max_rows=0)
    with pytest.raises(ValueError, match="batch_overhead is -1"):
        plan_micro_batches([1], 10, batch_overhead=-1)
    with pytest.raises(ValueError, match="world_size is 0"):
        split_over_ranks([1], 0, 10)


def test_a_shared_prompt_counts_once_in_a_batch() -> None:
    prompts = SharedPrompts(of_row=[0, 1, 0, 1], lengths=[7, 3])
    assert computed_tokens([2, 4, 1, 1], [0, 2], prompts=prompts) == 2 * 2 + 7
    assert computed_tokens([2, 4, 1, 1], [0, 1], prompts=prompts) == 2 * 4 + 2 * 7


@pytest.mark.parametrize("seed", range(4))
def test_with_shared_prompts_rows_are_cut_where_it_is_cheapest(seed: int) -> None:
    numbers = random.Random(seed)
    lengths = [numbers.randint(1, 30) for _ in range(9)]
    prompts = SharedPrompts([numbers.randrange(3) for _ in lengths], [numbers.randint(1, 60) for _ in range(3)])
    budget, overhead = 150, 6

    def cost(batches: list[list[int]]) -> int:
        return sum(computed_tokens(lengths, batch, prompts=prompts) + overhead for batch in batches)

    def cuts(order: list[int]) -> Iterator[list[list[int]]]:
        for marks in itertools.product((False, True), repeat=len(order) - 1):
            borders = [0, *(place + 1 for place, mark in enumerate(marks) if mark), len(order)]
            batches = [order[start:end] for start, end in itertools.pairwise(borders)]
            if all(len(one) == 1 or computed_tokens(lengths, one, prompts=prompts) <= budget for one in batches):
                yield batches

    found = plan_micro_batches(lengths, budget, batch_overhead=overhead, prompts=prompts)
    assert sorted(itertools.chain(*found)) == list(range(9))
    longest_first = sorted(range(9), key=lambda row: -lengths[row])
    assert cost(found) <= min(map(cost, cuts(longest_first)))


def test_long_prompts_keep_the_rows_of_a_group_together() -> None:
    prompts = SharedPrompts([0, 1, 0, 1], [1000, 1000])
    assert plan_micro_batches([1, 2, 3, 4], 1100, prompts=prompts) == [[3, 1], [2, 0]]
