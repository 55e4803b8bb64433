"""The optimiser: what its schedule says, and what it decays."""

import pytest
from small_policies import small_qwen3

from masa.config.algorithm import OptimizerSection
from masa.policy.update.optimizer import learning_rate_factor, make_optimizer


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", {4: 1.0, 8: 1.0, 12: 1.0}),
        ("linear", {4: 1.0, 6: 0.75, 8: 0.5, 12: 0.0, 20: 0.0}),
        ("cosine", {4: 1.0, 6: (1 + 0.5**0.5) / 2, 8: 0.5, 12: 0.0, 20: 0.0}),
    ],
)
def test_the_learning_rate_rises_over_the_warm_up_and_then_follows_its_schedule(
    schedule: str, factors: dict[int, float]
) -> None:
    section = OptimizerSection.model_validate({"warmup_steps": 4, "schedule": schedule})
    factor = learning_rate_factor(section, total_updates=12)
    assert [factor(update) for update in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert {update: factor(update) for update in factors} == pytest.approx(factors)


def test_without_a_warm_up_the_first_update_has_the_peak_learning_rate() -> None:
    assert learning_rate_factor(OptimizerSection(warmup_steps=0), total_updates=12)(0) == 1.0


def test_matrices_are_decayed_and_norms_are_not() -> None:
    model = small_qwen3()
    optimizer = make_optimizer(model, OptimizerSection(weight_decay=0.3))
    decays = {id(one): group["weight_decay"] for group in optimizer.param_groups for one in group["params"]}
    assert {name: decays[id(one)] for name, one in model.named_parameters()} == {
        name: 0.0 if "norm" in name else 0.3 for name, _ in model.named_parameters()
    }
