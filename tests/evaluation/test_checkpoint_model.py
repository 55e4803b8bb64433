"""An evaluation takes a checkpoint as it was saved, and keeps no more of it in memory than it samples from."""

import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from masa.config import load_config
from masa.config.schema import LoraSection, ModelSection
from masa.embedded import DATA_DIRECTORY, load_embedded_policy
from masa.evaluation.running.checkpoint_model import checkpoint_dtype, evaluated_model
from masa.evaluation.running.generation import Policy
from masa.evaluation.running.model_choice import ModelChoice, chosen_model
from masa.evaluation.running.settings import Budget
from masa.rollout import factory

BUDGET = Budget(samples=1, metas=0, max_tokens=8, max_meta_tokens=8, batch_size=4)


def saved(folder: Path, dtype: torch.dtype) -> Path:
    load_embedded_policy().to(dtype).save_pretrained(folder)
    AutoTokenizer.from_pretrained(DATA_DIRECTORY).save_pretrained(folder)
    return folder


def choice(**given: Any) -> ModelChoice:
    return ModelChoice(**{"model": None, "run": None, "config": None, "step": None, "overrides": [], **given})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_is_evaluated_in_the_type_of_its_checkpoint(tmp_path: Path, dtype: str) -> None:
    folder = saved(tmp_path / "model", getattr(torch, dtype))
    config, _ = chosen_model(choice(model=str(folder)))
    assert config.model.dtype == dtype
    policy = Policy(config)
    engine: Any = policy.engine(BUDGET)
    assert engine.model.dtype == getattr(torch, dtype)
    policy.close()


def test_the_type_that_is_asked_for_comes_first(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", torch.bfloat16)
    config, _ = chosen_model(choice(model=str(folder), overrides=["model.dtype=float32"]))
    assert config.model.dtype == "float32"


def test_a_runs_checkpoint_is_evaluated_in_its_type_and_without_new_adapters(tmp_path: Path) -> None:
    run = tmp_path / "run"
    checkpoint = saved(run / "checkpoints" / "step_000003", torch.bfloat16)
    (checkpoint / "state.json").write_text("{}")
    (run / "config.yaml").write_text("model: {lora: {rank: 4}}\n")
    config, folder = chosen_model(choice(run=str(run)))
    assert folder is not None
    assert folder.endswith("step-3")
    assert (config.model.path, config.model.dtype) == (str(checkpoint), "bfloat16")
    assert config.model.lora.rank == 0, "a checkpoint's weights have the adapters in them"


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({"torch_dtype": "bfloat16"}, "bfloat16"),
        ({"text_config": {"dtype": "float16"}}, "float16"),
        ({}, "bfloat16"),  # that of the tensors
    ],
)
def test_the_type_is_read_wherever_a_checkpoint_says_it(tmp_path: Path, named: dict[str, Any], expected: str) -> None:
    folder = saved(tmp_path / "model", torch.bfloat16)
    (folder / "config.json").write_text(json.dumps(named))
    section = ModelSection(path=str(folder), lora=LoraSection(rank=2))
    assert checkpoint_dtype(section) == expected
    # float32 holds every float16.
    assert evaluated_model(section, dtype_is_given=False).dtype == {"float16": "float32"}.get(expected, expected)


def test_the_model_is_dropped_once_vllm_has_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    class GivenWeights:
        def close(self) -> None:
            return

    def make_engine(section: Any, model: Any, **_: Any) -> GivenWeights:
        seen.update(device=model.device.type, model=weakref.ref(model))
        return GivenWeights()

    monkeypatch.setattr(factory, "make_engine", make_engine)
    policy = Policy(load_config(None, ["rollout.engine=vllm"]))
    policy.engine(BUDGET)
    assert seen["device"] == "cpu", "vLLM's GPU is vLLM's"
    assert seen["model"]() is None
    policy.close()
