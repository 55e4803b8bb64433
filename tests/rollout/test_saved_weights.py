"""Weights for vLLM are those of a checkpoint that the program which trains would save."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from masa.model.weights import policy_weights
from masa.rollout.weights.saved_weights import SavedWeights

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "num_experts_per_tok": 2,
}
EXPERTS = {
    "mixtral": {"num_local_experts": 4},
    "qwen3_moe": {"num_experts": 4, "moe_intermediate_size": 32},
    "olmoe": {"num_experts": 4},
}


def _policy(family: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SHAPE, **changes)).float()


@pytest.mark.parametrize("family", EXPERTS)
@pytest.mark.parametrize("loaded", [False, True])
def test_they_have_the_names_and_values_of_a_saved_checkpoint(family: str, loaded: bool, tmp_path: Path) -> None:
    policy = _policy(family, **EXPERTS[family])
    policy.save_pretrained(tmp_path)
    if loaded:
        policy = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    saved = load_file(tmp_path / "model.safetensors")
    found = dict(SavedWeights(policy)(policy_weights(policy)))
    assert saved.keys() == found.keys()
    assert saved.keys() != dict(policy.named_parameters()).keys()
    for name, tensor in saved.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


def test_a_model_whose_checkpoints_hold_its_own_tensors_is_passed_through() -> None:
    policy = _policy("qwen3")
    weights = list(policy_weights(policy))
    assert all(a is b for a, b in zip(SavedWeights(policy)(weights), weights, strict=True))
