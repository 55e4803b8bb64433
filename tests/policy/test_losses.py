from __future__ import annotations

import dataclasses
import math
from typing import Any

import policy_reference as reference
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from masa.policy.objective.losses import LossOutput, contributing_rows, kl_estimate, loss_normalizer, policy_loss
from masa.policy.objective.measures import from_vectors, measure_values, merge_measures, to_vectors
from masa.policy.objective.parameters import Correction, LossParameters
from masa.policy.objective.presets import PRESETS, preset

LIMIT = 12


def make_batch(
    rows: int = 7, seed: int = 0, spread: float = 0.4, dtype: torch.dtype = torch.float64
) -> dict[str, Tensor]:
    """Random rows with ratios on both sides of every clip bound; the last row is masked altogether."""
    generator = torch.Generator().manual_seed(seed)

    def noise(scale: float) -> Tensor:
        return scale * torch.randn(rows, LIMIT, generator=generator, dtype=torch.float64)

    old = -noise(1.0).abs() - 0.5
    lengths = torch.randint(1, LIMIT + 1, (rows,), generator=generator)
    lengths[-1] = 0
    batch = {
        "logprobs": old + noise(spread),
        "old_logprobs": old,
        "advantages": torch.randn(rows, generator=generator, dtype=torch.float64),
        "mask": (torch.arange(LIMIT) < lengths[:, None]).double(),
        "ref_logprobs": old + noise(0.3),
        "rollout_logprobs": old + noise(0.3),
        "entropy": noise(1.0).abs(),
    }
    return {name: value.to(dtype) for name, value in batch.items()}


def share(batch: dict[str, Tensor], params: LossParameters, normalizer: float | None = None) -> LossOutput:
    if normalizer is None:
        normalizer = normalizer_of(batch, params)
    return policy_loss(**batch, params=params, normalizer=normalizer)  # type: ignore[arg-type]


def normalizer_of(batch: dict[str, Tensor], params: LossParameters) -> float:
    return loss_normalizer(params.aggregation, batch["mask"].sum(1).long(), LIMIT)


def rows_of(batch: dict[str, Tensor], rows: list[int]) -> dict[str, Tensor]:
    return {name: value[rows] for name, value in batch.items()}


def with_gradient(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    learned = {name: batch[name].clone().requires_grad_() for name in ("logprobs", "entropy")}
    return {**batch, **learned}


# By level: between them both bounds act on some rows of the batch, and neither on others.
BOUNDS: dict[Any, Any] = {
    "token": (("truncate", 1.05), ("mask", 1.2, 0.8)),
    "sequence": (("truncate", 1.05), ("mask", 3.0, 0.3)),
    "geometric": (("truncate", 1.05), ("mask", 1.1, 0.9)),
}
VARIANTS = {
    **{name: algorithm.loss for name, algorithm in PRESETS.items()},
    "dual clip": LossParameters(dual_clip=1.5, aggregation="token"),
    "k1": LossParameters(kl_coefficient=0.3, kl_estimator="k1"),
    "k2": LossParameters(kl_coefficient=0.3, kl_estimator="k2", aggregation="token"),
    "k3": LossParameters(kl_coefficient=0.3, kl_estimator="k3", aggregation="constant"),
    "entropy": LossParameters(entropy_coefficient=0.05, aggregation="token"),
    "tis": LossParameters(tis_cap=1.1, kl_coefficient=0.1),
    "cispo tight": LossParameters(clip_low=0.2, clip_high=0.2, objective="cispo", tis_cap=2.0),
    "gspo all": LossParameters(
        clip_low=0.05,
        clip_high=0.07,
        ratio_level="sequence",
        kl_coefficient=0.1,
        entropy_coefficient=-0.02,
        dual_clip=1.08,
        tis_cap=1.0,
    ),
    **{
        f"{name} {level} {bounds[0]}": dataclasses.replace(algorithm.loss, correction=Correction(level, *bounds))
        for name, algorithm in PRESETS.items()
        for level in BOUNDS
        for bounds in BOUNDS[level]
    },
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_loss_and_gradient_agree_with_the_written_out_formula(name: str, dtype: torch.dtype) -> None:
    params = VARIANTS[name]
    # Rounded to float32 first, so that both sides start from the same numbers.
    rounded = {key: value.float().double() for key, value in make_batch().items()}
    slow = with_gradient(rounded)
    expected = reference.batch_loss(**slow, params=params, constant_length=LIMIT)  # type: ignore[arg-type]
    expected_gradient = torch.autograd.grad(expected, slow["logprobs"], retain_graph=True)[0]

    fast = with_gradient({key: value.to(dtype) for key, value in rounded.items()})
    output = share(fast, params)
    gradient = torch.autograd.grad(output.loss, fast["logprobs"], retain_graph=True)[0]
    # Terms of about 1 and of both signs cancel in the sum, so float32 is measured against the terms, not their sum.
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-6 if dtype == torch.float32 else 0)
    assert float((gradient.double() - expected_gradient).norm() / expected_gradient.norm()) < 1e-6
    if params.entropy_coefficient:
        pulls = [
            torch.autograd.grad(loss, one["entropy"])[0].double()
            for loss, one in ((expected, slow), (output.loss, fast))
        ]
        torch.testing.assert_close(pulls[1], pulls[0], rtol=1e-6, atol=0)


def test_the_reference_batch_reaches_every_branch_of_the_clip() -> None:
    values = measure_values(share(make_batch(), LossParameters(dual_clip=1.5)).metrics)
    for name in ("clip_fraction_low", "clip_fraction_high", "dual_clip_fraction"):
        assert 0.02 < values[name] < 0.5


def test_one_token_of_each_clipping_case_by_hand() -> None:
    ratios = torch.tensor([[1.1, 1.5, 0.5, 1.5, 0.5]])
    advantages = torch.tensor([[2.0, 2.0, 2.0, -2.0, -2.0]])
    # kept, cut at 1.28, kept (the minimum), kept (the minimum), cut at 0.8
    expected = -(1.1 * 2 + 1.28 * 2 + 0.5 * 2 - 1.5 * 2 - 0.8 * 2) / 5
    logprobs = ratios.log().requires_grad_()
    output = policy_loss(
        logprobs, torch.zeros(1, 5), advantages, torch.ones(1, 5), params=preset("dapo").loss, normalizer=5
    )
    output.loss.backward()
    assert output.loss.item() == pytest.approx(expected)
    assert logprobs.grad is not None
    assert logprobs.grad[0].tolist() == pytest.approx([-0.44, 0.0, -0.2, 0.6, 0.0])
    values = measure_values(output.metrics)
    assert values["clip_fraction_high"] == pytest.approx(0.2)
    assert values["clip_fraction_low"] == pytest.approx(0.2)
    assert values["ratio"] == pytest.approx(1.02)


def test_the_three_aggregations_by_hand() -> None:
    # On policy with advantages 1 and 3 every token's term is -1 or -3; lengths 1 and 3; limit 4.
    mask = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    for aggregation, expected in (("token", -10 / 4), ("sequence", -2.0), ("constant", -10 / 8)):
        params = LossParameters(aggregation=aggregation)  # type: ignore[arg-type]
        normalizer = loss_normalizer(params.aggregation, [1, 3], 4)
        output = policy_loss(
            torch.zeros(2, 3), None, torch.tensor([1.0, 3.0]), mask, params=params, normalizer=normalizer
        )
        assert output.loss.item() == pytest.approx(expected)


def test_dual_clip_bounds_the_loss_of_a_negative_advantage() -> None:
    logprobs = torch.tensor([[math.log(50.0)]], requires_grad=True)
    batch = (logprobs, torch.zeros(1, 1), torch.tensor([-1.0]), torch.ones(1, 1))
    assert policy_loss(*batch, params=LossParameters(), normalizer=1).loss.item() == pytest.approx(50.0)
    bounded = policy_loss(*batch, params=LossParameters(dual_clip=10.0), normalizer=1).loss
    bounded.backward()
    assert bounded.item() == pytest.approx(10.0)
    assert logprobs.grad is not None
    assert logprobs.grad.item() == 0.0


def test_gspo_takes_the_geometric_mean_of_the_token_ratios() -> None:
    ratios = torch.tensor([[2.0, 8.0, 123.0]])
    mask = torch.tensor([[1.0, 1.0, 0.0]])
    params = LossParameters(clip_high=9.0, ratio_level="sequence")
    output = policy_loss(ratios.log(), torch.zeros(1, 3), torch.tensor([1.0]), mask, params=params, normalizer=1)
    assert output.loss.item() == pytest.approx(-4.0)


def test_cispo_differentiates_the_log_prob_and_not_the_clipped_weight() -> None:
    logprobs = torch.tensor([[math.log(9.0), math.log(0.5)]], requires_grad=True)
    output = policy_loss(
        logprobs, torch.zeros(1, 2), torch.tensor([2.0]), torch.ones(1, 2), params=preset("cispo").loss, normalizer=1
    )
    output.loss.backward()
    # weights min(9, 5) = 5 and 0.5, times the advantage: a clipped token keeps its gradient
    assert logprobs.grad is not None
    assert logprobs.grad[0].tolist() == pytest.approx([-10.0, -1.0])


def test_importance_weights_of_the_engine_are_capped_and_carry_no_gradient() -> None:
    inputs = {
        "logprobs": torch.zeros(1, 2, requires_grad=True),
        "old_logprobs": torch.zeros(1, 2, requires_grad=True),
        "rollout_logprobs": torch.tensor([[math.log(0.25), math.log(2.0)]], requires_grad=True),
        "advantages": torch.tensor([1.0], requires_grad=True),
    }
    params = LossParameters(tis_cap=2.0, aggregation="token")
    output = policy_loss(**inputs, mask=torch.ones(1, 2), params=params, normalizer=2)  # type: ignore[arg-type]
    output.loss.backward()
    assert output.loss.item() == pytest.approx(-(2.0 + 0.5) / 2)
    assert inputs["logprobs"].grad is not None
    assert inputs["logprobs"].grad[0].tolist() == pytest.approx([-1.0, -0.25])
    assert all(inputs[name].grad is None for name in ("old_logprobs", "rollout_logprobs", "advantages"))
    values = measure_values(output.metrics)
    assert values["tis_weight"] == pytest.approx(1.25)
    assert values["tis_clip_fraction"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("correction", "weights"),
    [
        (Correction("token", "truncate", 2.0), [2.0, 0.5, 1.0]),
        (Correction("token", "mask", 2.0, 0.6), [0.0, 0.0, 1.0]),
        (Correction("token", "mask", 4.0, 0.5), [4.0, 0.5, 1.0]),
        (Correction("sequence", "truncate", 1.5), [1.5, 1.5, 1.5]),
        (Correction("sequence", "mask", 1.5, 0.5), [0.0, 0.0, 0.0]),
        (Correction("geometric", "truncate", 8.0), [2.0 ** (1 / 3)] * 3),
        (Correction("geometric", "mask", 1.5, 1.2), [2.0 ** (1 / 3)] * 3),
        (Correction("geometric", "mask", 1.2, 0.8), [0.0, 0.0, 0.0]),
    ],
)
def test_every_kind_of_importance_weight_by_hand(correction: Correction, weights: list[float]) -> None:
    # Ratios 4, 1/2 and 1: their product is 2. The last place is padding.
    engine = torch.tensor([[math.log(0.25), math.log(2.0), 0.0, math.nan]], dtype=torch.float64)
    logprobs = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1, 1, 1, 0]])
    params = LossParameters(correction=correction, aggregation="token")
    output = policy_loss(logprobs, None, torch.ones(1), mask, params=params, normalizer=3, rollout_logprobs=engine)
    output.loss.backward()
    assert logprobs.grad is not None
    assert logprobs.grad[0].tolist() == pytest.approx([-weight / 3 for weight in weights] + [0.0])
    assert measure_values(output.metrics)["tis_weight"] == pytest.approx(sum(weights) / 3)


def test_the_cap_is_the_short_form_of_one_correction() -> None:
    batch = make_batch()
    one, other = LossParameters(tis_cap=1.1), LossParameters(correction=Correction("token", "truncate", 1.1))
    assert torch.equal(share(batch, one).loss, share(batch, other).loss)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"level": "token", "mode": "mask", "upper": 2.0}, "mode 'mask' needs both bounds"),
        ({"level": "token", "mode": "mask", "upper": 2.0, "lower": 2.0}, "allowed is less than correction.upper"),
        ({"level": "token", "mode": "truncate", "upper": 2.0, "lower": 0.5}, "no effect with mode 'truncate'"),
        ({"level": "token", "mode": "truncate", "upper": 0.0}, "correction.upper is 0.0"),
        ({"level": "batch", "mode": "truncate", "upper": 2.0}, "correction.level is 'batch'"),
    ],
)
def test_a_correction_without_its_bounds_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Correction(**values)


def test_the_reference_policy_gets_no_gradient() -> None:
    batch = with_gradient(make_batch())
    batch["ref_logprobs"] = batch["ref_logprobs"].clone().requires_grad_()
    share(batch, LossParameters(kl_coefficient=0.5)).loss.backward()
    assert batch["ref_logprobs"].grad is None


def test_without_old_log_probs_every_ratio_is_one_and_the_gradient_is_the_policy_gradient() -> None:
    batch = with_gradient(make_batch())
    batch = {**batch, "old_logprobs": batch["logprobs"].detach()}
    params = LossParameters(aggregation="token")
    given = share(batch, params)
    absent = share({**batch, "old_logprobs": None}, params)  # type: ignore[dict-item]
    assert measure_values(absent.metrics)["ratio"] == 1.0
    one, other = (torch.autograd.grad(output.loss, batch["logprobs"])[0] for output in (given, absent))
    assert torch.equal(one, other)
    expected = -batch["advantages"][:, None] * batch["mask"] / batch["mask"].sum()
    torch.testing.assert_close(one, expected)


@pytest.mark.parametrize("name", VARIANTS)
def test_padding_may_hold_anything(name: str) -> None:
    clean = with_gradient(make_batch(dtype=torch.float32))
    expected = share(clean, VARIANTS[name])
    holes = clean["mask"] == 0
    dirty = {
        key: value.masked_fill(holes, math.nan if index % 2 else -math.inf)
        if value.dim() == 2 and key != "mask"
        else value
        for index, (key, value) in enumerate(make_batch(dtype=torch.float32).items())
    }
    dirty = with_gradient(dirty)
    actual = share(dirty, VARIANTS[name])
    assert torch.equal(actual.loss, expected.loss)
    gradients = [torch.autograd.grad(out.loss, one["logprobs"])[0] for out, one in ((actual, dirty), (expected, clean))]
    assert torch.equal(gradients[0], gradients[1])
    assert measure_values(actual.metrics) == measure_values(expected.metrics)


@pytest.mark.parametrize("name", VARIANTS)
@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(0, 2), min_size=9, max_size=9), seed=st.integers(0, 99))
def test_shares_of_any_division_add_up_to_the_whole_batch(name: str, cuts: list[int], seed: int) -> None:
    params = VARIANTS[name]
    batch = make_batch(rows=9, seed=seed)
    whole = with_gradient(batch)
    expected = share(whole, params)
    expected_gradient = torch.autograd.grad(expected.loss, whole["logprobs"])[0]

    parts = [rows for part in range(3) if (rows := [row for row in range(9) if cuts[row] == part])]
    normalizer = sum(normalizer_of(rows_of(batch, rows), params) for rows in parts)
    divided = with_gradient(batch)
    outputs = [share(rows_of(divided, rows), params, normalizer) for rows in parts]
    total = torch.stack([output.loss for output in outputs]).sum()
    assert total.item() == pytest.approx(expected.loss.item(), rel=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(total, divided["logprobs"])[0], expected_gradient, rtol=1e-12, atol=0
    )
    merged = measure_values(merge_measures(output.metrics for output in outputs))
    assert merged == pytest.approx(measure_values(expected.metrics), rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("name", ["grpo", "dapo", "dr_grpo", "gspo", "cispo", "rloo"])
def test_leaving_out_rows_of_zero_advantage_changes_no_gradient(name: str) -> None:
    batch = make_batch()
    batch["advantages"][[0, 3]] = 0.0
    params = PRESETS[name].loss
    whole = with_gradient(batch)
    expected = torch.autograd.grad(share(whole, params).loss, whole["logprobs"])[0]
    rows = contributing_rows(batch["advantages"], batch["mask"].sum(1), params)
    assert rows == [1, 2, 4, 5]
    few = with_gradient(batch)
    loss = share(rows_of(few, rows), params, normalizer_of(batch, params)).loss
    assert torch.equal(torch.autograd.grad(loss, few["logprobs"])[0], expected)


def test_with_a_kl_or_entropy_term_rows_of_zero_advantage_stay() -> None:
    for params in (LossParameters(kl_coefficient=0.1), LossParameters(entropy_coefficient=0.1)):
        assert contributing_rows([0.0, 1.0, 0.0], [3, 2, 0], params) == [0, 1]


def test_an_absurd_ratio_gives_finite_loss_and_gradient() -> None:
    logprobs = torch.tensor([[-1.0, -1.0, -500.0, -1.0]], requires_grad=True)
    old = torch.tensor([[-500.0, -1000.0, -1.0, -900.0]])
    advantages = torch.tensor([[1.0, 0.0, -1.0, -1.0]])
    params = LossParameters(kl_coefficient=0.1, tis_cap=2.0)
    output = policy_loss(
        logprobs,
        old,
        advantages,
        torch.ones(1, 4),
        params=params,
        normalizer=1,
        ref_logprobs=old,
        rollout_logprobs=-old,
    )
    output.loss.backward()
    assert logprobs.grad is not None
    assert bool(torch.isfinite(output.loss))
    assert bool(torch.isfinite(logprobs.grad).all())


def test_kl_estimators_by_hand() -> None:
    logprob, ref = torch.tensor(0.5).log(), torch.tensor(0.25).log()
    assert kl_estimate(logprob, ref, "k1").item() == pytest.approx(math.log(2))
    assert kl_estimate(logprob, ref, "k2").item() == pytest.approx(math.log(2) ** 2 / 2)
    assert kl_estimate(logprob, ref, "k3").item() == pytest.approx(0.5 - 1 + math.log(2))


def test_engine_mismatch_by_hand() -> None:
    gap = torch.tensor([[0.1, -0.3, 9.0]])
    output = policy_loss(
        torch.zeros(1, 3),
        None,
        torch.ones(1),
        torch.tensor([[1.0, 1.0, 0.0]]),
        params=LossParameters(),
        normalizer=1,
        rollout_logprobs=gap,
    )
    values = measure_values(output.metrics)
    assert values["engine_mismatch"] == pytest.approx(0.2)
    assert values["engine_mismatch_max"] == pytest.approx(0.3)
    # d = policy - engine = -0.1 and 0.3
    assert values["engine_kl"] == pytest.approx((math.exp(-0.1) - 0.9 + math.exp(0.3) - 1.3) / 2, rel=1e-5)


def test_metrics_survive_the_way_through_a_collective() -> None:
    params = LossParameters(kl_coefficient=0.1, tis_cap=2.0)
    outputs = [share(make_batch(seed=seed), params).metrics for seed in (1, 2)]
    vectors = [to_vectors(one) for one in outputs]
    reduced = from_vectors(outputs[0], vectors[0][0] + vectors[1][0], torch.maximum(vectors[0][1], vectors[1][1]))
    assert measure_values(reduced) == measure_values(merge_measures(outputs))


def test_half_precision_log_probs_are_lossless_in_the_sums() -> None:
    batch = make_batch()
    half = {**batch, "logprobs": batch["logprobs"].bfloat16()}
    exact = {**batch, "logprobs": batch["logprobs"].bfloat16().float()}
    assert torch.equal(share(half, LossParameters()).loss, share(exact, LossParameters()).loss)


@pytest.mark.parametrize(
    ("params", "missing"),
    [
        (LossParameters(kl_coefficient=0.1), "ref_logprobs"),
        (LossParameters(tis_cap=2.0), "rollout_logprobs"),
        (LossParameters(correction=Correction("geometric", "truncate", 2.0)), "rollout_logprobs"),
        (LossParameters(entropy_coefficient=0.1), "entropy"),
    ],
)
def test_a_missing_input_is_named(params: LossParameters, missing: str) -> None:
    batch = make_batch()
    del batch[missing]
    with pytest.raises(ValueError, match=f"{missing} is missing"):
        share(batch, params)


def test_wrong_shapes_and_normalizers_are_refused() -> None:
    batch = make_batch()
    with pytest.raises(ValueError, match="mask has shape"):
        share({**batch, "mask": batch["mask"][:, :3]}, LossParameters(), 1.0)
    with pytest.raises(ValueError, match="normalizer is 0"):
        share(batch, LossParameters(), 0.0)
    with pytest.raises(ValueError, match="give the response limit"):
        loss_normalizer("constant", [1, 2])
    with pytest.raises(ValueError, match="at least 0 needed"):
        loss_normalizer("token", [1, -2])
    with pytest.raises(ValueError, match="allowed are 'token', 'sequence', 'constant'"):
        loss_normalizer("mean", [1])  # type: ignore[arg-type]


def test_the_normalizer_counts_what_each_formula_counts() -> None:
    assert loss_normalizer("token", [3, 0, 4]) == 7
    assert loss_normalizer("sequence", [3, 0, 4]) == 2
    assert loss_normalizer("constant", torch.tensor([3, 0, 4]), 100) == 300


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip_low": 1.5}, "clip_low is 1.5; allowed is a finite number at least 0.0 and at most 1.0"),
        ({"clip_high": -0.1}, "clip_high is -0.1"),
        ({"dual_clip": 1.0}, "dual_clip is 1.0; allowed is a finite number above 1.0"),
        ({"dual_clip": 1.1}, "below 1 \\+ clip_high"),
        ({"objective": "cispo", "dual_clip": 3.0}, "dual_clip has no effect"),
        ({"objective": "ppo"}, "objective is 'ppo'; allowed are 'clip', 'cispo'"),
        ({"tis_cap": 0.0}, "tis_cap is 0.0"),
        ({"tis_cap": 2.0, "correction": Correction("token", "truncate", 2.0)}, "one of them is allowed"),
        ({"kl_coefficient": math.nan}, "kl_coefficient is nan"),
        ({"entropy_coefficient": math.inf}, "entropy_coefficient is inf; allowed is a finite number"),
    ],
)
def test_parameters_out_of_range_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(LossParameters(), **change)  # type: ignore[arg-type]


def test_presets_differ_only_where_their_papers_do() -> None:
    grpo = preset("grpo")
    assert preset("dapo").loss == dataclasses.replace(grpo.loss, clip_high=0.28, aggregation="token")
    assert preset("dr_grpo").loss == dataclasses.replace(grpo.loss, aggregation="constant")
    assert preset("dr_grpo").advantage.scale == preset("rloo").advantage.scale == "none"
    assert [name for name, one in PRESETS.items() if one.advantage.leave_one_out] == ["rloo"]
    assert [name for name, one in PRESETS.items() if one.loss.ratio_level == "sequence"] == ["gspo"]
    with pytest.raises(ValueError, match=r"no algorithm preset 'drgrpo'; known are .*nearest: 'dr_grpo'"):
        preset("drgrpo")
