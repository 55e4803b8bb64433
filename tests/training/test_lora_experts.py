"""A mixture of experts is trained with LoRA, experts included: saved merged, and resumed exactly."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import QUICKSTART
from tiny import tiny_folder
from transformers import AutoModelForCausalLM

from masa import MASATrainer, load_config

pytest.importorskip("peft", reason="needs peft (the extra lora)")


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """GLM-4.5's layout: the first layer is dense and names its layers as the experts' checkpoints do."""
    return tiny_folder("glm4_moe", tmp_path / "policy", max_position_embeddings=512)


def _train(policy: Path, folder: Path, *, resume: bool = False) -> list[dict[str, Any]]:
    options = [
        f"model.path={policy}",
        f"run.dir={folder}",
        "model.lora.rank=4",
        "run.steps=2",
        "run.threads=1",
        "algorithm.num_problems=2",
        "algorithm.num_solutions=2",
        "algorithm.num_metas=2",
        "algorithm.kl_coefficient=0.1",
        "problems.eval=null",
        "rewards.verifier_workers=1",
        "rollout.max_solution_tokens=24",
        "rollout.max_meta_tokens=16",
        "optimizer.warmup_steps=0",
        "optimizer.learning_rate=0.01",
        "tracking.figures=false",
        "checkpoint.every=1",
    ]
    # A random policy solves nothing; what it is rewarded for has to differ.
    rewards = [lambda problem, text: len(set(text)) / 10]
    MASATrainer(load_config(QUICKSTART, options), reward_functions=rewards).train(resume=resume)
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _files(checkpoint: Path) -> dict[str, bytes]:
    names = ("model.safetensors", "adapter/adapter_model.safetensors")
    return {name: (checkpoint / name).read_bytes() for name in names}


def test_experts_are_trained_saved_merged_and_resumed_exactly(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    rows = _train(policy, folder)
    assert "LoRA of rank 4 on down_proj, gate_proj, gate_up_proj" in capsys.readouterr().out
    assert rows[-1]["policy/gradient_norm"] > 0
    last = folder / "checkpoints" / "step_000002"
    whole = _files(last)
    saved: Any = AutoModelForCausalLM.from_pretrained(last)
    base = dict(AutoModelForCausalLM.from_pretrained(policy).named_parameters())
    changed = {name for name, one in saved.named_parameters() if not torch.equal(one, base[name])}
    assert {"model.layers.0.mlp.gate_proj.weight", "model.layers.1.mlp.experts.gate_up_proj"} <= changed
    assert not {name for name in changed if "norm" in name or "embed" in name or name.endswith("mlp.gate.weight")}

    shutil.rmtree(last)
    _train(policy, folder, resume=True)
    assert _files(last) == whole
