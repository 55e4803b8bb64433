"""What a checkpoint costs on disk: by the formula, and as it is written."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from small_policies import small_qwen3
from transformers import AutoTokenizer

from masa.checkpointing.saving import TRAINING_FOLDER, write_policy
from masa.checkpointing.size import checkpoint_size, most_at_once
from masa.config.algorithm import OptimizerSection
from masa.config.schema import LoraSection, ModelSection
from masa.embedded import DATA_DIRECTORY
from masa.model.loading import prepare_policy
from masa.planning.shapes import shape_of
from masa.policy.forward.policy_module import PolicyModule
from masa.policy.objective.parameters import LossParameters
from masa.policy.update.optimizer import make_optimizer
from masa.policy.update.updater import PolicyUpdater, TrainingRow

_NEEDS_PEFT = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs peft (the extra lora)")


def _written(model: Any, folder: Path) -> Path:
    """A checkpoint after one update, as a run in one process writes it."""
    section = OptimizerSection(warmup_steps=0, learning_rate=1e-3, share_prompts="off")
    module = PolicyModule(model, temperature=1.0)
    updater = PolicyUpdater(
        Accelerator(cpu=True),
        module,
        make_optimizer(module, section),
        section,
        LossParameters(),
        constant_length=8,
        total_updates=4,
    )
    updater.update([[TrainingRow((5, 6, 7), (9, 8, 2), (-4.0,) * 3, 1.0)]])
    folder.mkdir()
    write_policy(folder, model, AutoTokenizer.from_pretrained(DATA_DIRECTORY), updater)
    return folder


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("dtype", "rank", "tied"),
    [
        ("float32", 0, True),
        ("float32", 0, False),
        pytest.param("float32", 16, False, marks=_NEEDS_PEFT),
        pytest.param("bfloat16", 16, True, marks=_NEEDS_PEFT),
    ],
)
def test_a_checkpoint_has_the_size_that_the_formula_gives(tmp_path: Path, dtype: str, rank: int, tied: bool) -> None:
    sizes = {"vocab_size": 2048, "hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 8}
    model = small_qwen3(**sizes, tie_word_embeddings=tied).to(getattr(torch, dtype))
    model = prepare_policy(model, ModelSection(dtype=dtype, lora=LoraSection(rank=rank)))
    shape = shape_of(model)
    folder = _written(model, tmp_path / "saved")
    expected = checkpoint_size(shape.parameters, shape.trained, dtype, sharded=False)
    training = _bytes(folder / TRAINING_FOLDER)
    assert training == pytest.approx(expected.training, rel=0.03)
    assert _bytes(folder) == pytest.approx(expected.total, rel=0.03)
    without = checkpoint_size(shape.parameters, shape.trained, dtype, sharded=False, contents="model")
    assert _bytes(folder) - training == pytest.approx(without.total, rel=0.03)


def test_a_bfloat16_policy_under_zero_takes_14_bytes_a_parameter_and_2_without_its_training_state() -> None:
    assert checkpoint_size(10**9, 10**9, "bfloat16", sharded=True).total == 14 * 10**9
    assert checkpoint_size(10**9, 10**9, "bfloat16", sharded=True, contents="model").total == 2 * 10**9


def test_float32_parameters_are_their_own_copies() -> None:
    for sharded in (False, True):
        assert checkpoint_size(10**9, 10**9, "float32", sharded=sharded).total == 12 * 10**9


def test_more_trained_parameters_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="11 trained parameters of 10"):
        checkpoint_size(10, 11, "float32", sharded=False)


def test_the_best_and_the_one_being_written_lie_beside_the_newest() -> None:
    assert most_at_once(2, keeps_best=True) == 4
    assert most_at_once(2, keeps_best=False) == 3
    assert most_at_once(2, keeps_best=True, written=3) == 3
    assert most_at_once(5, keeps_best=True, written=1) == 1
