"""Every shipped launch file, with another number of processes alone, trains the embedded Qwen3 policy in bf16."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from launched_runs import ROOT, environment, rows
from safetensors.torch import load_file
from two_processes import free_port

pytest.importorskip("deepspeed", reason="needs deepspeed (the extra deepspeed)")

SMALL = (
    "algorithm.num_problems=4",
    "algorithm.num_solutions=4",
    "algorithm.num_metas=2",
    "algorithm.kl_coefficient=0.01",
    "problems.limit=16",
    "problems.eval=null",
    "rollout.max_solution_tokens=64",
    "rewards.verifier_workers=1",
    "optimizer.warmup_steps=0",
    "optimizer.learning_rate=1e-3",
    "checkpoint.every=1",
    "tracking.figures=false",
    "run.steps=2",
    "run.threads=1",
)
NODE_FILES = (
    "node_zero3",
    pytest.param("node_zero2", marks=pytest.mark.slow),
    pytest.param("node_ddp", marks=pytest.mark.slow),
)
DEEPSPEED_FILES = {"zero1": "node_zero2", "zero2_offload": "node_zero2", "zero3_offload": "node_zero3"}


def launch(file: str, *options: str) -> list[str]:
    config_file = f"configs/accelerate/{file}.yaml"
    return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config_file, *options]


def train_command(folder: Path, *options: str) -> list[str]:
    command = ["-m", "masa.train", "--config", "configs/quickstart.yaml", *SMALL]
    return [*command, "model.dtype=bfloat16", f"run.dir={folder}", *options]


def run(commands: Sequence[Sequence[str]]) -> None:
    """Run commands side by side to their end."""
    running = [
        subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for command in commands
    ]
    errors = [one.communicate(timeout=280)[1].decode(errors="replace") for one in running]
    assert [one.returncode for one in running] == [0] * len(running), "\n".join(error[-3000:] for error in errors)


def assert_it_trained(folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    trained = rows(folder)[1:]
    assert [row["step"] for row in trained] == [1, 2]
    assert all(row["policy/skipped_updates"] == 0 for row in trained)
    assert all(row["policy/rows_trained"] > 0 and 0 < row["policy/gradient_norm"] < 1000 for row in trained)
    one, two = (load_file(folder / "checkpoints" / f"step_00000{step}" / "model.safetensors") for step in (1, 2))
    assert {tensor.dtype for tensor in two.values()} == {dtype}
    assert any(not one[name].equal(tensor) for name, tensor in two.items())


@pytest.mark.parametrize("file", NODE_FILES)
def test_a_node_file_trains(file: str, tmp_path: Path) -> None:
    ddp = file == "node_ddp"
    options = ["model.dtype=float32"] if ddp else []
    run([[*launch(file, "--num_processes", "2", "--main_process_port", "0"), *train_command(tmp_path, *options)]])
    assert_it_trained(tmp_path, torch.float32 if ddp else torch.bfloat16)


@pytest.mark.slow
@pytest.mark.parametrize("settings", DEEPSPEED_FILES)
def test_a_deepspeed_file_in_place_of_the_node_file_s_own_trains(settings: str, tmp_path: Path) -> None:
    launcher = launch(DEEPSPEED_FILES[settings], "--num_processes", "2", "--main_process_port", "0")
    launcher += ["--deepspeed_config_file", f"configs/deepspeed/{settings}.json"]
    run([[*launcher, *train_command(tmp_path)]])
    assert_it_trained(tmp_path)


@pytest.mark.slow
def test_adapters_train_under_a_node_file(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="needs peft (the extra lora)")
    launcher = launch("node_zero3", "--num_processes", "2", "--main_process_port", "0")
    run([[*launcher, *train_command(tmp_path, "model.lora.rank=4")]])
    assert_it_trained(tmp_path)


@pytest.mark.slow
def test_two_launchers_train_as_two_nodes(tmp_path: Path) -> None:
    port = str(free_port())
    nodes = [
        [
            *launch("nodes_zero3", "--num_processes", "2", "--machine_rank", str(rank), "--main_process_port", port),
            *train_command(tmp_path),
        ]
        for rank in range(2)
    ]
    run(nodes)
    assert_it_trained(tmp_path)


def test_files_for_gpus_add_gradients_up_in_float32_and_overlap_communication() -> None:
    for path in sorted((ROOT / "configs" / "deepspeed").glob("zero*.json")):
        settings = json.loads(path.read_text())
        assert settings["bf16"] == {"enabled": True}, path.name
        assert settings["data_types"] == {"grad_accum_dtype": "fp32"}, path.name
        assert settings["zero_optimization"]["overlap_comm"] is True, path.name
