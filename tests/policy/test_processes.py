"""What a launcher may ask for, and what is refused before anything is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"


def test_a_launch_with_fsdp_is_refused_by_name(tmp_path: Path) -> None:
    environment = {**os.environ, "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    command = [sys.executable, "-m", "masa.train", "--config", str(QUICKSTART), f"run.dir={tmp_path / 'run'}"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 2, run.stderr
    assert "distributed_type: found FSDP, which is not supported yet; allowed: NO, MULTI_CPU" in run.stderr
    assert not (tmp_path / "run").exists()
