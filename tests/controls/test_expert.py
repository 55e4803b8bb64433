"""The expert buffer and behaviour cloning."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from controls_world import World, prediction, tokenizer_of_the_world
from hypothesis import given, settings
from hypothesis import strategies as st

from masa.config.algorithm import OptimizerSection
from masa.controls.cloning import clone_experts
from masa.controls.expert import ExpertBuffer, measured
from masa.controls.splice import Measured
from masa.embedded.model import fresh_policy
from masa.policy.batching.collate import TokenRow, collate
from masa.policy.forward.policy_module import PolicyModule
from masa.policy.objective.presets import preset
from masa.policy.update.optimizer import make_optimizer
from masa.policy.update.updater import PolicyUpdater
from masa.rewards.alignment import MetaReward, SolutionGroup
from masa.rewards.grading import GradedGroup
from masa.rewards.meta_prediction import parse_meta_prediction


def _world(*overrides: str, text: str | None = None) -> World:
    rates = {f"p{n}": 1.0 for n in range(64)}
    # Wrong numbers: the truth is a pass rate of 8 of 8 and a length of 20. The notion stands in every solution.
    return World(
        lambda problem, draw: text or prediction(0.25, 50, ["right"]),
        rates,
        "controls.expert.enabled=true",
        "controls.expert.batch_size=16",
        *overrides,
    )


def test_experts_say_what_was_measured() -> None:
    world = _world()
    _, groups, metrics = world.step(1)
    buffer = world.controls.expert
    assert buffer is not None
    assert [one.problem_id for one in buffer.experts] == [group.problem.id for group in groups]
    assert metrics["control/expert_added"] == metrics["control/expert_size"] == 16
    tokenizer = tokenizer_of_the_world()
    for one, group in zip(buffer.experts, groups, strict=True):
        said = parse_meta_prediction(tokenizer.decode(one.token_ids, skip_special_tokens=True))
        assert (said.pass_rate, said.length, said.notions) == (1.0, 20, ("right",))
        assert one.prompt_ids == group.metas[0].prompt_ids
        assert one.token_ids[-1] == tokenizer.eos_token_id


def _scored(world: World, notion: list[float], total: list[float]) -> list[Any]:
    from dataclasses import replace

    _, groups, _ = world.step(1)
    rewards = tuple(MetaReward(t, 0.0, 0.0, n) for n, t in zip(notion, total, strict=True))
    return [replace(groups[0], meta_rewards=rewards)]


@pytest.mark.parametrize(("rank_by", "best"), [("notion", 1), ("meta", 3)])
def test_the_best_of_the_metas_is_kept(rank_by: str, best: int) -> None:
    world = _world(f"controls.expert.rank_by={rank_by}")
    groups = _scored(world, [0.5, 0.9, 0.9, 0.2], [0.6, 0.5, 0.4, 0.7])
    buffer = world.controls.expert
    assert buffer is not None
    candidates = buffer._candidates(groups[0])
    assert candidates[0][1] == best


def test_below_the_floor_nothing_is_kept() -> None:
    world = _world("controls.expert.floor=0.95")
    groups = _scored(world, [0.5, 0.9, 0.94, 0.2], [1.0, 1.0, 1.0, 1.0])
    buffer = world.controls.expert
    assert buffer is not None
    before = len(buffer)
    assert buffer.collect(2, groups).scores == ()
    assert len(buffer) == before


@pytest.mark.parametrize("text", ["nothing", '<meta>a</meta>{"notions": ["right"], "pass_rate": 3}'])
def test_an_incomplete_prediction_is_no_expert(text: str) -> None:
    world = _world(text=text)
    _, _, metrics = world.step(1)
    assert metrics["control/expert_size"] == 0


def test_the_buffer_is_bounded_and_the_oldest_leave_first() -> None:
    world = _world("controls.expert.capacity=20")
    _, first, _ = world.step(1)
    _, second, _ = world.step(2)
    buffer = world.controls.expert
    assert buffer is not None
    names = [group.problem.id for group in (*first, *second)]
    assert [one.problem_id for one in buffer.experts] == names[-20:]


def test_a_newer_expert_of_a_problem_replaces_the_older() -> None:
    world = _world()
    _, groups, _ = world.step(1)
    buffer = world.controls.expert
    assert buffer is not None
    buffer.collect(2, groups[:1])
    assert len(buffer) == 16
    assert (buffer.experts[-1].problem_id, buffer.experts[-1].step) == (groups[0].problem.id, 2)


def test_cloning_is_due_whenever_a_batch_of_new_experts_has_come_in() -> None:
    world = _world("controls.expert.batch_size=24")
    sizes = []
    for step in range(1, 7):
        world.step(step)
        sizes.append([len(batch) for batch in world.controls.experts_to_clone(step)])
    # 16 new experts a step: 16, 32 (due), 16, 32 (due), ...
    assert sizes == [[], [24], [], [24], [], [24]]


def test_cloning_can_be_due_every_so_many_steps() -> None:
    world = _world("controls.expert.every=3", "controls.expert.cloning_steps=2")
    due = []
    for step in range(1, 7):
        world.step(step)
        due.append(len(world.controls.experts_to_clone(step)))
    assert due == [0, 0, 2, 0, 0, 2]


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 5))
def test_a_restored_buffer_goes_on_as_if_it_had_never_stopped(cut: int) -> None:
    whole, resumed = _world("controls.expert.batch_size=24"), _world("controls.expert.batch_size=24")
    for step in range(1, 7):
        whole.step(step)
        resumed.step(step)
        if step == cut:
            state = json.loads(json.dumps(resumed.controls.state_dict()))
            sampler = resumed.sampler
            resumed = _world("controls.expert.batch_size=24")
            resumed.controls.load_state_dict(state)
            resumed.sampler = sampler
        assert resumed.controls.experts_to_clone(step) == whole.controls.experts_to_clone(step)
    assert resumed.controls.state_dict() == whole.controls.state_dict()


def _updater(**optimizer: float) -> tuple[PolicyUpdater, PolicyModule]:
    module = PolicyModule(fresh_policy(tokenizer_of_the_world(), 0), temperature=1.0)
    section = OptimizerSection.model_validate(
        {"learning_rate": 1e-3, "warmup_steps": 0, "weight_decay": 0.0, "micro_batch_tokens": 40, **optimizer}
    )
    made = make_optimizer(module, section)
    loss = preset("grpo").loss
    return PolicyUpdater(Accelerator(), module, made, section, loss, constant_length=64, total_updates=10), module


ROWS = [TokenRow((1, 2, 3), (40, 41, 42, 43)), TokenRow((5, 6), (50,)), TokenRow((7,) * 9, (60, 61) * 10)]


def test_the_loss_is_minus_the_mean_log_probability_of_all_response_tokens() -> None:
    updater, module = _updater()
    with torch.no_grad():
        logprobs = [module(collate([row]), False)[0][0] for row in ROWS]
    expected = -torch.cat(logprobs).double().sum().item() / (4 + 1 + 20)
    outcome = updater.clone(ROWS, weight=1.0, learning_rate=updater.learning_rate)
    assert outcome["control/expert_loss"] == pytest.approx(expected, rel=1e-5)
    assert updater.take_trained_lengths() == [row.computed_length for row in ROWS]
    assert updater.updates_done == 0


def test_cloning_makes_experts_likelier_and_the_learning_rate_scales_it() -> None:
    losses = {}
    for factor in (0.1, 1.0):
        updater, _ = _updater()
        rate = factor * updater.learning_rate
        losses[factor] = [updater.clone(ROWS, weight=1.0, learning_rate=rate)["control/expert_loss"] for _ in range(4)]
        assert losses[factor] == sorted(losses[factor], reverse=True)
    assert losses[1.0][-1] < losses[0.1][-1]


def test_the_weight_scales_the_gradient() -> None:
    norms = []
    for weight in (1.0, 0.25):
        updater, _ = _updater(max_grad_norm=1e9)
        norms.append(
            updater.clone(ROWS, weight=weight, learning_rate=updater.learning_rate)["control/expert_gradient_norm"]
        )
    assert norms[1] == pytest.approx(norms[0] / 4, rel=1e-4)


def test_due_batches_are_cloned_and_measured() -> None:
    world = _world()
    world.step(1)
    updater, _ = _updater()
    metrics = clone_experts(1, world.controls, updater).flatten()
    assert metrics["control/expert_cloning_steps"] == 1
    assert metrics["control/expert_rows"] == 16
    assert metrics["control/expert_age"] == 0
    assert clone_experts(1, world.controls, updater).flatten() == {}


@pytest.mark.parametrize(("pass_rate", "count"), [(0.0, 0), (1 / 16, 1), (3 / 16, 2), (0.5, 4), (15 / 16, 7), (1.0, 8)])
def test_none_and_all_are_said_only_where_they_are_true(pass_rate: float, count: int) -> None:
    group: Any = SimpleNamespace(statistics=SolutionGroup(pass_rate=pass_rate))
    assert measured(group, 8) == Measured(count, None)


def test_processes_make_the_experts_of_their_own_problems_and_have_the_buffer_of_one_process() -> None:
    world = _world()
    _, groups, _ = world.step(1)
    alone = world.controls.expert
    assert alone is not None

    def known_to(process: int) -> list[GradedGroup]:
        return [group if number % 2 == process else group.left_at(1 - process) for number, group in enumerate(groups)]

    asked: list[Any] = []

    def learn_what_the_other_asks(own: list[Any]) -> list[Any]:
        asked.extend(own)
        return own

    def buffer(gather: Callable[[list[Any]], list[Any]]) -> ExpertBuffer:
        return ExpertBuffer(alone.section, alone._splicer, alone._total, alone._seed, gather)

    buffer(learn_what_the_other_asks).collect(1, known_to(1))
    first = buffer(lambda own: [*own, *asked])
    collected = first.collect(1, known_to(0))
    assert len(asked[0]) == 8
    assert first.experts == alone.experts
    assert collected.scores == (1.0,) * 16
