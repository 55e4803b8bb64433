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


class Source:
    """Gives groups of fresh problems, with the rewards it was told."""

    def __init__(self, *rewards: tuple[float, ...]) -> None:
        self.rewards = list(rewards)
        self.calls: list[tuple[int, set[str]]] = []

    def draw(self, count: int, seen: set[str]) -> list[GradedGroup]:
        self.calls.append((count, set(seen)))
        return [graded_group(20 + len(self.calls) * 5 + place, self.rewards.pop(0)) for place in range(count)]


def _sampling(num_problems: int = 2, **options: object) -> DynamicSampling:
    return DynamicSampling(DynamicSamplingSection(enabled=True, **options), num_problems, len(PROBLEMS))  # type: ignore[arg-type]


def _trained(groups: list[GradedGroup]) -> list[str]:
    return [group.problem.id for group in groups if group.solutions]


def test_a_full_batch_is_taken_as_it_is() -> None:
    source = Source()
    filled = _sampling().fill([graded_group(0, MIXED), graded_group(1, MIXED)], source.draw)
    assert _trained(filled.training) == ["p0", "p1"]
    assert source.calls == []
    assert filled.metrics["rollout/replaced_share"] == 0


def test_constant_groups_are_replaced_until_the_batch_is_full() -> None:
    source = Source(EQUAL, MIXED)
    filled = _sampling().fill([graded_group(0, EQUAL), graded_group(1, MIXED)], source.draw)
    assert [count for count, _ in source.calls] == [1, 1]
    assert source.calls[1][1] == {"p0", "p1", "p25"}
    assert _trained(filled.training) == ["p1", "p30"]
    assert [group.problem.id for group in filled.sampled] == ["p0", "p1", "p25", "p30"]
    assert filled.metrics["rollout/dynamic_rounds"] == 2
    assert filled.metrics["rollout/replaced_share"] == 0.5


def test_the_number_of_draws_is_bounded_and_the_step_goes_on_with_what_there_is() -> None:
    source = Source(*[EQUAL] * 9)
    filled = _sampling(max_rounds=3).fill([graded_group(0, EQUAL), graded_group(1, MIXED)], source.draw)
    assert len(source.calls) == 3
    assert _trained(filled.training) == ["p1"]
    assert filled.metrics["rollout/batch_filled"] == 0.5


def test_no_more_problems_are_drawn_than_there_are() -> None:
    source = Source(EQUAL, EQUAL)
    sampling = DynamicSampling(DynamicSamplingSection(enabled=True), 2, 3)
    filled = sampling.fill([graded_group(0, EQUAL), graded_group(1, EQUAL)], source.draw)
    assert [count for count, _ in source.calls] == [1]
    assert _trained(filled.training) == []


def test_what_is_too_much_is_trained_on_first_in_the_next_step() -> None:
    sampling = _sampling(oversample=3.0)
    first = sampling.fill([graded_group(0, EQUAL), graded_group(1, MIXED)], Source(MIXED, MIXED, MIXED).draw)
    assert _trained(first.training) == ["p1", "p25"]
    assert first.metrics["rollout/carried_out"] == 2
    second = sampling.fill([graded_group(2, EQUAL), graded_group(3, EQUAL)], Source().draw)
    assert _trained(second.training) == ["p26", "p27"]
    assert [group.problem.id for group in second.sampled] == ["p2", "p3"]
    assert second.metrics["rollout/carried_in"] == 2


def test_what_is_carried_over_survives_a_checkpoint() -> None:
    sampling = _sampling(oversample=3.0)
    sampling.fill([graded_group(0, EQUAL), graded_group(1, MIXED)], Source(MIXED, MIXED, MIXED).draw)
    restored = _sampling(oversample=3.0)
    state = sampling.state()
    rollouts = rollouts_of(rollout_arrays(state.rollouts))
    restored.restore(Waiting(json.loads(json.dumps(state.layout)), rollouts), PROBLEMS)
    nothing = [graded_group(2, EQUAL), graded_group(3, EQUAL)]
    assert restored.fill(nothing, Source().draw) == sampling.fill(nothing, Source().draw)


@pytest.mark.parametrize("keep", [True, False])
def test_the_metas_of_replaced_problems_are_trained_on_or_not_as_asked(keep: bool) -> None:
    filled = _sampling(keep_metas=keep).fill([graded_group(0, EQUAL), graded_group(1, MIXED)], Source(MIXED).draw)
    assert [group.problem.id for group in filled.training if group.metas] == ["p1", "p25", *(["p0"] if keep else [])]
    assert _trained(filled.training) == ["p1", "p25"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithm": {"dynamic_sampling": {"enabled": True, "oversample": 2}}}, "tis_cap"),
        ({"algorithm": {"dynamic_sampling": {"enabled": True}}, "rollout": {"async_steps": 1}}, "async_steps"),
        ({"algorithm": {"dynamic_sampling": {"enabled": True}}, "controls": {"gating": {"enabled": True}}}, "gating"),
    ],
)
def test_combinations_that_cannot_work_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_from_mapping(changes)
