"""Mixtures of experts in vLLM's CPU build: it samples from the weights that it was given last."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, MixtralConfig, Qwen3MoeConfig
from vllm_runs import make_vllm_engine

from masa.config import load_config
from masa.model.loading import load_tokenizer
from masa.rollout.factory import make_engine
from masa.rollout.weights.agreement import check_agreement

pytest.importorskip("vllm", reason="vLLM is not installed")

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 1024,
    "num_experts_per_tok": 2,
    "initializer_range": 0.15,
}


def _policy(family: str, vocabulary: int = 203) -> Any:
    torch.manual_seed(0)
    config = {
        # Its checkpoints have other names than its modules in transformers.
        "mixtral": lambda: MixtralConfig(vocab_size=vocabulary, num_local_experts=4, **SHAPE),
        "qwen3_moe": lambda: Qwen3MoeConfig(vocab_size=vocabulary, num_experts=4, moe_intermediate_size=64, **SHAPE),
    }[family]()
    return AutoModelForCausalLM.from_config(config).float().eval()


def _require_every_update(engine: Any, policy: Any) -> None:
    engine.update_weights(policy, version=1)
    check_agreement(engine, policy, stop_ids=[1]).require()
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "experts" in name:
                parameter.mul_(1.3)
    # The check sees experts: with the old ones it does not hold.
    assert not check_agreement(engine, policy, stop_ids=[1]).holds
    engine.update_weights(policy, version=2)
    check_agreement(engine, policy, stop_ids=[1]).require()


@pytest.mark.parametrize("family", ["qwen3_moe", "mixtral"])
def test_experts_follow_every_update(family: str) -> None:
    policy = _policy(family)
    engine = make_vllm_engine(policy, 1)
    try:
        _require_every_update(engine, policy)
    finally:
        engine.close()


@pytest.mark.slow
@pytest.mark.timeout(900)  # a server takes half a minute to start, and longer on a machine that is busy
@pytest.mark.parametrize("family", ["qwen3_moe", "mixtral"])
def test_experts_in_a_server_follow_every_update(family: str) -> None:
    options = (
        "rollout.engine=vllm_server",
        "rollout.kv_cache_gb=0.2",
        "rollout.max_batch_size=16",
        "rollout.max_model_len=512",
        "rollout.server_wait=600",
    )
    config = load_config(None, list(options))
    tokenizer = load_tokenizer(config.model)
    policy = _policy(family, len(tokenizer))
    engine = make_engine(config.rollout, policy, stop_ids=[1], tokenizer=tokenizer)
    try:
        _require_every_update(engine, policy)
    finally:
        engine.close()
