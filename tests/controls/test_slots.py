"""The problems of a step's slots: drawn before anything is sampled, and put back where no slot comes to them."""

from typing import Any

import pytest
from controls_world import World, prediction
from hypothesis import given
from hypothesis import strategies as st

from masa.config.algorithm import DynamicSamplingSection
from masa.config.controls import GatingSection
from masa.controls.gating import gatings
from masa.flow.dynamic_sampling import DynamicSampling
from masa.flow.slots import draw_slots, left_over
from masa.flow.step import StepFlow
from masa.problems import Problem, ProblemSampler
from masa.rollout.engine import Finished, RolloutError
from masa.rollout.stream import RoundStream


def _sampler(count: int, batch: int) -> ProblemSampler:
    return ProblemSampler([Problem(f"p{n:02}", f"{n}?", str(n)) for n in range(count)], batch, 0)


def _ids(sampler: ProblemSampler, count: int) -> list[str]:
    return [problem.id for problem in sampler.next_batch(count)]


def test_problems_are_drawn_round_by_round_and_slot_by_slot() -> None:
    order = _ids(_sampler(20, 3), 9)
    slots = draw_slots(_sampler(20, 3), 3, [[1, 1], [2], []])
    named = [[[one.id for one in problems] for problems in slot.rounds] for slot in slots]
    assert named == [[[order[0]], [order[3]], [order[6]]], [[order[1]], [order[4], order[5]]], [[order[2]]]]


def test_where_there_are_no_more_problems_the_last_rounds_are_missing() -> None:
    slots = draw_slots(_sampler(5, 3), 3, [[1, 1], [1, 1], [1, 1]])
    assert [len(slot.rounds) for slot in slots] == [2, 2, 1]


def test_what_no_slot_came_to_is_drawn_next_in_its_order() -> None:
    sampler = _sampler(20, 3)
    slots = draw_slots(sampler, 3, [[1, 1], [1, 1], [1, 1]])
    left = left_over(slots, [1, 3, 2])
    assert [one.id for one in left] == [slots[number].rounds[place][0].id for number, place in ((0, 1), (0, 2), (2, 2))]
    sampler.put_back(left)
    assert _ids(sampler, 3) == [one.id for one in left]


@given(st.floats(0, 0.999), st.integers(1, 200), st.integers(1, 8), st.integers(0, 2**31), st.integers(0, 9))
def test_slots_together_gate_no_more_than_the_largest_share(
    max_share: float, slots: int, max_rounds: int, seed: int, step: int
) -> None:
    found = gatings(GatingSection(max_share=max_share, max_rounds=max_rounds), slots, seed, step)
    assert len(found) == slots
    assert sum(found) <= max_share * (slots + sum(found))
    assert max(found) <= max_rounds
    assert max(found) - min(found) <= 1


def test_who_may_gate_one_more_follows_from_seed_and_step() -> None:
    section = GatingSection(max_share=0.4)
    drawn = {(seed, step): tuple(gatings(section, 30, seed, step)) for seed in (0, 1) for step in (1, 2)}
    assert {sum(found) for found in drawn.values()} == {20}
    assert len(set(drawn.values())) == 4
    assert tuple(gatings(section, 30, 1, 2)) == drawn[1, 2]


class _Forgetful(RoundStream):
    """Gives one rollout, and then nothing more."""

    def take(self) -> list[Finished]:
        return super().take()[:1]


def test_a_stream_that_ends_before_all_has_come_is_an_error_and_no_smaller_batch() -> None:
    world = World(
        lambda problem, draw: prediction(0.5, 20), {f"p{n}": 0.5 for n in range(8)}, "algorithm.num_problems=4"
    )
    world.engine.stream = lambda: _Forgetful(world.engine.generate)  # type: ignore[method-assign]
    with pytest.raises(RolloutError, match="stream ended, and 8 requests have not"):
        world.step(1)


def _flat_world(rates: dict[str, float], **options: object) -> World:
    world = World(lambda problem, draw: prediction(0.5, 20), rates, "algorithm.num_problems=4")
    section = DynamicSamplingSection(enabled=True, **options)  # type: ignore[arg-type]
    world.dynamic_sampling = DynamicSampling(section, 4)
    return world


def test_a_slot_whose_group_is_flat_takes_its_next_problem_until_one_teaches_something() -> None:
    world = _flat_world({f"p{n:02}": (0.0, 0.5)[n % 2] for n in range(40)}, max_rounds=8)
    for step in range(1, 6):
        batch, groups, _ = world.step(step)
        filled = world.dynamic_sampling.fill(groups, batch.rounds)  # type: ignore[union-attr]
        assert len(filled.training) >= 4
        assert filled.metrics["rollout/batch_filled"] == 1.0
        taught = [len(set(group.solution_rewards)) > 1 for group in groups]
        # In the order of slots: flat ones, and behind them the one that ended the slot.
        assert taught.count(True) == 4
        assert taught[-1]


def test_the_number_of_problems_of_a_slot_is_bounded() -> None:
    world = _flat_world({f"p{n:02}": 1.0 for n in range(40)}, max_rounds=2)
    batch, groups, _ = world.step(1)
    assert len(groups) == 4 * 3
    assert batch.rounds == 3
    assert not any(len(set(group.solution_rewards)) > 1 for group in groups)


def _rounds_a_step_ahead(*, ahead: bool) -> list[tuple[list[int], list[str], float]]:
    """Of each step its slots' rounds, what it trains on, and how full it is; ``ahead``: begun before the last fill."""
    world = _flat_world({f"p{n:02}": (0.0, 0.5, 0.5)[n % 3] for n in range(60)}, max_rounds=3, oversample=2.0)
    processes: Any = world
    flow = StepFlow(world.sampler, processes, world.prepared.builder, world.config, steps_ahead=ahead)
    found: list[tuple[list[int], list[str], float]] = []
    next_batch = None
    for step in range(1, 8):
        if next_batch is None:
            start = flow.begin(step)
            next_batch = start, flow.finish(start, flow.sample(start))
        start, batch = next_batch
        next_batch = None
        if ahead:
            later = flow.begin(step + 1)
            next_batch = later, flow.finish(later, flow.sample(later))
        assert world.dynamic_sampling is not None
        filled = world.dynamic_sampling.fill(batch.grade(world.grader), batch.rounds)
        trained = [group.problem.id for group in filled.training]
        found.append(([len(slot.rounds) for slot in start.slots], trained, filled.metrics["rollout/batch_filled"]))
    return found


def test_a_step_that_is_sampled_ahead_knows_how_many_groups_the_one_before_will_carry_over() -> None:
    at_once, ahead = _rounds_a_step_ahead(ahead=False), _rounds_a_step_ahead(ahead=True)
    assert ahead == at_once
    assert {len(rounds) for rounds, _, _ in at_once} == {4}
    assert len({tuple(rounds) for rounds, _, _ in at_once}) > 1, "some steps carry groups over, and others do not"


@pytest.mark.parametrize("oversample", [1.0, 2.5])
def test_no_problem_is_lost_to_what_slots_leave_over(oversample: float) -> None:
    rates = {f"p{n:02}": (0.0, 0.5, 1.0)[n % 3] for n in range(24)}
    world = _flat_world(rates, oversample=oversample)
    seen: list[str] = []
    while world.sampler.epochs_seen < 4:
        _, groups, _ = world.step(len(seen) + 1)
        assert len({group.problem.id for group in groups}) == len(groups)
        seen += [group.problem.id for group in groups]
    counts = [seen.count(id) for id in rates]
    # Where an epoch ends, a slot may take a problem of the next one while another has left one of this epoch over.
    assert max(counts) - min(counts) <= 2
