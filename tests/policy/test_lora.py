"""LoRA: only adapters are trained, and what is exported is the merged model."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from saved_folders import save_adapters
from tiny import tiny_model
from transformers import AutoModelForCausalLM

from masa.config import ConfigError
from masa.config.schema import LoraSection, ModelSection
from masa.model.copies import plain_copy
from masa.model.loading import load_policy
from masa.model.lora import add_adapters, has_adapters
from masa.model.weights import policy_weights

pytest.importorskip("peft", reason="needs peft (the extra lora)")


@pytest.fixture
def adapted() -> Any:
    """The embedded policy with adapters that have learned something."""
    torch.manual_seed(0)
    model = load_policy(ModelSection(lora=LoraSection(rank=4, alpha=8)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    return model


def _logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=torch.tensor([[3, 5, 7, 9]])).logits
    return logits


def test_only_adapters_are_trained(adapted: Any) -> None:
    trained = [name for name, one in adapted.named_parameters() if one.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    layers = adapted.config.num_hidden_layers
    assert len(trained) == layers * 7 * 2  # q, k, v, o, gate, up, down: A and B each


def test_at_the_start_the_policy_is_the_base_model() -> None:
    torch.testing.assert_close(
        _logits(load_policy(ModelSection(lora=LoraSection(rank=4)))), _logits(load_policy(ModelSection()))
    )


def test_the_merged_export_is_loaded_by_transformers_and_says_the_same(adapted: Any, tmp_path: Path) -> None:
    adapted.save_pretrained(tmp_path, state_dict=dict(policy_weights(adapted)))
    exported = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert set(exported.state_dict()) == set(load_policy(ModelSection()).state_dict())
    torch.testing.assert_close(_logits(exported), _logits(adapted), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(_logits(exported), _logits(load_policy(ModelSection())), atol=1e-2)


def test_the_saved_adapters_are_loaded_by_peft_onto_the_base_model(adapted: Any, tmp_path: Path) -> None:
    from peft import PeftModel

    save_adapters(adapted, tmp_path)
    together = PeftModel.from_pretrained(load_policy(ModelSection()), tmp_path / "adapter")
    torch.testing.assert_close(_logits(together), _logits(adapted), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["qwen3_moe", "mixtral", "glm4_moe", "deepseek_v3"])
def test_adapters_of_experts_and_of_dense_layers_beside_them_are_loaded_by_peft(family: str, tmp_path: Path) -> None:
    from peft import PeftModel

    base = tiny_model(family)
    policy = copy.deepcopy(base)
    add_adapters(policy, LoraSection(rank=2))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    save_adapters(policy, tmp_path)
    plain = _logits(base)
    together: Any = PeftModel.from_pretrained(base, tmp_path / "adapter")
    torch.testing.assert_close(_logits(together), _logits(policy), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(_logits(policy), plain, atol=0.1)


def test_the_model_to_sample_from_has_no_adapters(adapted: Any) -> None:
    whole = plain_copy(adapted)
    own = dict(whole.named_parameters())
    for name, tensor in policy_weights(adapted):
        own[name].copy_(tensor)
    assert not has_adapters(whole)
    torch.testing.assert_close(_logits(whole), _logits(adapted), rtol=1e-4, atol=1e-4)


def test_layers_that_do_not_exist_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"model.lora.targets: found \['c_attn'\].*q_proj"):
        add_adapters(load_policy(ModelSection()), LoraSection(rank=4, targets=["c_attn"]))
