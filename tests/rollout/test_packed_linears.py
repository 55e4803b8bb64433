"""Packed copies of weights on a CPU: the same samples, always of the weights that the model has now."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_policies import small_qwen3
from torch import nn

from masa.config import ConfigError
from masa.model import packed_linears as packing
from masa.model.packed_linears import PackedLinears, has_bfloat16_products, packed_linears, packing_is_known
from masa.policy.objective.algorithm import require_corrected_type
from masa.policy.objective.parameters import LossParameters
from masa.policy.objective.presets import Algorithm, preset
from masa.rollout.engine import Rollout, RolloutRequest
from masa.rollout.transformers.engine import TransformersEngine
from masa.rollout.vllm import linears as vllm_linears

needs_packing = pytest.mark.skipif(not packing_is_known(), reason="torch packs no weights for oneDNN on this processor")
needs_bfloat16 = pytest.mark.skipif(
    not (packing_is_known() and has_bfloat16_products()), reason="this processor has no products in bfloat16"
)


@pytest.fixture
def model() -> Any:
    return small_qwen3(vocab_size=40, initializer_range=0.3, pad_token_id=None)


def _samples(engine: TransformersEngine) -> list[Rollout]:
    requests = [
        RolloutRequest(str(place), "solution", prompt, tuple(range(8 * place, 8 * place + 8)), 24)
        for place, prompt in enumerate([(5, 6, 7), (8,), (9, 10, 11, 12, 13, 14)])
    ]
    return [one for group in engine.generate(requests) for one in group]


def _packed(model: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> TransformersEngine:
    monkeypatch.setattr(packing, "LEAST_WEIGHTS", 0)
    engine = TransformersEngine(model, stop_ids=[1], max_batch_size=6, **options)
    assert engine._linears is not None
    return engine


def _farthest(model: Any, rollouts: list[Rollout]) -> float:
    """The largest distance, in nats, of a rollout's log-probs from the model's own."""
    distances = []
    for one in rollouts:
        ids = torch.tensor([[*one.prompt_ids, *one.token_ids]])
        with torch.no_grad():
            own = model(input_ids=ids).logits[0, len(one.prompt_ids) - 1 : -1].log_softmax(-1)
        chosen = own.gather(1, torch.tensor(one.token_ids)[:, None])[:, 0]
        distances.append(float((torch.tensor(one.logprobs) - chosen).abs().max()))
    return max(distances)


@needs_packing
def test_packed_weights_give_the_tokens_and_log_probs_that_the_weights_themselves_give(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = _samples(TransformersEngine(model, stop_ids=[1], max_batch_size=6))
    packed = _samples(_packed(model, monkeypatch))
    assert [one.token_ids for one in packed] == [one.token_ids for one in plain]
    assert _farthest(model, packed) < 1e-5


@needs_packing
@pytest.mark.parametrize("change", ["in place", "behind torch's back, and told"])
def test_samples_come_from_the_weights_that_the_model_has_now(
    model: Any, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    engine = _packed(model, monkeypatch)
    _samples(engine)
    for parameter in model.parameters():
        if change == "in place":
            with torch.no_grad():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        else:
            parameter.data.mul_(0.7)  # leaves the version of the tensor as it was
    if change != "in place":
        engine.update_weights(model, 1)
    assert _farthest(model, _samples(engine)) < 1e-5


@needs_packing
def test_the_model_computes_with_its_own_weights_and_learns_as_soon_as_sampling_ends(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = _packed(model, monkeypatch)
    linears = engine._linears
    assert linears is not None
    with pytest.raises(KeyError), linears.used():
        raise KeyError
    _samples(engine)
    assert not any("forward" in vars(module) for module in model.modules())
    model(input_ids=torch.tensor([[3, 4]])).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@needs_packing
def test_a_small_model_and_a_layer_with_a_forward_of_its_own_are_left_alone(model: Any) -> None:
    assert packed_linears(model) is None
    first = model.model.layers[0].mlp.up_proj
    first.forward = lambda states: states
    assert first not in PackedLinears(model)._layers


@needs_packing
def test_biases_and_inputs_of_any_shape_are_taken_along() -> None:
    layer = nn.Linear(24, 40)
    for shape in ((1, 24), (70, 24), (3, 5, 24), (0, 24)):
        states = torch.randn(shape)
        expected = layer(states)
        with PackedLinears(layer).used():
            torch.testing.assert_close(layer(states), expected.detach(), rtol=1e-5, atol=1e-5)


@needs_bfloat16
def test_products_in_bfloat16_are_near_and_keep_the_head_in_the_models_type(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = _packed(model, monkeypatch, dtype=torch.bfloat16)
    assert 1e-5 < _farthest(model, _samples(engine)) < 0.5
    assert engine.weight_dtype == torch.bfloat16
    assert engine.checksums() == [], "the weights that it computes with are not the policy's"
    head, states = model.get_output_embeddings(), torch.randn(4, model.config.hidden_size)
    expected = head(states)
    with PackedLinears(model, torch.bfloat16).used():
        torch.testing.assert_close(head(states), expected, rtol=1e-5, atol=1e-5)


def test_products_in_bfloat16_are_refused_where_the_processor_has_none(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "has_bfloat16_products", lambda: False)
    with pytest.raises(ConfigError, match=r"found bfloat16, allowed for the engine transformers here: policy"):
        TransformersEngine(model, stop_ids=[1], dtype=torch.bfloat16)


def test_another_type_than_the_policys_needs_importance_weights() -> None:
    grpo = preset("grpo")
    corrected = Algorithm(grpo.advantage, LossParameters(tis_cap=2.0))
    require_corrected_type("policy", "float32", grpo)
    require_corrected_type("float32", "float32", grpo)
    require_corrected_type("bfloat16", "float32", corrected)
    with pytest.raises(ConfigError, match="found 'bfloat16' with a policy in float32"):
        require_corrected_type("bfloat16", "float32", grpo)


class _VllmLayer(nn.Module):
    """What vLLM's linear layers are on a CPU: a weight, and the function that computes them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(48, 24), requires_grad=False)
        self.cpu_linear: Callable[..., Any] = nn.functional.linear


@needs_packing
def test_vllms_layers_are_packed_again_after_an_update(monkeypatch: pytest.MonkeyPatch) -> None:
    model, states, bias = nn.Sequential(_VllmLayer(), nn.LayerNorm(48)), torch.randn(5, 24), torch.randn(48)
    layer: Any = model[0]
    assert vllm_linears.pack_linears(model) == 0
    assert layer.cpu_linear is nn.functional.linear, "a small model gains nothing"
    monkeypatch.setattr(vllm_linears, "LEAST_WEIGHTS", 0)
    for _ in range(2):
        layer.weight.mul_(1.5)
        assert vllm_linears.pack_linears(model) == 1
        expected = nn.functional.linear(states, layer.weight, bias)
        torch.testing.assert_close(layer.cpu_linear(states, None, bias), expected, rtol=1e-5, atol=1e-5)
