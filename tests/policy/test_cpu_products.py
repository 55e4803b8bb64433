"""Matrix products by oneDNN on a CPU: the same numbers and gradients, only where they gain something."""

import copy
from typing import Any

import pytest
import torch
from small_policies import small_qwen3
from torch import nn

from masa.model import cpu_products
from masa.model.cpu_products import CpuLinear, add_product, product, products_are_known, use_cpu_products
from masa.model.packed_linears import PackedLinears

pytestmark = pytest.mark.skipif(not products_are_known(), reason="torch has no products by oneDNN on this processor")


@pytest.fixture
def large_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_products, "LEAST_WEIGHTS", 0)
    monkeypatch.setattr(cpu_products, "_LEAST_MULTIPLICATIONS", 0)


def _gradients(model: Any) -> dict[str, torch.Tensor]:
    model.zero_grad()
    logits = model(input_ids=torch.tensor([[3, 4, 5, 6], [7, 8, 9, 10]])).logits
    logits.log_softmax(-1)[..., 2].sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def test_a_policy_has_the_same_logits_and_gradients(large_enough: None) -> None:
    model = small_qwen3(vocab_size=40, initializer_range=0.3, pad_token_id=None)
    expected = _gradients(model)
    count = use_cpu_products(model)
    assert count == sum(isinstance(module, nn.Linear) for module in model.modules())
    for name, gradient in _gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5)


def test_a_layer_with_a_bias_learns_what_torchs_own_learns() -> None:
    layer = nn.Linear(24, 40)
    other: Any = copy.deepcopy(layer)
    other.__class__ = CpuLinear
    states = [torch.randn(3, 5, 24, requires_grad=True) for _ in range(2)]
    states[1].data.copy_(states[0].data)
    for one, each in zip((layer, other), states, strict=True):
        one(each).square().sum().backward()
    torch.testing.assert_close(states[1].grad, states[0].grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(other.weight.grad, layer.weight.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(other.bias.grad, layer.bias.grad, rtol=1e-4, atol=1e-4)


def test_frozen_weights_get_no_gradient_and_other_types_are_torchs(large_enough: None) -> None:
    layer: Any = nn.Linear(24, 40, bias=False)
    layer.__class__ = CpuLinear
    layer.weight.requires_grad_(False)
    states = torch.randn(2, 24, requires_grad=True)
    layer(states).sum().backward()
    assert layer.weight.grad is None
    assert states.grad is not None
    assert layer.double()(states.double()).dtype == torch.float64


def test_a_copy_of_a_layer_computes_with_the_weights_of_the_copy(large_enough: None) -> None:
    model = nn.Sequential(nn.Linear(24, 40))
    use_cpu_products(model)
    copied: Any = copy.deepcopy(model)
    with torch.no_grad():
        copied[0].weight.zero_()
        copied[0].bias.zero_()
        assert float(copied(torch.ones(1, 24)).abs().sum()) == 0.0
        assert float(model(torch.ones(1, 24)).abs().sum()) > 0.0


def test_layers_that_learn_by_onednn_are_packed_for_sampling(large_enough: None) -> None:
    model = nn.Sequential(nn.Linear(24, 40))
    use_cpu_products(model)
    assert PackedLinears(model).weights == 24 * 40


def test_a_small_model_is_left_as_it_is() -> None:
    assert use_cpu_products(nn.Sequential(nn.Linear(24, 40))) == 0


def test_matrices_of_any_strides_are_multiplied(large_enough: None) -> None:
    left, right = torch.randn(30, 20), torch.randn(50, 20)
    torch.testing.assert_close(product(left, right.t()), left @ right.t(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(product(left.t(), left), left.t() @ left, rtol=1e-5, atol=1e-5)
    target = torch.ones(30, 50)
    add_product(target, left, right.t())
    torch.testing.assert_close(target, 1 + left @ right.t(), rtol=1e-5, atol=1e-5)
