"""vLLM in this process with LoRA: the base model is handed over once, and every update the adapters alone."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from vllm_runs import make_vllm_engine, rows, train

from masa.config import ConfigError
from masa.config.schema import LoraSection
from masa.model.lora import add_adapters
from masa.model.weights import policy_weights
from masa.rollout import RolloutRequest
from masa.rollout.weights.agreement import DisagreementError, check_agreement

pytest.importorskip("peft", reason="needs peft (the extra lora)")

STOP = 1
REQUESTS = [
    RolloutRequest(f"p{length}", "solution", tuple(2 + (7 * at + length) % 200 for at in range(length)), (1, 2, 3), 12)
    for length in (3, 40, 310)
]


def learn(policy: Any, seed: int) -> None:
    """Change every adapter, as an update does, only more."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


@pytest.fixture(scope="module")
def policy(make_policy: Callable[..., Any]) -> Any:
    model = make_policy()
    add_adapters(model, LoraSection(rank=4, alpha=12))
    return model


@pytest.fixture(scope="module")
def engine(policy: Any) -> Iterator[Any]:
    engine = make_vllm_engine(policy, STOP)
    yield engine
    engine.close()


def _values(rollouts: Any) -> list[Any]:
    return [(one.token_ids, one.logprobs, one.finish_reason) for group in rollouts for one in group]


def test_the_engine_samples_from_the_policy_after_updates_that_send_adapters_alone(
    engine: Any, policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_reload", lambda weights: pytest.fail("the base model was sent again"))
    for version in range(1, 4):
        learn(policy, version)
        engine.update_weights(policy, version)
        assert engine.samples_with_adapter
        agreement = check_agreement(engine, policy, stop_ids=[STOP])
        assert agreement.weights_equal is True
        assert agreement.difference < 1e-5
    assert {one.weight_version for group in engine.generate(REQUESTS) for one in group} == {3}


def test_an_adapter_that_was_not_sent_is_seen_in_checksum_and_logprobs(engine: Any, policy: Any) -> None:
    engine.update_weights(policy, 4)
    learn(policy, 5)
    agreement = check_agreement(engine, policy, stop_ids=[STOP])
    assert agreement.weights_equal is False
    assert agreement.difference > 0.01
    with pytest.raises(DisagreementError):
        agreement.require()


def test_an_engine_that_failed_is_built_again_with_its_adapter(engine: Any, policy: Any) -> None:
    engine.update_weights(policy, 6)
    expected = _values(engine.generate(REQUESTS))

    def failing() -> Any:
        raise RuntimeError("injected")

    engine._engine.step = failing
    assert _values(engine.generate(REQUESTS)) == expected
    assert check_agreement(engine, policy, stop_ids=[STOP]).holds


def test_merged_weights_can_be_given_in_between(engine: Any, policy: Any) -> None:
    learn(policy, 7)
    engine.update_weights(policy_weights(policy), 7)
    assert not engine.samples_with_adapter
    assert check_agreement(engine, policy, stop_ids=[STOP]).holds
    learn(policy, 8)
    engine.update_weights(policy, 8)
    assert engine.samples_with_adapter
    assert check_agreement(engine, policy, stop_ids=[STOP]).holds


def test_an_architecture_without_adapters_in_vllm_is_given_merged_weights_and_says_so() -> None:
    config = AutoConfig.for_model("gpt2", vocab_size=203, n_embd=64, n_layer=2, n_head=2, n_positions=512)
    torch.manual_seed(0)
    policy: Any = AutoModelForCausalLM.from_config(config).float().eval()
    add_adapters(policy, LoraSection(rank=4))
    learn(policy, 1)
    with pytest.raises(ConfigError, match=r"rollout.lora: found adapter, allowed here: merged"):
        make_vllm_engine(policy, STOP, "rollout.lora=adapter")
    with pytest.warns(UserWarning, match="rollout.lora: the engine is given merged weights"):
        engine = make_vllm_engine(policy, STOP)
    try:
        assert not engine.samples_with_adapter
        # vLLM keeps GPT-2's matrices the other way round, which the checksum does not know.
        assert check_agreement(engine, policy, stop_ids=[STOP]).difference < 1e-4
    finally:
        engine.close()


def test_bfloat16_agrees_with_adapters_and_merged(make_policy: Callable[..., Any]) -> None:
    policy = make_policy().to(torch.bfloat16)
    add_adapters(policy, LoraSection(rank=4, alpha=12))
    learn(policy, 1)
    for form in ("adapter", "merged"):
        engine = make_vllm_engine(policy, STOP, f"rollout.lora={form}")
        try:
            agreement = check_agreement(engine, policy, stop_ids=[STOP])
            assert agreement.weights_equal is True
            assert agreement.difference < 0.1
        finally:
            engine.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_sends_adapters_agrees_at_every_step_and_is_resumed_exactly(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ("rollout.engine=vllm", "model.lora.rank=4", "optimizer.learning_rate=0.01", "run.steps=3")
    train(folder, *options)
    last = folder / "checkpoints" / "step_000003"
    whole, weights = rows(folder), (last / "model.safetensors").read_bytes()
    assert max(row["rollout/check_difference"] for row in whole if "rollout/check_difference" in row) < 1e-4
    shutil.rmtree(last)
    train(folder, *options, "--resume")
    assert rows(folder) == whole
    assert (last / "model.safetensors").read_bytes() == weights
