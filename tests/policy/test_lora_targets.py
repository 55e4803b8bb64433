"""What LoRA reaches, by kind of model: it is named, it is trained, and merged it says the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from saved_folders import save_adapters
from tiny import tiny_model
from transformers import AutoModelForCausalLM

from masa.config import ConfigError
from masa.config.schema import LoraSection
from masa.model import lora
from masa.model.buffers import persistent_buffers
from masa.model.copies import plain_copy
from masa.model.lora import adapts_experts, add_adapters, describe_adapters
from masa.model.weights import policy_weights

pytest.importorskip("peft", reason="needs peft (the extra lora)")

MLP = ("down_proj", "gate_proj", "up_proj")
ATTENTION = ("k_proj", "o_proj", "q_proj", "v_proj")
FUSED = ("down_proj", "gate_up_proj")
# By model type: the layers that get adapters, and whether the experts are among them.
KINDS: dict[str, tuple[tuple[str, ...], bool]] = {
    "qwen3": ((*ATTENTION, *MLP), False),
    "gpt2": (("c_attn", "c_fc", "c_proj"), False),
    "qwen3_moe": ((*ATTENTION, *FUSED), True),
    "mixtral": ((*ATTENTION, *FUSED), True),
    "gpt_oss": ((*ATTENTION, *FUSED), True),
    "glm4_moe": ((*ATTENTION, *MLP, "gate_up_proj"), True),
    "mamba": (("in_proj",), False),
}


def make_model(kind: str, **changes: Any) -> Any:
    return tiny_model(kind, attention="eager", **changes)


def learn_something(model: Any) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)


def logprobs(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.arange(3, 23)[None]).logits.log_softmax(-1)
    return found


def adapted_names(model: Any) -> set[str]:
    """Last names of the layers and parameters that have an adapter."""
    layers = [(name, module) for name, module in model.named_modules() if hasattr(module, "lora_A")]
    return {getattr(module, "parameter_name", name.rpartition(".")[2]) for name, module in layers}


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_are_on_the_layers_named_are_all_trained_and_merge_to_the_same_policy(kind: str) -> None:
    expected, with_experts = KINDS[kind]
    model = make_model(kind)
    before = logprobs(model)
    add_adapters(model, LoraSection(rank=4))
    assert adapted_names(model) == set(expected)
    assert adapts_experts(model) == with_experts
    learn_something(model)
    adapted = logprobs(model)
    assert float((adapted - before).abs().max()) > 0.1

    merged = plain_copy(model)
    own = {**dict(merged.named_parameters()), **persistent_buffers(merged)}
    sent = dict(policy_weights(model))
    assert set(sent) >= set(own)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(sent[name])
    torch.testing.assert_close(logprobs(merged), adapted, rtol=0, atol=1e-4)

    model(input_ids=torch.arange(3, 23)[None]).logits.square().sum().backward()
    assert [name for name, one in model.named_parameters() if one.requires_grad and one.grad is None] == []


def test_the_line_says_whether_experts_are_reached() -> None:
    everything, attention = make_model("qwen3_moe"), make_model("qwen3_moe")
    add_adapters(everything, LoraSection(rank=4))
    add_adapters(attention, LoraSection(rank=4, targets=["q_proj", "o_proj"]))
    assert "gate_up_proj" in str(describe_adapters(everything))
    assert str(describe_adapters(everything)).endswith("the experts have adapters")
    assert str(describe_adapters(attention)).endswith("the experts stay as they are, without adapters")
    assert describe_adapters(make_model("qwen3")) is None


def test_the_matrices_of_an_experts_checkpoint_stand_for_the_parameter_they_are_fused_into() -> None:
    model = make_model("qwen3_moe")
    add_adapters(model, LoraSection(rank=4, targets=["q_proj", "gate_proj", "up_proj"]))
    assert adapted_names(model) == {"q_proj", "gate_up_proj"}
    with pytest.raises(ConfigError, match=r"model.lora.targets: found \['gate_proj'\].*in the experts.*gate_up_proj"):
        add_adapters(make_model("qwen3_moe"), LoraSection(rank=4, targets=["gate_proj"]))


def test_saved_adapters_of_experts_are_loaded_by_peft_onto_the_base_model(tmp_path: Path) -> None:
    from peft import PeftModel

    model = make_model("qwen3_moe")
    add_adapters(model, LoraSection(rank=4))
    learn_something(model)
    save_adapters(model, tmp_path)
    together = PeftModel.from_pretrained(make_model("qwen3_moe"), tmp_path / "adapter")
    torch.testing.assert_close(logprobs(together), logprobs(model), rtol=0, atol=1e-5)


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_head_and_embedding_are_refused_as_targets(target: str) -> None:
    with pytest.raises(ConfigError, match=rf"model.lora.targets: found \['{target}'\], allowed: names of .*q_proj"):
        add_adapters(make_model("qwen3", tie_word_embeddings=True), LoraSection(rank=4, targets=[target]))


def test_what_reads_no_text_has_no_adapters() -> None:
    model = make_model("gemma3")
    assert any("vision_tower" in name and name.endswith("q_proj.weight") for name, _ in model.named_parameters())
    add_adapters(model, LoraSection(rank=4, targets=["q_proj", "down_proj"]))
    trained = [name for name, one in model.named_parameters() if one.requires_grad]
    assert len(trained) == 2 * 2 * model.config.get_text_config().num_hidden_layers
    assert all("language_model" in name for name in trained)


def test_experts_are_refused_by_name_where_parameters_are_split_and_left_out_by_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lora, "splits_parameters", lambda: True)
    with pytest.raises(ConfigError, match=r"model.lora.targets: found \['gate_up_proj'\].*ZeRO 3"):
        add_adapters(make_model("qwen3_moe"), LoraSection(rank=4, targets=["gate_up_proj"]))
    model = make_model("qwen3_moe")
    add_adapters(model, LoraSection(rank=4))
    assert adapted_names(model) == set(ATTENTION)


class _Grouped(torch.nn.Linear):
    """As DeepSeek-V4's output projection: each half of the input has rows of its own."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        halves = input.chunk(2, -1)
        return torch.cat([half @ rows.T for half, rows in zip(halves, self.weight.chunk(2), strict=True)], -1)


class _Renamed(torch.nn.Linear):
    """As Falcon's: a product like any other, in other words."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input @ self.weight.T


def test_subclasses_of_linear_layers_are_adapted_where_they_compute_the_same() -> None:
    model = make_model("qwen3")
    for layer in model.model.layers:
        layer.self_attn.o_proj = _Grouped(32, 64, bias=False)
        layer.self_attn.k_proj = _Renamed(64, 32, bias=False)
    add_adapters(model, LoraSection(rank=4))
    assert adapted_names(model) == {*ATTENTION, *MLP} - {"o_proj"}


def test_a_merged_export_holds_persistent_buffers(tmp_path: Path) -> None:
    model = make_model("glm4_moe")
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.uniform_(-1, 1)  # what a router has learned before
    add_adapters(model, LoraSection(rank=4))
    learn_something(model)
    model.save_pretrained(tmp_path, state_dict=dict(policy_weights(model)))
    exported: Any = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    torch.testing.assert_close(logprobs(exported), logprobs(model), rtol=0, atol=1e-4)
    biases = {name: one for name, one in exported.named_buffers() if name.endswith("e_score_correction_bias")}
    assert biases
    assert all(torch.equal(one, dict(model.named_buffers())[name]) for name, one in biases.items())
