"""One update: whatever shares its rows out, the gradient is the same; what is not finite never reaches the weights."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from saved_folders import optimizer_tensors
from small_policies import small_qwen3

from masa.config import load_config
from masa.config.schema import OptimizerSection
from masa.policy.batching.collate import TokenRow
from masa.policy.forward.policy_module import PolicyModule
from masa.policy.objective.presets import preset
from masa.policy.update.optimizer import make_optimizer
from masa.policy.update.updater import MAX_SKIPPED_UPDATES, DivergedError, PolicyUpdater, TrainingRow

Tensors = dict[str, torch.Tensor]


def _model() -> Any:
    return small_qwen3(initializer_range=0.2).train()


def _updater(
    *,
    name: str = "dapo",
    packed: bool = False,
    engine_has_all_tokens: bool = True,
    loss: dict[str, Any] | None = None,
    **section: Any,
) -> Any:
    model = _model()
    module = PolicyModule(model, temperature=1.0)
    settings = OptimizerSection(**{"learning_rate": 1e-2, "warmup_steps": 0, "max_grad_norm": 1e9, **section})
    parameters = replace(preset(name).loss, **(loss or {}))
    reference = PolicyModule(_model(), temperature=1.0).requires_grad_(False) if parameters.needs_reference else None
    return PolicyUpdater(
        Accelerator(cpu=True),
        module,
        make_optimizer(module, settings),
        settings,
        parameters,
        constant_length=16,
        total_updates=10,
        packed=packed,
        engine_has_all_tokens=engine_has_all_tokens,
        reference=reference,
    )


def _rows(advantages: tuple[float, ...] = (1.0, -0.5, 0.0, 2.0, -1.5, 0.0)) -> list[TrainingRow]:
    generator = torch.Generator().manual_seed(3)
    rows = []
    for index, advantage in enumerate(advantages):
        ids = torch.randint(0, 61, (3 + 2 * index,), generator=generator).tolist()
        rows.append(TrainingRow(tuple(ids[:2]), tuple(ids[2:]), (-3.0,) * (len(ids) - 2), advantage))
    return rows


def _gradient(updater: Any, rows: list[TrainingRow]) -> Tensors:
    updater.update([rows])
    return _first_means(updater)


def _first_means(updater: Any) -> Tensors:
    return {key: tensor.clone() for key, tensor in optimizer_tensors(updater).items() if key.startswith("exp_avg|")}


def _assert_equal(found: Tensors, expected: Tensors) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-5 * float(tensor.abs().max()))


@pytest.mark.parametrize("name", ["grpo", "dapo", "dr_grpo", "gspo", "cispo"])
@pytest.mark.parametrize("budget", [1, 20, 45])
def test_no_micro_batch_budget_changes_the_gradient(name: str, budget: int) -> None:
    whole = _gradient(_updater(name=name, micro_batch_tokens=10_000), _rows())
    _assert_equal(_gradient(_updater(name=name, micro_batch_tokens=budget), _rows()), whole)


@pytest.mark.parametrize("budget", [1, 20, 10_000])
def test_packing_does_not_change_the_gradient(budget: int) -> None:
    padded = _gradient(_updater(micro_batch_tokens=budget), _rows())
    _assert_equal(_gradient(_updater(micro_batch_tokens=budget, packed=True), _rows()), padded)


def test_packed_rows_waste_nothing() -> None:
    assert _updater(packed=True).update([_rows()])["policy/padding_waste"] == 1.0
    assert _updater(packed=False).update([_rows()])["policy/padding_waste"] > 1.1


@pytest.mark.parametrize("name", ["grpo", "dapo", "dr_grpo", "gspo"])
def test_leaving_out_rows_without_an_advantage_does_not_change_the_gradient(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    updater = _updater(name=name)
    skipping = _gradient(updater, _rows())
    monkeypatch.setattr(
        "masa.policy.update.shares.contributing_rows", lambda advantages, *_: list(range(len(advantages)))
    )
    computing_all = _updater(name=name)
    _assert_equal(_gradient(computing_all, _rows()), skipping)
    assert len(updater.take_trained_lengths()) == 4
    assert len(computing_all.take_trained_lengths()) == 6


def test_rows_without_an_advantage_are_trained_where_there_is_a_kl_term() -> None:
    assert _updater(loss={"kl_coefficient": 0.1}).update([_rows()])["policy/rows_trained"] == 6


def test_checkpointing_activations_does_not_change_the_gradient() -> None:
    plain = _gradient(_updater(), _rows())
    updater = _updater()
    updater.sharded.module.model.gradient_checkpointing_enable({"use_reentrant": False})
    updater.sharded.module.model.train()
    _assert_equal(_gradient(updater, _rows()), plain)


def test_a_batch_in_which_every_group_is_constant_moves_nothing() -> None:
    updater = _updater()
    before = {name: one.clone() for name, one in updater.sharded.module.named_parameters()}
    metrics = updater.update([_rows((0.0, 0.0))])
    assert metrics["policy/rows_trained"] == 0
    assert all(one.equal(before[name]) for name, one in updater.sharded.module.named_parameters())
    assert updater.updates_done == 1


def _not_finite(rows: list[TrainingRow]) -> list[TrainingRow]:
    return [replace(rows[0], advantage=math.inf), *rows[1:]]


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_an_update_that_is_not_finite_is_skipped_and_counted(bad: float) -> None:
    updater = _updater()
    updater.update([_rows()])
    before = {name: one.clone() for name, one in updater.sharded.module.named_parameters()}
    moments = optimizer_tensors(updater)
    metrics = updater.update([[replace(_rows()[0], advantage=bad), *_rows()[1:]]])
    assert metrics["policy/skipped_updates"] == 1
    assert all(one.equal(before[name]) for name, one in updater.sharded.module.named_parameters())
    assert all(one.equal(moments[key]) for key, one in optimizer_tensors(updater).items())
    assert updater.update([_rows()])["policy/skipped_updates"] == 0


def test_a_gradient_that_is_not_finite_is_skipped_although_the_loss_is() -> None:
    updater = _updater()
    first = next(updater.sharded.module.parameters())
    first.register_hook(lambda gradient: gradient * math.nan)
    metrics = updater.update([_rows()])
    assert math.isfinite(metrics["policy/loss"])
    assert metrics["policy/skipped_updates"] == 1
    assert bool(torch.isfinite(first).all())


def test_a_run_of_skipped_updates_stops_with_an_error_that_says_what_to_do() -> None:
    updater = _updater()
    for _ in range(MAX_SKIPPED_UPDATES - 1):
        updater.update([_not_finite(_rows())])
    with pytest.raises(DivergedError, match=r"5 updates in a row.*optimizer\.learning_rate.*checkpoint"):
        updater.update([_not_finite(_rows())])


def test_a_finite_update_ends_a_run_of_skipped_ones() -> None:
    updater = _updater()
    for _ in range(2 * MAX_SKIPPED_UPDATES):
        updater.update([_not_finite(_rows())])
        updater.update([_rows()])
    assert updater.state_dict()["skipped_in_a_row"] == 0


def test_later_updates_on_the_same_rollouts_measure_how_far_the_policy_has_moved() -> None:
    rows = _rows()
    metrics = _updater().update([rows[:3], rows[3:]])
    assert metrics["policy/approximate_kl"] > 0
    assert _updater().update([rows])["policy/approximate_kl"] == 0


def _norm(gradient: Tensors) -> float:
    return float(torch.stack([one.norm() for one in gradient.values()]).norm())


def test_a_gradient_is_clipped_to_its_norm_and_measured_before() -> None:
    # Adam's first mean of gradients is the share 1 - beta1 of the gradient that it was given.
    whole = _norm(_gradient(_updater(), _rows())) / 0.1
    clipping = _updater(max_grad_norm=0.01)
    assert clipping.update([_rows()])["policy/gradient_norm"] == pytest.approx(whole)
    assert whole > 1
    assert _norm(_first_means(clipping)) == pytest.approx(0.1 * 0.01, rel=1e-4)


def test_policy_updates_and_cloning_move_the_weights_by_the_scheduled_learning_rate() -> None:
    def largest_move(updater: Any, step: Callable[[], Any]) -> float:
        before = [one.detach().clone() for one in updater.sharded.module.parameters()]
        step()
        after = updater.sharded.module.parameters()
        return max(float((new.detach() - old).abs().max()) for new, old in zip(after, before, strict=True))

    def scheduled() -> Any:
        return _updater(learning_rate=0.01, warmup_steps=4, weight_decay=0.0, epsilon=1e-12)

    cloned = [TokenRow(row.prompt_ids, row.token_ids) for row in _rows()]
    updater = scheduled()
    # The first step of Adam is as long as the learning rate in every direction that has a gradient.
    assert largest_move(updater, lambda: updater.update([_rows()])) == pytest.approx(0.0025, rel=1e-3)
    cloner = scheduled()
    clone = partial(cloner.clone, cloned, weight=1.0, learning_rate=3.0 * cloner.learning_rate)
    assert largest_move(cloner, clone) == pytest.approx(0.0075, rel=1e-3)


def test_log_probs_of_a_truncated_distribution_are_not_compared_with_the_policys() -> None:
    compared = {"policy/engine_mismatch", "policy/engine_mismatch_max", "policy/engine_kl"}
    updater = _updater()
    assert compared <= set(updater.update([_rows()]))
    updater = _updater(engine_has_all_tokens=False)
    assert not compared & set(updater.update([_rows()]))


@pytest.mark.parametrize(
    ("options", "whole"),
    [((), True), (("rollout.top_p=0.9",), False), (("rollout.top_k=20",), False), (("rollout.min_p=0.1",), False)],
)
def test_top_p_top_k_and_min_p_draw_from_some_tokens_only(options: tuple[str, ...], whole: bool) -> None:
    assert load_config(None, list(options)).rollout.draws_from_all_tokens is whole
