"""Dynamic sampling: groups of equal rewards are replaced until the batch is full, within a bound."""

import json

import pytest
from graded_groups import PROBLEMS, graded_group

from masa.config import config_from_mapping
from masa.config.algorithm import DynamicSamplingSection
from masa.flow.dynamic_sampling import DynamicSampling
from masa.rewards.grading import GradedGroup
from masa.rollout.waiting import Waiting, rollout_arrays, rollouts_of

MIXED, EQUAL = (1.0, 0.0), (1.0, 1.0)


def _sampling(num_problems: int = 2, **options: object) -> DynamicSampling:
    return DynamicSampling(DynamicSamplingSection(enabled=True, **options), num_problems)  # type: ignore[arg-type]


def _trained(groups: list[GradedGroup]) -> list[str]:
    return [group.problem.id for group in groups if group.solutions]


def test_a_full_batch_is_taken_as_it_is() -> None:
    filled = _sampling().fill([graded_group(0, MIXED), graded_group(1, MIXED)], 1)
    assert _trained(filled.training) == ["p0", "p1"]
    assert filled.metrics["rollout/replaced_share"] == filled.metrics["rollout/dynamic_rounds"] == 0


def test_constant_groups_are_left_out_and_counted() -> None:
    sampled = [graded_group(0, EQUAL), graded_group(25, EQUAL), graded_group(30, MIXED), graded_group(1, MIXED)]
    filled = _sampling().fill(sampled, 3)
    assert _trained(filled.training) == ["p30", "p1"]
    assert filled.metrics["rollout/dynamic_rounds"] == 2
    assert filled.metrics["rollout/replaced_share"] == 0.5


def test_a_step_goes_on_with_what_there_is() -> None:
    filled = _sampling(max_rounds=3).fill([*(graded_group(n, EQUAL) for n in range(4)), graded_group(9, MIXED)], 4)
    assert _trained(filled.training) == ["p9"]
    assert filled.metrics["rollout/batch_filled"] == 0.5


def test_what_is_too_much_is_trained_on_first_in_the_next_step_and_its_places_take_nothing_more() -> None:
    sampling = _sampling(num_problems=3, oversample=3.0)
    assert sampling.later_rounds(3) == [[3] * 4] * 3
    sampled = [graded_group(0, EQUAL), *(graded_group(n, MIXED) for n in (25, 26, 27, 1, 2))]
    first = sampling.fill(sampled, 2)
    assert _trained(first.training) == ["p25", "p26", "p27"]
    assert first.metrics["rollout/carried_out"] == 2
    assert sampling.later_rounds(3) == [[], [], [3] * 4]
    second = sampling.fill([graded_group(5, EQUAL), graded_group(6, EQUAL), graded_group(7, MIXED)], 1)
    assert _trained(second.training) == ["p1", "p2", "p7"]
    assert second.metrics["rollout/carried_in"] == 2


def test_problems_that_are_drawn_beyond_the_missing_ones_are_shared_out_over_slots() -> None:
    sampling = _sampling(num_problems=4, oversample=1.5, max_rounds=2)
    assert sampling.later_rounds(4) == [[1, 1], [2, 2], [1, 1], [2, 2]]


def test_what_is_carried_over_survives_a_checkpoint() -> None:
    sampling = _sampling(oversample=3.0)
    sampling.fill([graded_group(n, MIXED) for n in range(4)], 1)
    restored = _sampling(oversample=3.0)
    state = sampling.state()
    rollouts = rollouts_of(rollout_arrays(state.rollouts))
    restored.restore(Waiting(json.loads(json.dumps(state.layout)), rollouts), PROBLEMS)
    nothing = [graded_group(5, EQUAL), graded_group(6, EQUAL)]
    assert restored.later_rounds(2) == sampling.later_rounds(2) == [[], []]
    assert restored.fill(nothing, 1) == sampling.fill(nothing, 1)


@pytest.mark.parametrize("keep", [True, False])
def test_the_metas_of_replaced_problems_are_trained_on_or_not_as_asked(keep: bool) -> None:
    sampled = [graded_group(0, EQUAL), graded_group(25, MIXED), graded_group(1, MIXED)]
    filled = _sampling(keep_metas=keep).fill(sampled, 2)
    assert [group.problem.id for group in filled.training if group.metas] == ["p25", "p1", *(["p0"] if keep else [])]
    assert _trained(filled.training) == ["p25", "p1"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithm": {"dynamic_sampling": {"enabled": True, "oversample": 2}}}, "tis_cap"),
        ({"algorithm": {"dynamic_sampling": {"enabled": True}}, "controls": {"gating": {"enabled": True}}}, "gating"),
    ],
)
def test_combinations_that_cannot_work_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_from_mapping(changes)
