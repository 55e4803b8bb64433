from __future__ import annotations

import itertools
import math

import policy_reference as reference
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from masa.policy.objective.advantages import group_advantages


@pytest.mark.parametrize("scale", ["std", "none", "batch"])
@pytest.mark.parametrize("leave_one_out", [False, True])
def test_every_scale_and_baseline_agrees_with_the_formula(scale: str, leave_one_out: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    rewards = torch.randn(40, generator=generator, dtype=torch.float64).tolist()
    groups = torch.randint(0, 9, (40,), generator=generator).tolist()
    expected = reference.advantages(rewards, groups, scale, leave_one_out, 1e-6)
    actual = group_advantages(rewards, groups, scale, leave_one_out)  # type: ignore[arg-type]
    assert actual.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_one_correct_of_four_by_hand() -> None:
    # mean 1/4; squared deviations 9/16 + 3/16 = 3/4; sample std sqrt(1/4) = 1/2
    advantages = group_advantages([1, 0, 0, 0], ["p"] * 4, eps=0.0)
    assert advantages.tolist() == pytest.approx([1.5, -0.5, -0.5, -0.5])


def test_without_a_scale_the_advantage_is_the_difference_to_the_mean() -> None:
    assert group_advantages([1, 0, 0, 0], [7] * 4, "none").tolist() == [0.75, -0.25, -0.25, -0.25]


def test_leave_one_out_compares_with_the_mean_of_the_others() -> None:
    advantages = group_advantages([1.0, 0.0, 0.5], [0, 0, 0], "none", leave_one_out=True)
    assert advantages.tolist() == [0.75, -0.75, 0.0]


def test_batch_scale_divides_every_group_by_one_standard_deviation() -> None:
    # rewards 1, 0, 1, 1: std over the batch 1/2; the second group is constant.
    advantages = group_advantages([1, 0, 1, 1], ["a", "a", "b", "b"], "batch", eps=0.0)
    assert advantages.tolist() == pytest.approx([1.0, -1.0, 0.0, 0.0])


def test_groups_need_not_be_neighbours_and_paths_of_one_problem_stay_apart() -> None:
    ids = [("p1", "solution"), ("p1", "meta"), ("p1", "solution"), ("p1", "meta")]
    assert group_advantages([1.0, 0.2, 0.0, 0.6], ids, "none").tolist() == pytest.approx([0.5, -0.2, -0.5, 0.2])


@pytest.mark.parametrize("scale", ["std", "none", "batch"])
@pytest.mark.parametrize("leave_one_out", [False, True])
@pytest.mark.parametrize("reward", [0.0, 1.0, 1 / 3, 0.1, -0.7])
def test_a_constant_group_gets_exactly_zero(scale: str, leave_one_out: bool, reward: float) -> None:
    rewards = [reward] * 7 + [0.0, 1.0]
    advantages = group_advantages(rewards, [0] * 7 + [1] * 2, scale, leave_one_out)  # type: ignore[arg-type]
    assert advantages[:7].tolist() == [0.0] * 7
    assert advantages[7:].abs().min() > 0.1


def test_rewards_that_differ_by_the_order_of_a_sum_count_as_constant() -> None:
    rewards = [(0.1 + 0.2) + 0.3, 0.1 + (0.2 + 0.3)]
    assert rewards[0] != rewards[1]
    assert group_advantages(rewards, [0, 0]).tolist() == [0.0, 0.0]


def test_a_group_of_one_has_no_baseline_and_gets_zero() -> None:
    for leave_one_out in (False, True):
        assert group_advantages([1.0, 0.0, 1.0], [0, 1, 1], "none", leave_one_out)[0] == 0.0


def test_an_empty_batch_has_no_advantages() -> None:
    assert group_advantages([], []).shape == (0,)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_reward_that_is_not_finite_is_refused_with_its_index(bad: float) -> None:
    with pytest.raises(ValueError, match="reward 1 is"):
        group_advantages([0.0, bad], [0, 0])


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) rewards but \(1,\) group ids"):
        group_advantages([0.0, 1.0], [0])
    with pytest.raises(ValueError, match="scale is 'variance'; allowed are 'std', 'none', 'batch'"):
        group_advantages([0.0, 1.0], [0, 0], "variance")  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.25, 1.0]), st.integers(0, 3)), min_size=1, max_size=24))
def test_advantages_of_a_group_sum_to_zero_and_keep_the_order_of_rewards(rows: list[tuple[float, int]]) -> None:
    rewards, groups = [reward for reward, _ in rows], [group for _, group in rows]
    advantages = group_advantages(torch.tensor(rewards, dtype=torch.float64), torch.tensor(groups))
    for group in set(groups):
        members = [index for index, one in enumerate(groups) if one == group]
        assert abs(float(advantages[members].sum())) < 1e-9
        ordered = sorted(members, key=lambda index: rewards[index])
        assert all(advantages[a] <= advantages[b] for a, b in itertools.pairwise(ordered))
