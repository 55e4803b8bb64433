"""Whole runs on two processes: killed under ZeRO 2 and resumed, stopped by SIGTERM, and in bf16."""

import shutil
import signal
from pathlib import Path

import psutil
import pytest
import torch
from launched_runs import rows, started, train
from safetensors.torch import load_file

pytest.importorskip("deepspeed", reason="needs deepspeed (the extra deepspeed)")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run under ZeRO 2 that was killed after step 3, one step after its checkpoint."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    with started(folder, "cpu_zero2", step=3):
        pass
    return folder


def test_a_run_killed_under_zero_2_and_resumed_equals_an_uninterrupted_one(killed: Path, tmp_path: Path) -> None:
    resumed, whole = tmp_path / "resumed", tmp_path / "whole"
    shutil.copytree(killed, resumed)
    train(resumed, "cpu_zero2", "--resume")
    train(whole, "cpu_zero2")
    assert [row["step"] for row in rows(whole)] == [0, 1, 2, 3, 4]
    assert rows(resumed) == rows(whole)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [None, "cpu_zero3"])
def test_a_run_goes_on_with_another_number_of_processes_or_another_sharding(
    killed: Path, tmp_path: Path, shape: str | None
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(killed, folder)
    before = rows(killed)
    train(folder, shape, "--resume")
    after = rows(folder)
    assert [row["step"] for row in after] == [0, 1, 2, 3, 4]
    assert after[:3] == before[:3]
    # The step after the checkpoint sees the same problems and the same weights, up to rounding.
    assert after[3]["cost/prompt_tokens"] == before[3]["cost/prompt_tokens"]
    assert after[3]["policy/engine_mismatch_max"] < 1e-4


def _newest_checkpoint(folder: Path) -> int:
    return max(int(path.name.removeprefix("step_")) for path in (folder / "checkpoints").glob("step_*"))


@pytest.mark.parametrize("to", ["one process", pytest.param("the launcher", marks=pytest.mark.slow)])
def test_sigterm_saves_ends_every_process_and_loses_no_step(tmp_path: Path, to: str) -> None:
    folder = tmp_path / "run"
    with started(folder, "cpu_ddp", 1, "run.steps=50", "checkpoint.every=0") as launcher:
        family = psutil.Process(launcher.pid).children(recursive=True)
        ranks = [one for one in family if one.ppid() == launcher.pid and "masa.train" in one.cmdline()]
        assert len(ranks) == 2
        (ranks[1] if to == "one process" else launcher).send_signal(signal.SIGTERM)
        code = launcher.wait(timeout=240)
        assert not [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    # The launcher calls a signal of its own a failure; its processes have saved by then.
    assert (code == 0) == (to == "one process")
    done = rows(folder)[-1]["step"]
    assert 1 <= done < 50
    assert _newest_checkpoint(folder) == done


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["cpu_ddp", "cpu_zero2"])
def test_a_run_in_bf16_trains(tmp_path: Path, shape: str) -> None:
    folder = tmp_path / "run"
    options = ("run.steps=2", "checkpoint.every=1", "optimizer.warmup_steps=0")
    train(folder, shape, *options, launch=("--mixed_precision", "bf16"))
    trained = rows(folder)[1:]
    assert [row["policy/skipped_updates"] for row in trained] == [0, 0]
    assert all(row["policy/rows_trained"] > 0 and 0 < row["policy/gradient_norm"] < 100 for row in trained)
    one, two = (load_file(folder / "checkpoints" / f"step_00000{step}" / "model.safetensors") for step in (1, 2))
    assert {tensor.dtype for tensor in two.values()} == {torch.float32 if shape == "cpu_ddp" else torch.bfloat16}
    assert any(not one[name].equal(tensor) for name, tensor in two.items())
    # Training's bf16 is not the sampler's arithmetic everywhere, but it is the same policy.
    assert trained[1]["policy/engine_mismatch"] < 0.1
