"""Mixtures of experts in vLLM's CPU build: it samples from the weights that it was given last."""

import pytest
import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM
from vllm_runs import make_vllm_engine

from masa.rollout.agreement import check_agreement

pytest.importorskip("vllm", reason="vLLM is not installed")


def test_experts_follow_every_update() -> None:
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=203,
        hidden_size=64,
        intermediate_size=64,
        moe_intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=1024,
        num_experts=4,
        num_experts_per_tok=2,
        initializer_range=0.15,
    )
    policy = Qwen3MoeForCausalLM(config).float().eval()
    engine = make_vllm_engine(policy, 1)
    try:
        check_agreement(engine, policy, stop_ids=[1]).require()
        with torch.no_grad():
            for name, parameter in policy.named_parameters():
                if "experts" in name:
                    parameter.mul_(1.3)
        engine.update_weights(policy, version=1)
        check_agreement(engine, policy, stop_ids=[1]).require()
    finally:
        engine.close()
