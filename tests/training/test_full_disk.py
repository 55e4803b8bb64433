"""A disk without room ends a run with one message, whichever of its files meets it first."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_run_whose_records_find_no_room_says_so_without_a_traceback(tmp_path: Path) -> None:
    # No file can grow beyond 60 KiB: what a write then meets is what it meets on a full disk.
    # The check at the start writes a checkpoint on trial and would refuse: here there is still room then.
    options = [f"run.dir={tmp_path / 'run'}", "rollout.check_at_start=false"]
    ended = subprocess.run(
        [sys.executable, "-m", "masa.train", "--config", "configs/quickstart.yaml", *options],
        cwd=ROOT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (61_440, 61_440)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 1
    assert f"masa: the run in {tmp_path / 'run'} cannot write: " in ended.stderr
    assert "File too large" in ended.stderr
    assert "--resume" in ended.stderr
    assert "Traceback" not in ended.stderr
