"""What a checkpoint keeps of a batch that was sampled ahead: rollouts, and all that was decided about them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from controls_world import World, prediction

from masa.controls.batch import ShapedBatch, StepBatch
from masa.flow.saved_batches import load_batches, save_batches
from masa.rollout.waiting import Waiting, rollout_arrays, rollouts_of

RATES = {f"p{n:02}": (0.0, 0.5, 1.0)[n % 3] for n in range(48)}


def _batch(*overrides: str) -> ShapedBatch:
    world = World(
        lambda problem, draw: prediction(RATES[problem], draw.randint(9, 30), ["right"]),
        RATES,
        "algorithm.num_problems=8",
        "controls.gating.start=open",
        "controls.gating.audit_share=0.3",
        "problems.train=embedded:train",
        *overrides,
    )
    return replace(world.step(1)[0], early=None, seconds={}, waited=0.0)


def _through_a_file(state: Waiting) -> Waiting:
    return Waiting(json.loads(json.dumps(state.layout)), rollouts_of(rollout_arrays(state.rollouts)))


def _part(items: Sequence[Any], process: int, processes: int) -> list[Any]:
    return list(items[process::processes])


def _of_process(batch: ShapedBatch, process: int, processes: int) -> ShapedBatch:
    mine = _part(batch.problems, process, processes)
    names = {problem.id for problem in mine}
    return replace(batch, mine=mine, rollouts=[group for group in batch.rollouts if group[0].problem_id in names])


def _as_sampled(batch: ShapedBatch, process: int, processes: int) -> ShapedBatch:
    """What one of several processes has: of gated problems of others no tokens."""
    whose = enumerate(batch.gated)
    gated = [one if n % processes == process else one.left_at(n % processes) for n, one in whose]
    return replace(_of_process(batch, process, processes), gated=gated)


@pytest.mark.parametrize(
    "overrides",
    [
        ("controls.gating.enabled=true", "controls.cutoff.enabled=true", "controls.hinting.enabled=true"),
        ("controls.gating.enabled=true", "controls.gating.gated=leave_out", "controls.gating.max_share=0.2"),
        ("controls.selection.method=oracle",),
        ("controls.selection.method=posterior",),
        ("algorithm.meta=false",),
    ],
)
@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 1), (1, 2), (2, 3)])
def test_a_batch_with_its_decisions_survives_a_checkpoint(overrides: tuple[str, ...], before: int, after: int) -> None:
    batch = replace(_batch(*overrides), prompts_read=(5, 7))
    states = []
    for process in range(before):
        states.append(_through_a_file(save_batches({3: _as_sampled(batch, process, before)})))
    by_id = {problem.id: problem for problem in (*batch.problems, *(one.problem for one in batch.gated))}
    for process in range(after):
        loaded = load_batches(states, by_id, lambda items, process=process: _part(items, process, after))  # type: ignore[misc]
        assert loaded == {3: _of_process(batch, process, after)}


def test_a_batch_without_decisions_is_one_of_an_earlier_version() -> None:
    batch = _batch("algorithm.meta=false")
    plain = StepBatch(batch.problems, batch.mine, batch.rollouts)
    by_id = {problem.id: problem for problem in batch.problems}
    assert load_batches([save_batches({1: plain})], by_id, list) == {1: plain}
