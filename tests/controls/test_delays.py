"""What takes how long decides nothing: the same run under random delays has the same tokens and decisions."""

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from controls_world import World, prediction
from test_training import CONTROLS, _config, _rows, _weights

from masa import MASATrainer
from masa.config.algorithm import DynamicSamplingSection
from masa.controls.batch import ShapedBatch
from masa.flow.dynamic_sampling import DynamicSampling
from masa.rewards import VerifierPool
from masa.rollout.engine import Finished
from masa.rollout.stream import RoundStream
from masa.rollout.transformers.stream import TransformersStream

RATES = {f"p{n:02}": (0.0, 0.5, 1.0)[n % 3] for n in range(48)}
ALL = (
    "algorithm.num_problems=8",
    "algorithm.num_solutions=4",
    "controls.gating.enabled=true",
    "controls.gating.start=open",
    "controls.gating.audit_share=0.2",
    "controls.cutoff.enabled=true",
    "controls.hinting.enabled=true",
)


class Unordered(RoundStream):
    """As from servers: each time some of what is being sampled ends, in an order that has no reason."""

    def __init__(self, sample: Any, order: random.Random) -> None:
        super().__init__(sample)
        self._order = order
        self._made: list[Finished] = []

    def take(self) -> list[Finished]:
        while found := super().take():
            self._made += found
        self._order.shuffle(self._made)
        count = self._order.randint(1, 6)
        taken, self._made = self._made[:count], self._made[count:]
        return taken


def _world(order: random.Random | None, *overrides: str, dynamic: bool = False) -> World:
    world = World(lambda problem, draw: prediction(RATES[problem], draw.randint(9, 30), ["right"]), RATES, *overrides)
    engine: Any = world.engine
    if dynamic:
        section = DynamicSamplingSection(enabled=True, oversample=1.5)
        world.dynamic_sampling = DynamicSampling(section, world.sampler.batch_size)
    if order is not None:
        engine.stream = lambda: Unordered(engine.generate, order)
    return world


def _decided(batch: ShapedBatch) -> ShapedBatch:
    return replace(batch, seconds={}, waited=0.0)


@pytest.mark.parametrize(
    "options",
    [
        ALL,
        (*ALL, "controls.gating.gated=leave_out", "controls.gating.max_share=0.3"),
        (*ALL[:2], "controls.selection.method=oracle", "problems.train=embedded:train", "controls.gating.start=open"),
        (*ALL[:2], "controls.selection.method=posterior", "controls.cutoff.enabled=true"),
        "dynamic",
    ],
    ids=["all controls", "gated are left out", "oracle", "posterior", "dynamic sampling"],
)
def test_what_ends_first_decides_nothing(options: Sequence[str] | str) -> None:
    dynamic = options == "dynamic"
    overrides = ALL[:2] if dynamic else options
    worlds = [_world(order, *overrides, dynamic=dynamic) for order in (None, random.Random(1), random.Random(2))]
    for step in range(1, 5):
        (expected, groups, metrics), *others = [world.step(step) for world in worlds]
        for batch, other_groups, other_metrics in others:
            assert _decided(batch) == _decided(expected)
            assert other_groups == groups
            assert str(other_metrics) == str(metrics)
        if dynamic:
            fills = [world.dynamic_sampling.fill(groups, expected.rounds) for world in worlds]  # type: ignore[union-attr]
            assert fills[1:] == fills[:1] * 2


_RUNS = {
    "all controls": CONTROLS["all"],
    "dynamic sampling": ("algorithm.dynamic_sampling.enabled=true", "algorithm.meta=false"),
    "all controls, a step ahead": (*CONTROLS["all"], "rollout.async_steps=1", "algorithm.tis_cap=2"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "all controls" else name for name in _RUNS]
)
def test_a_run_whose_engine_and_verifier_are_late_is_the_same_bit_for_bit(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (*_RUNS[name], "run.steps=3", "checkpoint.every=3", "rollout.check_at_start=false")
    prompt, late = tmp_path / "prompt", tmp_path / "late"
    MASATrainer(_config(prompt, *options)).train()
    delays = random.Random(0)

    def delayed(function: Any, longest: float) -> Any:
        def later(*arguments: Any, **named: Any) -> Any:
            time.sleep(delays.uniform(0.0, longest))
            return function(*arguments, **named)

        return later

    monkeypatch.setattr(TransformersStream, "take", delayed(TransformersStream.take, 0.02))
    monkeypatch.setattr(VerifierPool, "verify", delayed(VerifierPool.verify, 0.3))
    MASATrainer(_config(late, *options)).train()
    assert _rows(late) == _rows(prompt)
    expected, found = (_weights(folder, 3) for folder in (prompt, late))
    assert all(found[key].equal(expected[key]) for key in expected)
