"""Small engines and small whole runs with vLLM."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from masa.config import load_config
from masa.rollout.factory import make_engine
from masa.tracking.keys import is_timing

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
SMALL = (
    "rollout.kv_cache_gb=0.2",
    "rollout.max_batch_size=64",
    "rollout.check_every=1",
    "algorithm.num_problems=4",
    "algorithm.num_solutions=4",
    "algorithm.num_metas=4",
    "problems.limit=64",
    "problems.eval_limit=8",
    "evaluation.every=2",
    "checkpoint.every=1",
    "rewards.verifier_workers=1",
    "tracking.figures=false",
    "run.threads=1",
)


def make_vllm_engine(policy: Any, stop: int) -> Any:
    """A small in-process engine that has the policy's weights."""
    options = ["rollout.engine=vllm", "rollout.kv_cache_gb=0.2", "rollout.max_batch_size=64"]
    return make_engine(load_config(None, options).rollout, policy, stop_ids=[stop])


def start(folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """A run of the embedded world in ``folder``; what it prints goes to ``folder``.log."""
    command = [sys.executable, "-m", "masa.train", "--config", str(QUICKSTART), *SMALL, f"run.dir={folder}", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with folder.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def train(folder: Path, *arguments: str) -> None:
    """A run from beginning to end."""
    assert start(folder, *arguments).wait() == 0, said(folder)


def said(folder: Path) -> str:
    return folder.with_suffix(".log").read_text(errors="replace")[-3000:]


def wait_for_step(process: "subprocess.Popen[bytes]", folder: Path, step: int, seconds: float = 700.0) -> None:
    """Return as soon as the metrics of ``step`` are on disk."""
    deadline = time.monotonic() + seconds
    metrics = folder / "metrics.jsonl"
    while not (metrics.exists() and f'"step":{step},' in metrics.read_text().replace(" ", "")):
        assert process.poll() is None, f"the run ended before step {step}: {said(folder)}"
        assert time.monotonic() < deadline, f"step {step} was not reached in time"
        time.sleep(0.01)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The metrics of a run, without what the clock says."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if not is_timing(key)} for line in lines]
