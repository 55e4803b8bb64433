"""Runs under ZeRO 3 are those under ZeRO 2: weight decay, a KL term, experts, LoRA, a value head, and going on."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from launched_runs import ROOT, environment, rows
from safetensors.torch import load_file
from zero_runs import CASES

pytest.importorskip("deepspeed", reason="needs deepspeed (the extra deepspeed)")
pytest.importorskip("peft", reason="needs peft (the extra lora)")

PROGRAM = Path(__file__).with_name("zero_runs.py")


def _run(folder: Path, file: str) -> Path:
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", f"configs/accelerate/{file}.yaml"]
    done = subprocess.run(
        [*command, "--main_process_port", "0", str(PROGRAM), str(folder)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def under_2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _run(tmp_path_factory.mktemp("zero2"), "cpu_zero2")


@pytest.fixture(scope="module")
def under_3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _run(tmp_path_factory.mktemp("zero3"), "cpu_zero3")


def _weights(run: Path) -> dict[str, torch.Tensor]:
    newest = max((run / "checkpoints").glob("step_*"))
    return {name: one for file in newest.glob("model*.safetensors") for name, one in load_file(file).items()}


def _assert_equal(one: Path, other: Path) -> None:
    found, expected = _weights(one), _weights(other)
    assert found.keys() == expected.keys()
    distance = max(float((found[name] - value).norm() / value.norm()) for name, value in expected.items())
    assert distance < 1e-5
    for row, wanted in zip(rows(one), rows(other), strict=True):
        for name in ("policy/loss", "policy/gradient_norm", "policy/reference_kl", "policy/learning_rate"):
            assert (name in row) == (name in wanted) == (row["step"] > 0)
            assert row.get(name, 0.0) == pytest.approx(wanted.get(name, 0.0), rel=1e-4, abs=1e-6), (row["step"], name)


@pytest.mark.parametrize("case", CASES)
def test_a_run_under_zero_3_equals_the_one_under_zero_2(case: str, under_2: Path, under_3: Path) -> None:
    trained = rows(under_3 / case)[1:]
    assert all(row["policy/rows_trained"] > 0 and row["policy/gradient_norm"] > 0 for row in trained)
    assert all(row["policy/reference_kl"] is not None for row in trained)
    _assert_equal(under_3 / case, under_2 / case)


def test_a_value_head_reads_the_prompts_of_a_sharded_policy_and_selects_alike(under_2: Path, under_3: Path) -> None:
    one, other = rows(under_3 / "value_head")[1:], rows(under_2 / "value_head")[1:]
    assert all(row["cost/problems_gated"] == 4 and row["cost/selection_flops"] > 0 for row in one)
    for name in ("control/value_head_error", "cost/prompt_tokens", "reward/solution"):
        assert [row[name] for row in one] == pytest.approx([row[name] for row in other], rel=1e-4), name


def test_a_run_under_zero_3_that_went_on_equals_an_uninterrupted_one(under_3: Path) -> None:
    resumed, whole = _weights(under_3 / "resumed"), _weights(under_3 / "dense")
    assert all(resumed[name].equal(one) for name, one in whole.items())
    assert rows(under_3 / "resumed") == rows(under_3 / "dense")
