"""What a launcher may ask for, and what is refused before anything is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from masa.model.sharded import name_device_for_deepspeed

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"


def test_a_launch_with_fsdp_is_refused_by_name(tmp_path: Path) -> None:
    environment = {**os.environ, "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    command = [sys.executable, "-m", "masa.train", "--config", str(QUICKSTART), f"run.dir={tmp_path / 'run'}"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 2, run.stderr
    assert "distributed_type: found FSDP, which is not supported yet; allowed: NO, MULTI_CPU" in run.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("gpu", "set_before", "expected"), [(False, None, "cpu"), (True, None, None), (False, "x", "x")]
)
def test_deepspeed_is_told_beforehand_that_there_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, set_before: str | None, expected: str | None
) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", set_before or "")
    if set_before is None:
        monkeypatch.delenv("DS_ACCELERATOR")
    monkeypatch.setattr("torch.accelerator.is_available", lambda: gpu)
    name_device_for_deepspeed()
    assert os.environ.get("DS_ACCELERATOR") == expected
