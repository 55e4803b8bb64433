"""Which engines sample with LoRA's adapters, and which with a merged copy."""

from typing import Any

import pytest
import torch
from small_policies import small_qwen3
from transformers import AutoConfig, AutoModelForCausalLM

from masa.config import ConfigError, load_config
from masa.config.schema import LoraSection, RolloutSection
from masa.model.lora import add_adapters
from masa.rollout.factory import make_engine
from masa.rollout.weights.adapters import adapter_arguments, vllm_takes_adapters
from masa.rollout.weights.agreement import check_agreement

pytest.importorskip("peft", reason="needs peft (the extra lora)")

STOP = 1


def section(*options: str) -> RolloutSection:
    return load_config(None, ["rollout.engine=transformers", *options]).rollout


@pytest.fixture
def policy() -> Any:
    model = small_qwen3(initializer_range=0.2)
    add_adapters(model, LoraSection(rank=4))
    learn(model)
    return model


@pytest.fixture(scope="module")
def experts() -> Any:
    config = AutoConfig.for_model(
        "qwen3_moe",
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
    )
    model: Any = AutoModelForCausalLM.from_config(config)
    add_adapters(model, LoraSection(rank=4))
    return model


def learn(model: Any) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.1 * torch.randn(parameter.shape))


def test_the_transformers_engine_samples_from_the_policy_itself_and_keeps_no_copy(policy: Any) -> None:
    engine: Any = make_engine(section(), policy, stop_ids=[STOP])
    assert engine.model is policy
    learn(policy)
    engine.update_weights(policy, 1)
    assert engine.weight_version == 1
    agreement = check_agreement(engine, policy, stop_ids=[STOP])
    assert agreement.weights_equal is True
    assert agreement.difference < 1e-5


@pytest.mark.parametrize("options", [("rollout.lora=merged",), ("rollout.async_steps=1",)])
def test_a_merged_copy_is_kept_where_it_is_asked_for_and_where_the_policy_learns_meanwhile(
    policy: Any, options: tuple[str, ...]
) -> None:
    engine: Any = make_engine(section(*options), policy, stop_ids=[STOP])
    assert engine.model is not policy
    assert check_agreement(engine, policy, stop_ids=[STOP]).holds
    learn(policy)
    assert not check_agreement(engine, policy, stop_ids=[STOP]).holds
    engine.update_weights(policy, 1)
    assert check_agreement(engine, policy, stop_ids=[STOP]).holds


def test_experts_with_adapters_are_sampled_from_a_merged_copy(experts: Any) -> None:
    engine: Any = make_engine(section(), experts, stop_ids=[STOP])
    assert engine.model is not experts
    assert check_agreement(engine, experts, stop_ids=[STOP]).holds


def test_adapters_that_are_asked_for_and_not_possible_are_refused_by_name(policy: Any, experts: Any) -> None:
    with pytest.raises(ConfigError, match=r"rollout.lora: found adapter, .*async_steps"):
        make_engine(section("rollout.lora=adapter", "rollout.async_steps=1"), policy, stop_ids=[STOP])
    with pytest.raises(ConfigError, match=r"rollout.lora: found adapter, .*experts"):
        make_engine(section("rollout.lora=adapter"), experts, stop_ids=[STOP])
    with pytest.raises(ConfigError, match=r"rollout.lora: found adapter, .*sleep_level=2"):
        vllm_takes_adapters(section("rollout.lora=adapter", "rollout.sleep_level=2"), policy)
    with pytest.raises(ConfigError, match=r"rollout.lora: found adapter, .*mixture of experts"):
        vllm_takes_adapters(section("rollout.lora=adapter"), experts)


def test_vllm_is_given_adapters_where_it_can_take_them(policy: Any, experts: Any) -> None:
    assert vllm_takes_adapters(section(), policy)
    assert adapter_arguments(policy)["max_lora_rank"] == 8
    assert not vllm_takes_adapters(section("rollout.lora=merged"), policy)
    assert not vllm_takes_adapters(section("rollout.sleep_level=2"), policy)
    assert not vllm_takes_adapters(section(), experts)
    assert not vllm_takes_adapters(section(), small_qwen3())
