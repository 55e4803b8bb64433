"""What a checkpoint holds of the policy, and what goes on from it."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from saved_folders import optimizer_tensors, read_policy
from small_policies import small_qwen3
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from masa.checkpointing.saving import TRAINING_FOLDER, write_policy, write_settings
from masa.config.algorithm import OptimizerSection
from masa.embedded import DATA_DIRECTORY
from masa.policy.forward.policy_module import PolicyModule
from masa.policy.objective.parameters import LossParameters
from masa.policy.update.optimizer import make_optimizer
from masa.policy.update.updater import PolicyUpdater, TrainingRow

_ROWS = [TrainingRow((5, 6, 7), (9, 8, 2 + index), (-4.0,) * 3, 1.0 - 2 * index) for index in range(2)]
_EXPERTS = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "pad_token_id": 0,
    "eos_token_id": 1,
}


def _updater(model: Any) -> PolicyUpdater:
    section = OptimizerSection(warmup_steps=0, learning_rate=1e-3, share_prompts="off")
    module = PolicyModule(model, temperature=1.0)
    optimizer = make_optimizer(module, section)
    return PolicyUpdater(
        Accelerator(cpu=True), module, optimizer, section, LossParameters(), constant_length=8, total_updates=4
    )


def _write(folder: Path, model: Any, updater: PolicyUpdater) -> Path:
    folder.mkdir()
    write_policy(folder, model, AutoTokenizer.from_pretrained(DATA_DIRECTORY), updater)
    return folder


@pytest.fixture
def with_router_biases() -> Any:
    """A mixture of experts whose routers have biases that are buffers."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("glm4_moe", **_EXPERTS)).float().eval()
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if "e_score_correction_bias" in name:
                buffer.copy_(torch.tensor([2.0, -2.0, 1.0, -1.0]))
    return model


@torch.no_grad()
def _logits(model: Any) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=torch.arange(3, 27)[None], use_cache=False).logits
    return logits


def test_transformers_loads_a_checkpoint_with_its_persistent_buffers(with_router_biases: Any, tmp_path: Path) -> None:
    folder = _write(tmp_path / "saved", with_router_biases, _updater(with_router_biases))
    loaded = AutoModelForCausalLM.from_pretrained(folder).float().eval()
    torch.testing.assert_close(_logits(loaded), _logits(with_router_biases), rtol=0, atol=0)


def test_persistent_buffers_are_restored_with_the_policy(with_router_biases: Any, tmp_path: Path) -> None:
    updater = _updater(with_router_biases)
    updater.update([_ROWS])
    folder = _write(tmp_path / "saved", with_router_biases, updater)
    stale = copy.deepcopy(with_router_biases)
    for name, tensor in [*stale.named_parameters(), *stale.named_buffers()]:
        if "inv_freq" not in name:
            tensor.data.mul_(0.5)
    other = _updater(stale)
    read_policy(folder, other, updater.state_dict())
    torch.testing.assert_close(_logits(stale), _logits(with_router_biases), rtol=0, atol=0)


def test_a_parameter_that_no_gradient_has_reached_is_saved_and_restored(tmp_path: Path) -> None:
    model = small_qwen3(vocab_size=96)
    model.unused = torch.nn.Parameter(torch.ones(3))
    updater = _updater(model)
    updater.update([_ROWS])
    write_policy(_made(tmp_path / "saved"), model, AutoTokenizer.from_pretrained(DATA_DIRECTORY), updater)
    moments = optimizer_tensors(updater)
    assert not moments["exp_avg|model.unused"].any()
    assert moments["exp_avg|model.model.norm.weight"].any()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_files_beside_the_model_s_configuration_are_the_model_s_alone(tmp_path: Path) -> None:
    """vLLM reads all safetensors files of a folder as weights."""
    model = small_qwen3(vocab_size=96)
    updater = _updater(model)
    updater.update([_ROWS])
    folder = _write(tmp_path / "saved", model, updater)
    assert [file.name for file in folder.glob("*.safetensors")] == ["model.safetensors"]
    assert (folder / TRAINING_FOLDER / "optimizer-00000-00001.safetensors").is_file()


def test_a_checkpoint_with_all_files_in_one_folder_is_still_taken_up(tmp_path: Path) -> None:
    model = small_qwen3(vocab_size=96)
    updater = _updater(model)
    updater.update([_ROWS])
    folder = _write(tmp_path / "saved", model, updater)
    for file in (folder / TRAINING_FOLDER).iterdir():
        file.rename(folder / file.name)
    (folder / TRAINING_FOLDER).rmdir()
    other_model = small_qwen3(vocab_size=96, seed=1)
    other = _updater(other_model)
    read_policy(folder, other, updater.state_dict())
    for one in (updater, other):
        one.update([_ROWS])
    torch.testing.assert_close(_logits(other_model), _logits(model), rtol=0, atol=0)


def test_a_process_that_writes_the_settings_leaves_the_files_that_others_are_writing(tmp_path: Path) -> None:
    theirs = [tmp_path / "model-00002-of-00002.safetensors", tmp_path / TRAINING_FOLDER / "optimizer-00001"]
    theirs[1].parent.mkdir()
    for path in theirs:
        path.write_bytes(b"half of it")
    write_settings(tmp_path, small_qwen3(), AutoTokenizer.from_pretrained(DATA_DIRECTORY))
    assert [path.read_bytes() for path in theirs] == [b"half of it"] * 2
    assert {"config.json", "tokenizer.json"} <= {path.name for path in tmp_path.iterdir()}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
