"""Parameters that a forward pass over text does not reach are frozen: in no optimiser, and in no checkpoint twice."""

import copy
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from saved_folders import optimizer_tensors, read_policy
from small_policies import small_qwen3
from tiny import tiny_model
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from masa.checkpointing.saving import TRAINING_FOLDER, write_policy
from masa.config.algorithm import OptimizerSection
from masa.embedded import DATA_DIRECTORY
from masa.policy.batching.collate import TokenRow
from masa.policy.batching.row_checks import own_logprobs
from masa.policy.forward.policy_module import PolicyModule
from masa.policy.forward.unreached import freeze_unreached
from masa.policy.objective.parameters import LossParameters
from masa.policy.update.optimizer import make_optimizer
from masa.policy.update.updater import PolicyUpdater, TrainingRow

_ROWS = [TrainingRow((5, 6, 7), (9, 8, 2 + index), (-4.0,) * 3, 1.0 - 2 * index) for index in range(2)]


def _trained(module: nn.Module) -> set[str]:
    return {name for name, one in module.named_parameters() if one.requires_grad}


def test_towers_for_images_are_frozen_and_the_text_decoder_is_not() -> None:
    module = PolicyModule(tiny_model("gemma3"), temperature=1.0)
    everything = _trained(module)
    frozen = set(freeze_unreached(module))
    assert frozen == everything - _trained(module)
    assert frozen == {name for name in everything if "vision_tower" in name or "multi_modal_projector" in name}
    assert len(frozen) > 10
    optimizer = make_optimizer(module, OptimizerSection())
    held = {id(one) for group in optimizer.param_groups for one in group["params"]}
    assert held == {id(one) for name, one in module.named_parameters() if name not in frozen}


def test_a_head_of_another_task_is_frozen_and_what_was_frozen_before_is_not_named() -> None:
    model = small_qwen3()
    model.score = nn.Linear(16, 1)
    model.value = nn.Linear(16, 1).requires_grad_(False)
    module = PolicyModule(model, temperature=1.0)
    assert freeze_unreached(module) == ["model.score.weight", "model.score.bias"]
    assert freeze_unreached(module) == []


class _Experts(nn.Module):
    """A mixture of experts as a list of modules; no token of a test is sent to the second."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.experts = nn.ModuleList([one, other])

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.experts[0](hidden)
        return output


def test_experts_that_no_token_of_the_probe_was_sent_to_are_trained() -> None:
    model, donor = small_qwen3(), small_qwen3(seed=1)
    layer: Any = model.model.layers[1]
    layer.mlp = _Experts(layer.mlp, donor.model.layers[1].mlp)
    module = PolicyModule(model, temperature=1.0)
    before = _trained(module)
    assert any("experts.1." in name for name in before)
    assert freeze_unreached(module) == []
    assert _trained(module) == before


def test_the_values_of_a_model_with_frozen_towers_are_saved_once_and_restored(tmp_path: Path) -> None:
    def updater(seed: int) -> PolicyUpdater:
        module = PolicyModule(tiny_model("gemma3", seed=seed, attention="sdpa"), temperature=1.0)
        freeze_unreached(module)
        section = OptimizerSection(warmup_steps=0, share_prompts="off")
        return PolicyUpdater(
            Accelerator(cpu=True),
            module,
            make_optimizer(module, section),
            section,
            LossParameters(),
            constant_length=8,
            total_updates=4,
        )

    trained = updater(0)
    trained.update([_ROWS])
    assert not any(name.startswith("value|") for name in optimizer_tensors(trained))
    assert list(trained.value_parts("optimizer")) == []
    folder = tmp_path / "saved"
    folder.mkdir()
    policy: Any = trained.module
    write_policy(folder, policy.model, AutoTokenizer.from_pretrained(DATA_DIRECTORY), trained)
    size = {
        path: sum(one.stat().st_size for one in path.glob("*.safetensors"))
        for path in (folder, folder / TRAINING_FOLDER)
    }
    # Adam's two moments of what is trained, and nothing else.
    assert size[folder / TRAINING_FOLDER] < 2.1 * size[folder]
    other = updater(1)
    read_policy(folder, other, trained.state_dict())
    row = TokenRow((5, 6, 7), (9, 8, 2))
    restored: Any = other.module
    loaded = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa").eval()
    expected = own_logprobs(policy.model, row, 1.0)
    for one in (restored.model, loaded):
        torch.testing.assert_close(own_logprobs(one, row, 1.0), expected, rtol=0, atol=1e-6)


class _Remembering(nn.Module):
    """A layer that keeps what it computed last."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.state: torch.Tensor | None = None

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.inner(hidden)
        self.state = output
        return output


def test_a_model_that_keeps_the_state_of_its_last_pass_can_still_be_copied() -> None:
    model = small_qwen3()
    model.model.layers[0].mlp = _Remembering(model.model.layers[0].mlp)
    module = PolicyModule(model, temperature=1.0)
    assert freeze_unreached(module) == []
    reference: Any = copy.deepcopy(module)
    assert reference.model.model.layers[0].mlp.state is not None
